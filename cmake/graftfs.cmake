# Options, compiler settings and the function that declares a module.

option(GRAFTFS_TESTS "Build the tests" ON)
option(GRAFTFS_BENCH "Build the benchmarks" ON)
option(GRAFTFS_FUZZ "Build the libFuzzer targets (clang only)" OFF)
set(GRAFTFS_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=LIST")

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -Werror -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 warns wrongly about moved-from buffers and about coroutine frames.
  add_compile_options(-Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds
                      -Wno-restrict -Wno-stringop-overread -Wno-free-nonheap-object)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # std::expected of libstdc++ 12 asks for this before clang says it.
  add_compile_options(-Wno-builtin-macro-redefined -Wno-deprecated-declarations)
endif()
if(GRAFTFS_SANITIZE)
  add_compile_options(-fsanitize=${GRAFTFS_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${GRAFTFS_SANITIZE})
endif()

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(fmt REQUIRED)
if(GRAFTFS_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
find_package(PkgConfig REQUIRED)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3)
pkg_check_modules(LMDB REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)

# The modules in the order in which data flows down them (docs/architecture.md).
set(GRAFTFS_ORDER base types store journal cache events recovery server client fuse cli sim)

# graftfs_module(NAME [DEPS module...] [LIBS target...] SOURCES file...)
#
# A static library graftfs_NAME from src/NAME. DEPS must stand above NAME in
# GRAFTFS_ORDER. Headers are included as "NAME/file.h"; a module sees only the
# headers of its DEPS, because each module's include directory holds nothing
# but a link to that module.
function(graftfs_module name)
  cmake_parse_arguments(M "" "" "DEPS;LIBS;SOURCES" ${ARGN})
  list(FIND GRAFTFS_ORDER ${name} at)
  if(at EQUAL -1)
    message(FATAL_ERROR "module '${name}' is not in GRAFTFS_ORDER (cmake/graftfs.cmake)")
  endif()
  foreach(dep ${M_DEPS})
    list(FIND GRAFTFS_ORDER ${dep} dep_at)
    if(dep_at EQUAL -1 OR NOT dep_at LESS at)
      message(FATAL_ERROR "module '${name}' may not use '${dep}': only modules above it")
    endif()
    if(dep STREQUAL "sim")
      message(FATAL_ERROR "nothing may depend on the simulator")
    endif()
  endforeach()
  add_library(graftfs_${name} STATIC ${M_SOURCES})
  set(include_dir ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${include_dir})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${include_dir}/${name} SYMBOLIC)
  target_include_directories(graftfs_${name} PUBLIC ${include_dir})
  list(TRANSFORM M_DEPS PREPEND graftfs_)
  target_link_libraries(graftfs_${name} PUBLIC ${M_DEPS} ${M_LIBS})
endfunction()

# graftfs_test(NAME [DEPS module...] [LIBS target...] SOURCES file...)
#
# A GoogleTest program; every TEST is one ctest. Tests that take long are
# grouped by the caller with set_tests_properties.
function(graftfs_test name)
  if(NOT GRAFTFS_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "WHOLE" "TIMEOUT" "DEPS;LIBS;SOURCES" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  list(TRANSFORM T_DEPS PREPEND graftfs_)
  target_link_libraries(${name} PRIVATE ${T_DEPS} ${T_LIBS} GTest::gtest_main GTest::gmock)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  # WHOLE: one ctest for the whole program (its tests are too quick, or share a
  # costly fixture).
  if(T_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT})
  else()
    gtest_discover_tests(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} DISCOVERY_TIMEOUT 60)
  endif()
endfunction()
