#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace graftfs {

static thread_local bool throws = false;

void throw_failed_checks(bool on) { throws = on; }

void check_failed(const char* file, int line, const char* condition, const std::string& detail) {
  std::string what = fmt::format("{}:{}: CHECK({}) failed{}{}", file, line, condition,
                                 detail.empty() ? "" : ": ", detail);
  if (throws) throw CheckFailed{what};
  fmt::print(stderr, "{}\n", what);
  std::fflush(stderr);
  std::abort();
}

}  // namespace graftfs
