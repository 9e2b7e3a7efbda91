# Compile for another system on this Linux, with the Clang, the libraries and the systems' headers of the package ziglang:
#
#   FUSEDCELL_ZIG_TARGET       as Zig names it, with the oldest glibc or macOS to run on: aarch64-linux-gnu.2.17
#   FUSEDCELL_TARGET_PYTHON    an interpreter that runs here, if need be through an emulator; for the extension only
#   FUSEDCELL_TARGET_INCLUDE   its headers
#   FUSEDCELL_NUMPY_INCLUDE    NumPy's, which are the same on all 64-bit machines
#
# tools/wheels/build.py sets them for wheels; the presets of tools/check_ports.sh, which are for other systems, set the
# first. The C++ library is linked in, so that the result needs none.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FUSEDCELL_ZIG_TARGET)

string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${FUSEDCELL_ZIG_TARGET}")
string(REGEX REPLACE "^arm$" "armv7l" CMAKE_SYSTEM_PROCESSOR "${CMAKE_SYSTEM_PROCESSOR}")    # the least that Zig means by it
if(FUSEDCELL_ZIG_TARGET MATCHES "-macos")
  set(CMAKE_SYSTEM_NAME Darwin)
  set(CMAKE_INSTALL_NAME_TOOL ":")    # there is none, and nothing is installed
  # Zig's C++ library is newer than that of Macs. So its headers refuse what the oldest macOS to run on lacks.
  string(CONCAT CMAKE_CXX_FLAGS_INIT "-U_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS "
                                     "-D_LIBCPP_HAS_VENDOR_AVAILABILITY_ANNOTATIONS=1")
elseif(FUSEDCELL_ZIG_TARGET MATCHES "-windows")
  set(CMAKE_SYSTEM_NAME Windows)
  find_program(FUSEDCELL_WINE NAMES wine64 wine PATHS /usr/lib/wine)
  if(FUSEDCELL_WINE)
    set(CMAKE_CROSSCOMPILING_EMULATOR "${FUSEDCELL_WINE}")
  endif()
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()

# CMake's questions need no linking, for which Zig would first build a C++ library of their options.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/../tools/wheels/zig-c++")
set(CMAKE_CXX_COMPILER_TARGET "${FUSEDCELL_ZIG_TARGET}")
set(CMAKE_AR "${CMAKE_CURRENT_LIST_DIR}/../tools/wheels/zig-ar" CACHE FILEPATH "")
set(CMAKE_RANLIB ":" CACHE FILEPATH "")    # Zig's ar has written the index
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-s")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-s")

# Nothing of this machine but programs, and pybind11, which is headers.
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

# Plain variables, because they win over what a Python build front end puts into the cache: the host's Python.
if(FUSEDCELL_TARGET_PYTHON)
  set(Python_EXECUTABLE "${FUSEDCELL_TARGET_PYTHON}")
  set(Python_INCLUDE_DIR "${FUSEDCELL_TARGET_INCLUDE}")
  set(Python_NumPy_INCLUDE_DIR "${FUSEDCELL_NUMPY_INCLUDE}")
  # pybind11 starts no interpreter to ask for the extension's suffix, which the build front end says.
  set(PYBIND11_USE_CROSSCOMPILING ON)
endif()
