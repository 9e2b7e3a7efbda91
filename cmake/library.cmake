# The C++ library: one archive with everything in it, public headers, and what find_package(fusedcell) needs.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(objects $<TARGET_OBJECTS:fusedcell_load> $<TARGET_OBJECTS:fusedcell_model>)
foreach(target IN LISTS FUSEDCELL_TIER_TARGETS)
  list(APPEND objects $<TARGET_OBJECTS:${target}>)
endforeach()

add_library(fusedcell STATIC csrc/api/common.cc csrc/api/layer.cc csrc/api/model.cc ${objects})
add_library(fusedcell::fusedcell ALIAS fusedcell)
target_include_directories(fusedcell
  PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
  PRIVATE csrc)
target_compile_features(fusedcell PUBLIC cxx_std_17)
target_compile_definitions(fusedcell PRIVATE FUSEDCELL_VERSION="${PROJECT_VERSION}")
target_link_libraries(fusedcell PUBLIC Threads::Threads PRIVATE $<BUILD_INTERFACE:fusedcell_options>)

# Python's wheels have the extension alone.
if(NOT FUSEDCELL_PYTHON)
  set(package ${CMAKE_INSTALL_LIBDIR}/cmake/fusedcell)
  install(TARGETS fusedcell EXPORT fusedcell ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY include/fusedcell DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT fusedcell NAMESPACE fusedcell:: FILE fusedcell-targets.cmake DESTINATION ${package})
  configure_package_config_file(cmake/fusedcell-config.cmake.in fusedcell-config.cmake INSTALL_DESTINATION ${package})
  # Before 1.0 a minor version may change anything.
  write_basic_package_version_file(fusedcell-config-version.cmake COMPATIBILITY SameMinorVersion)
  install(FILES
    ${CMAKE_CURRENT_BINARY_DIR}/fusedcell-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/fusedcell-config-version.cmake
    DESTINATION ${package})
endif()
