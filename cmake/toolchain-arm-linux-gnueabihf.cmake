# Cross-compile for 32-bit ARM (ARMv7, hard float) GNU/Linux with Debian's g++-arm-linux-gnueabihf, and run what was built
# under QEMU. After tools/armv7l/setup.sh this also points CMake at the 32-bit Python and NumPy in .armv7l; without it,
# everything that needs no Python still configures.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7l)

set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)

# Headers and libraries come from the target only; programs run here, so they come from this machine only.
# Packages may be either: pybind11 is headers, and lies where the build tools are.
set(CMAKE_FIND_ROOT_PATH /usr/arm-linux-gnueabihf)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)

get_filename_component(_fc_dir "${CMAKE_CURRENT_LIST_DIR}/../.armv7l" ABSOLUTE)
set(_fc_sysroot /usr/arm-linux-gnueabihf)

file(GLOB _fc_python "${_fc_dir}/root/usr/bin/python3.[0-9]" "${_fc_dir}/root/usr/bin/python3.[0-9][0-9]")
if(_fc_python)
  list(GET _fc_python 0 _fc_python)
  get_filename_component(_fc_name "${_fc_python}" NAME)
  set(_fc_sysroot "${_fc_dir}/root")
  # As toolchain-aarch64-linux-gnu.cmake says: where policy CMP0190 is NEW, FindPython goes through the emulator.
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
  set(Python_INCLUDE_DIR "${_fc_dir}/root/usr/include/${_fc_name}")
  file(GLOB Python_NumPy_INCLUDE_DIR "${_fc_dir}/root/usr/lib/python3/dist-packages/numpy/*core/include")
endif()

find_program(FUSEDCELL_QEMU_ARM NAMES qemu-arm qemu-arm-static)
if(FUSEDCELL_QEMU_ARM)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${FUSEDCELL_QEMU_ARM};-L;${_fc_sysroot}")
endif()

# FindPython, up to CMake 4.4 at least, forgets the emulator when it asks for NumPy's version, but reads this variable.
if(_fc_policy STREQUAL "NEW")
  set(Python_INTERPRETER_LAUNCHER ${CMAKE_CROSSCOMPILING_EMULATOR})
endif()
# pybind11 does not know about emulators: this makes it take the extension's suffix from CMake's answers.
set(PYBIND11_USE_CROSSCOMPILING ON)

unset(_fc_dir)
unset(_fc_sysroot)
unset(_fc_python)
unset(_fc_name)
unset(_fc_policy)
