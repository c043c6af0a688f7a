# libheadway: the folders below launch/ as one library, with what another project needs to use it (headers, a
# CMake package and a pkg-config file), and `cmake --install`. Static, or shared with -DBUILD_SHARED_LIBS=ON.
include(CMakePackageConfigHelpers)

set(HW_PARTS hw_base hw_kernels hw_parallel hw_runtime)

# Follows `target` to the objects and the foreign libraries it consists of, and puts them on HW_OBJECTS and
# HW_FOREIGN. A part may hold object libraries (one per instruction set), linked or named as
# $<TARGET_OBJECTS:...>.
function(hw_collect target)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL INTERFACE_LIBRARY)
    list(APPEND HW_OBJECTS $<TARGET_OBJECTS:${target}>)
    get_target_property(sources ${target} SOURCES)
    list(FILTER sources INCLUDE REGEX "^\\$<TARGET_OBJECTS:")
    list(APPEND HW_OBJECTS ${sources})
  endif()
  get_target_property(links ${target} LINK_LIBRARIES)
  foreach(link IN LISTS links)
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" link "${link}")
    if(link IN_LIST HW_PARTS OR link STREQUAL hw_flags OR link STREQUAL target)
      continue()
    elseif(link MATCHES "^hw_" AND TARGET ${link})
      hw_collect(${link})
    elseif(link)
      list(APPEND HW_FOREIGN ${link})
    endif()
  endforeach()
  set(HW_OBJECTS ${HW_OBJECTS} PARENT_SCOPE)
  set(HW_FOREIGN ${HW_FOREIGN} PARENT_SCOPE)
endfunction()

# The public headers are those that the umbrella header reaches. Paths from the root, on HW_PUBLIC_HEADERS.
function(hw_collect_headers header)
  if(header IN_LIST HW_PUBLIC_HEADERS)
    return()
  endif()
  list(APPEND HW_PUBLIC_HEADERS ${header})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
  file(STRINGS ${CMAKE_SOURCE_DIR}/${header} includes REGEX "^#include \"")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" include "${include}")
    hw_collect_headers(${include})
  endforeach()
  set(HW_PUBLIC_HEADERS ${HW_PUBLIC_HEADERS} PARENT_SCOPE)
endfunction()

foreach(part IN LISTS HW_PARTS)
  hw_collect(${part})
endforeach()
list(REMOVE_DUPLICATES HW_OBJECTS)
list(REMOVE_DUPLICATES HW_FOREIGN)

# ---- what a user of the library has to find again: in CMake's words, and in pkg-config's
set(HW_FIND_DEPENDENCIES "")
set(HW_PC_REQUIRES "")
set(HW_PC_LIBS "")
foreach(name IN LISTS HW_FOREIGN)
  if(name MATCHES "^PkgConfig::(.*)$")
    set(prefix ${CMAKE_MATCH_1})
    string(APPEND HW_FIND_DEPENDENCIES "hw_find_module(${prefix} ${${prefix}_MODULE_NAME})\n")
    list(APPEND HW_PC_REQUIRES ${${prefix}_MODULE_NAME})
  elseif(name STREQUAL "MPI::MPI_C")
    string(APPEND HW_FIND_DEPENDENCIES "find_dependency(MPI COMPONENTS C)\n")
    list(APPEND HW_PC_LIBS ${MPI_C_LIBRARIES})
  elseif(name STREQUAL "OpenMP::OpenMP_C")
    string(APPEND HW_FIND_DEPENDENCIES "find_dependency(OpenMP COMPONENTS C)\n")
    list(APPEND HW_PC_LIBS ${OpenMP_C_FLAGS})
  elseif(name STREQUAL "Threads::Threads")
    string(APPEND HW_FIND_DEPENDENCIES "find_dependency(Threads)\n")
    list(APPEND HW_PC_LIBS -pthread)
  elseif(name MATCHES "^[a-z]+$")
    list(APPEND HW_PC_LIBS -l${name})
  else()
    message(FATAL_ERROR "launch/cmake/package.cmake does not know how a user of libheadway finds ${name}: add it there")
  endif()
endforeach()
string(REPLACE ";" " " HW_PC_LIBS "${HW_PC_LIBS}")
string(REPLACE ";" ", " HW_PC_REQUIRES "${HW_PC_REQUIRES}")
# A static library leaves it to its users to link these (and `pkg-config --libs` must say so, without --static
# too, as there is only this one kind). A shared library brings its own; then users need not even have the
# headers of what it uses.
if(BUILD_SHARED_LIBS)
  set(HW_FIND_DEPENDENCIES "")
  set(HW_PC_REQUIRES "")
  set(HW_PC_LIBS "")
endif()

# ---- the library
add_library(libheadway ${HW_OBJECTS})
set_target_properties(libheadway PROPERTIES
  OUTPUT_NAME headway EXPORT_NAME headway LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_link_libraries(libheadway PRIVATE $<BUILD_INTERFACE:hw_flags> ${HW_FOREIGN})
target_include_directories(libheadway INTERFACE
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/headway>)

# ---- installing
hw_collect_headers(runtime/headway.h)
foreach(header IN LISTS HW_PUBLIC_HEADERS)
  cmake_path(GET header PARENT_PATH folder)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/headway/${folder})
endforeach()
install(FILES runtime/headway.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/headway)

set(HW_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/headway)
install(TARGETS libheadway EXPORT headwayTargets)
install(EXPORT headwayTargets NAMESPACE headway:: DESTINATION ${HW_CMAKE_DIR})
configure_package_config_file(launch/cmake/headwayConfig.cmake.in generated/headwayConfig.cmake
  INSTALL_DESTINATION ${HW_CMAKE_DIR} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(generated/headwayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/headwayConfig.cmake ${CMAKE_BINARY_DIR}/generated/headwayConfigVersion.cmake
  DESTINATION ${HW_CMAKE_DIR})

# The prefix is found from the file's own place, so that an installed tree can be moved.
file(RELATIVE_PATH HW_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(launch/cmake/headway.pc.in generated/headway.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/generated/headway.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TARGET headway)
  install(TARGETS headway)
endif()
