# Options, compiler settings and the functions that declare modules, tests and
# fuzzers.

option(GRAFTFS_TESTS "Build the tests" ON)
option(GRAFTFS_BENCH "Build the benchmarks" ON)
option(GRAFTFS_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(GRAFTFS_FUZZ_TESTS "Add short runs of the fuzzers in build/fuzz to ctest" OFF)
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
  # Paths are hashed relative to the tree, so that all work trees share a cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      ${CCACHE})
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
  # Clang is there for the fuzzers; what it warns of beyond GCC is clang-tidy's.
  add_compile_options(-Wno-error)
endif()
if(GRAFTFS_SANITIZE)
  add_compile_options(-fsanitize=${GRAFTFS_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${GRAFTFS_SANITIZE})
  if(GRAFTFS_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio's fences stand beside a mutex that TSan does understand.
    add_compile_options(-Wno-tsan)
  endif()
endif()
if(GRAFTFS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "GRAFTFS_FUZZ needs clang: use 'cmake --preset fuzz'")
  endif()
  # Coverage counters everywhere; libFuzzer's main only in the fuzzers.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(fmt REQUIRED)
find_package(OpenSSL REQUIRED)
if(GRAFTFS_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
find_package(PkgConfig REQUIRED)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3)
pkg_check_modules(LMDB REQUIRED IMPORTED_TARGET lmdb)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
# The allocator of the programs (docs/decisions/011). A sanitizer brings its own.
if(NOT GRAFTFS_SANITIZE)
  pkg_check_modules(TCMALLOC REQUIRED IMPORTED_TARGET libtcmalloc_minimal)
endif()

# graftfs_program(NAME): links the program with the allocator.
function(graftfs_program name)
  if(TARGET PkgConfig::TCMALLOC)
    # Nothing refers to it by name.
    target_link_options(${name} PRIVATE LINKER:--no-as-needed)
    target_link_libraries(${name} PRIVATE PkgConfig::TCMALLOC)
    target_compile_definitions(${name} PRIVATE GRAFTFS_TCMALLOC)
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src/base/program/huge_pages.cc)
  endif()
endfunction()

# The modules in the order in which data flows down them (docs/architecture.md).
set(GRAFTFS_ORDER base types store net journal cache events recovery migration cluster server client
    node fuse tools cli sim)

# Stops where one of the modules DEPS... has not been declared: its folder is missing from
# src/CMakeLists.txt, or stands below what needs it.
function(graftfs_need_modules who)
  foreach(dep ${ARGN})
    if(NOT TARGET graftfs_${dep})
      message(FATAL_ERROR "${who} needs the module '${dep}', which is not there: see "
                          "src/CMakeLists.txt")
    endif()
  endforeach()
endfunction()

# graftfs_module(NAME [DEPS module...] [LIBS target...] SOURCES file...)
#
# A static library graftfs_NAME from src/NAME. DEPS must stand above NAME in
# GRAFTFS_ORDER. Headers are included as "NAME/file.h"; a module sees only the
# headers of its DEPS (and of theirs), because each module's include directory
# holds nothing but a link to that module. A link test takes the whole module
# and its DEPS and nothing else: what a module uses without having declared it
# is an undefined symbol there, also when no test happens to pull it in.
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
  graftfs_need_modules("module '${name}'" ${M_DEPS})
  add_library(graftfs_${name} STATIC ${M_SOURCES})
  set(include_dir ${CMAKE_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${include_dir})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${include_dir}/${name} SYMBOLIC)
  target_include_directories(graftfs_${name} PUBLIC ${include_dir})
  # For tools/check-modules: the module and what it may include.
  list(JOIN M_DEPS " " declared)
  set_property(GLOBAL APPEND_STRING PROPERTY GRAFTFS_MODULES "${name} ${declared}\n")
  list(TRANSFORM M_DEPS PREPEND graftfs_)
  target_link_libraries(graftfs_${name} PUBLIC ${M_DEPS} ${M_LIBS})

  if(GRAFTFS_TESTS)
    set(main ${CMAKE_BINARY_DIR}/link/${name}.cc)
    file(CONFIGURE OUTPUT ${main} CONTENT "int main() {}\n")
    add_executable(graftfs_link_${name} ${main})
    target_link_libraries(graftfs_link_${name}
                          PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,graftfs_${name}>)
    add_test(NAME link.${name} COMMAND graftfs_link_${name})
    set_tests_properties(link.${name} PROPERTIES TIMEOUT 60)
  endif()
endfunction()

# graftfs_test(NAME [WHOLE] [MOUNT] [SERIAL] [REAL] [TIMEOUT seconds] [DEPS module...]
#              [LIBS target...] SOURCES file...)
#
# A GoogleTest program; every TEST is one ctest, NAME.Suite.Test.
# WHOLE:  one ctest for the whole program (its tests are too quick, or share a
#         costly fixture).
# MOUNT:  the tests mount something; at most one such test runs at a time
#         (label "mount").
# SERIAL: the tests measure time; nothing else runs beside them (label "timing").
# REAL:   the tests depend on real processes, threads or clocks (label "real", which those of
#         MOUNT and SERIAL have, too): tools/test gives them a second try, alone.
# GRAFTFS_BUILD is set to the build tree when they run, for those that run the
# command line itself.
function(graftfs_test name)
  if(NOT GRAFTFS_TESTS)
    return()
  endif()
  cmake_parse_arguments(T "WHOLE;MOUNT;SERIAL;REAL" "TIMEOUT" "DEPS;LIBS;SOURCES" ${ARGN})
  graftfs_need_modules("test '${name}'" ${T_DEPS})
  add_executable(${name} ${T_SOURCES})
  list(TRANSFORM T_DEPS PREPEND graftfs_)
  target_link_libraries(${name} PRIVATE ${T_DEPS} ${T_LIBS} GTest::gtest_main GTest::gmock)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  set(properties TIMEOUT ${T_TIMEOUT} ENVIRONMENT GRAFTFS_BUILD=${CMAKE_BINARY_DIR})
  if(T_MOUNT)
    list(APPEND properties RESOURCE_LOCK mount)
  endif()
  if(T_SERIAL)
    list(APPEND properties RUN_SERIAL TRUE)
  endif()
  set(labels)
  if(T_SERIAL)
    list(APPEND labels timing)
  endif()
  if(T_MOUNT)
    list(APPEND labels mount)
  endif()
  if(T_SERIAL OR T_MOUNT OR T_REAL)
    list(APPEND labels real)
  endif()
  if(labels)
    # A list of labels survives neither the list of properties nor gtest_discover_tests.
    list(JOIN labels "\\;" labels)
    list(APPEND properties LABELS "${labels}")
  endif()
  if(T_WHOLE)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES ${properties})
  else()
    gtest_discover_tests(${name} TEST_PREFIX ${name}. PROPERTIES ${properties} DISCOVERY_TIMEOUT 60)
  endif()
endfunction()

# graftfs_fuzzer(NAME [DEPS module...] [LIBS target...] SOURCES file...)
#
# A libFuzzer program (LLVMFuzzerTestOneInput in SOURCES). The fuzz preset
# builds it as fuzzers/NAME, with the target `fuzzers` for all of them; seeds are
# tests/fuzz/corpus/NAME. In the release preset it is a ctest "fuzz.NAME" that
# runs that program for ten seconds.
function(graftfs_fuzzer name)
  cmake_parse_arguments(F "" "" "DEPS;LIBS;SOURCES" ${ARGN})
  graftfs_need_modules("fuzzer '${name}'" ${F_DEPS})
  set_property(GLOBAL APPEND_STRING PROPERTY GRAFTFS_FUZZERS "${name}\n")
  if(GRAFTFS_FUZZ)
    add_executable(${name} EXCLUDE_FROM_ALL ${F_SOURCES})
    list(TRANSFORM F_DEPS PREPEND graftfs_)
    target_link_libraries(${name} PRIVATE ${F_DEPS} ${F_LIBS})
    # For fuzzers that compile sources of their module instead of linking all of it.
    get_filename_component(module ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/include/${module})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzzers)
    add_dependencies(fuzzers ${name})
  elseif(GRAFTFS_FUZZ_TESTS AND GRAFTFS_TESTS)
    add_test(NAME fuzz.${name} COMMAND ${CMAKE_SOURCE_DIR}/tools/run-fuzzer ${name} 10 1)
    set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
endfunction()
if(GRAFTFS_FUZZ)
  add_custom_target(fuzzers)
endif()

# Called once, last: what the scripts in tools/ want to know about the tree.
function(graftfs_write_lists)
  get_property(modules GLOBAL PROPERTY GRAFTFS_MODULES)
  get_property(fuzzers GLOBAL PROPERTY GRAFTFS_FUZZERS)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/modules.txt CONTENT "${modules}" @ONLY)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/fuzzers.txt CONTENT "${fuzzers}" @ONLY)
endfunction()
