# What the C++ library is built with: FUSEDCELL_CELLS and FUSEDCELL_WEIGHT_TYPES, where not empty, name the kinds of cell
# and the types of weights that stay, and FUSEDCELL_ROW_TILES=OFF takes rows of a batch one by one. None of them changes a
# bit. csrc/kernels/parts.h and generic/tile.h are the code's side of it.
function(fusedcell_keep_parts variable)
  if(NOT ${variable})
    return()
  endif()
  if(FUSEDCELL_PYTHON)
    message(FATAL_ERROR "${variable}: the Python package has everything; this is for the C++ library")
  endif()
  foreach(part IN LISTS ${variable})
    if(NOT part IN_LIST ARGN)
      message(FATAL_ERROR "${variable}: there is no '${part}'; there are ${ARGN}")
    endif()
  endforeach()
  foreach(part IN LISTS ARGN)
    if(NOT part IN_LIST ${variable})
      string(TOUPPER ${part} name)
      target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_${name})
    endif()
  endforeach()
endfunction()

# `options` are cells with what ONNX has beyond PyTorch: peepholes, clip, activations.
fusedcell_keep_parts(FUSEDCELL_CELLS rnn lstm gru gru_reset_before options)
fusedcell_keep_parts(FUSEDCELL_WEIGHT_TYPES float32 bfloat16 float16 int8)

if(NOT FUSEDCELL_ROW_TILES)
  target_compile_definitions(fusedcell_options INTERFACE FUSEDCELL_WITHOUT_ROW_TILES)
endif()
