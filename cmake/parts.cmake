# What the C++ library is built with: FUSEDCELL_CELLS, FUSEDCELL_WEIGHT_TYPES, FUSEDCELL_NODES and FUSEDCELL_ACTIVATIONS,
# where not empty, name the kinds of cell, the types of weights, the types of nodes and the activations of nodes that stay;
# FUSEDCELL_ROW_TILES=OFF takes rows of a batch one by one, a matrix's last panels a few at a time, and a step in two
# passes; FUSEDCELL_SPARSE=OFF multiplies by the zeros of pruned weights. None of them changes a bit of an answer to finite
# inputs. csrc/kernels/parts.h, kept.h and generic/tile.h are the code's side of it.
function(fusedcell_check_parts variable)
  if(FUSEDCELL_PYTHON)
    message(FATAL_ERROR "${variable}: the Python package has everything; this is for the C++ library")
  endif()
  foreach(part IN LISTS ${variable})
    if(NOT part IN_LIST ARGN)
      message(FATAL_ERROR "${variable}: there is no '${part}'; there are ${ARGN}")
    endif()
  endforeach()
endfunction()

function(fusedcell_keep_parts variable)
  if(NOT ${variable})
    return()
  endif()
  fusedcell_check_parts(${variable} ${ARGN})
  foreach(part IN LISTS ARGN)
    if(NOT part IN_LIST ${variable})
      string(TOUPPER ${part} name)
      target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_${name})
    endif()
  endforeach()
endfunction()

# The same by one definition, ",name,name,".
function(fusedcell_keep_listed variable)
  if(NOT ${variable})
    return()
  endif()
  fusedcell_check_parts(${variable} ${ARGN})
  string(REPLACE ";" "," list "${${variable}}")
  target_compile_definitions(fusedcell_options INTERFACE ${variable}=",${list},")
endfunction()

# `options` are cells with what ONNX has beyond PyTorch: peepholes, clip, activations.
fusedcell_keep_parts(FUSEDCELL_CELLS rnn lstm gru gru_reset_before options)
fusedcell_keep_parts(FUSEDCELL_WEIGHT_TYPES float32 bfloat16 float16 int8 int8_int16)

fusedcell_keep_listed(FUSEDCELL_NODES
  window depthwise max_pool mean_pool embedding activation add multiply glu scale prelu softmax log_softmax layer_norm
  rms_norm l2_norm take rows last mean max sum layer)
fusedcell_keep_listed(FUSEDCELL_ACTIVATIONS
  Relu Tanh Sigmoid Affine LeakyRelu ThresholdedRelu ScaledTanh HardSigmoid Elu Softsign Softplus Gelu GeluTanh Silu Clip
  Abs Square Sqrt Exp Log)

# The library's own calls never reach what this leaves out; the tests do.
if(NOT FUSEDCELL_PYTHON AND NOT FUSEDCELL_TESTS)
  target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_PYTHON)
endif()
if(NOT FUSEDCELL_SPARSE)
  target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_SPARSE)
endif()
if(NOT FUSEDCELL_ROW_TILES)
  target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_ROW_TILES)
endif()
