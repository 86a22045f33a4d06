#pragma once
// CHECK: a programmer's error ends the process, in release builds too, and prints values.

#include <fmt/format.h>

#include <string>

namespace graftfs {

// Prints the failed condition and ends the process (or throws CheckFailed where the simulator
// has asked for that, so that a failing seed can be reported).
struct CheckFailed {
  std::string what;
};
// From now on failed checks of this thread throw.
void throw_failed_checks(bool on);
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& detail);

}  // namespace graftfs

#define CHECK(condition, ...)                                                                 \
  do {                                                                                        \
    if (!(condition)) [[unlikely]]                                                            \
      ::graftfs::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
