#pragma once
// The daemon's log: one line an entry, with the time.

#include <string>
#include <string_view>

#include "base/result.h"

namespace graftfs::cli {

// Appends to a file, or, in the foreground, writes to standard error. From any thread. A line
// that cannot be written (a full disk) is dropped.
class Log {
 public:
  Log() = default;  // standard error
  Log(Log&& o) noexcept;
  Log& operator=(Log&& o) noexcept;
  ~Log();
  // Standard error goes to the file from then on, so that a failed CHECK is found there.
  static Result<Log> open(const std::string& path);

  void line(std::string_view text) const;

 private:
  int fd_ = -1;
};

}  // namespace graftfs::cli
