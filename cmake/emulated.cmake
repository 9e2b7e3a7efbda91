# What the toolchains for emulated CPUs share, after they have set
#
#   _fc_name      of the CPU: its files are in .NAME, if tools/NAME/setup.sh has made them
#   _fc_triple    of Debian's cross compiler
#   _fc_qemu      the emulator
#   _fc_numpy     glob of NumPy's headers, relative to .NAME
#
# With .NAME they point CMake at that CPU's Python and NumPy; without, everything that needs no Python still configures.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${_fc_name})

set(CMAKE_C_COMPILER ${_fc_triple}-gcc)
set(CMAKE_CXX_COMPILER ${_fc_triple}-g++)

# Headers and libraries come from the target only; programs run here, so they come from this machine only.
# Packages may be either: pybind11 is headers, and lies where the build tools are.
set(CMAKE_FIND_ROOT_PATH /usr/${_fc_triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)

get_filename_component(_fc_dir "${CMAKE_CURRENT_LIST_DIR}/../.${_fc_name}" ABSOLUTE)
set(_fc_sysroot /usr/${_fc_triple})

file(GLOB _fc_python "${_fc_dir}/root/usr/bin/python3.[0-9]" "${_fc_dir}/root/usr/bin/python3.[0-9][0-9]")
if(_fc_python)
  list(GET _fc_python 0 _fc_python)
  get_filename_component(_fc_version "${_fc_python}" NAME)
  set(_fc_sysroot "${_fc_dir}/root")
  # FindPython starts the interpreter through the emulator where policy CMP0190 is NEW, and else as it is: then it gets
  # the script beside it, which does the same.
  set(_fc_policy "")
  if(POLICY CMP0190)
    cmake_policy(GET CMP0190 _fc_policy)
  endif()
  # Plain variables, because they win over what a Python build front end puts into the cache: the host's Python.
  if(_fc_policy STREQUAL "NEW")
    set(Python_EXECUTABLE "${_fc_python}")
  else()
    set(Python_EXECUTABLE "${_fc_dir}/root/usr/bin/python")
  endif()
  set(Python_ROOT_DIR "${_fc_dir}/root/usr")
  set(Python_INCLUDE_DIR "${_fc_dir}/root/usr/include/${_fc_version}")
  file(GLOB Python_NumPy_INCLUDE_DIR "${_fc_dir}/${_fc_numpy}")
endif()

find_program(FUSEDCELL_QEMU NAMES ${_fc_qemu} ${_fc_qemu}-static)
if(FUSEDCELL_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${FUSEDCELL_QEMU};-L;${_fc_sysroot}")
endif()

# FindPython, up to CMake 4.4 at least, forgets the emulator when it asks for NumPy's version, but reads this variable.
if(_fc_policy STREQUAL "NEW")
  set(Python_INTERPRETER_LAUNCHER ${CMAKE_CROSSCOMPILING_EMULATOR})
endif()
# pybind11 does not know about emulators: this keeps it from asking for the extension's suffix, which the build front end
# says.
set(PYBIND11_USE_CROSSCOMPILING ON)

foreach(_fc_variable name triple qemu numpy dir sysroot python version policy)
  unset(_fc_${_fc_variable})
endforeach()
unset(_fc_variable)
