# Flags of all the project's code.
add_library(fusedcell_options INTERFACE)

if(MSVC)
  # /fp:precise neither reorders nor contracts; a fused multiply-add happens only where the code says so.
  target_compile_options(fusedcell_options INTERFACE /fp:precise /utf-8)
  if(FUSEDCELL_DEV)
    target_compile_options(fusedcell_options INTERFACE /W4 /WX)
  endif()
else()
  # Functions and tables in sections of their own, so that a program with the C++ library can leave out what it never calls.
  target_compile_options(fusedcell_options INTERFACE -ffp-contract=off -ffunction-sections -fdata-sections)
  if(FUSEDCELL_DEV)
    target_compile_options(fusedcell_options INTERFACE -Wall -Wextra -Wconversion -Wshadow -Werror)
    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
      # Clang counts sizes that are multiplied as signed and used as unsigned among conversions; GCC, in C++, does not.
      target_compile_options(fusedcell_options INTERFACE -Wno-sign-conversion)
    endif()
  endif()
endif()

if(FUSEDCELL_SANITIZE)
  target_compile_options(fusedcell_options INTERFACE -fsanitize=${FUSEDCELL_SANITIZE} -fno-omit-frame-pointer
                                                    -fno-sanitize-recover=all)
  target_link_options(fusedcell_options INTERFACE -fsanitize=${FUSEDCELL_SANITIZE})
endif()

if(FUSEDCELL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FUSEDCELL_FUZZ needs Clang, which has libFuzzer; CXX is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  target_compile_options(fusedcell_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
