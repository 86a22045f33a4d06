#include "cli/log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <utility>

namespace graftfs::cli {

Log::Log(Log&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}

Log& Log::operator=(Log&& o) noexcept {
  std::swap(fd_, o.fd_);
  return *this;
}

Log::~Log() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Log> Log::open(const std::string& path) {
  Log log;
  log.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log.fd_ < 0)
    return fail(errno, fmt::format("cannot open the log {}: {}; name another file with --log", path,
                                   std::strerror(errno)));
  ::dup2(log.fd_, STDERR_FILENO);
  return log;
}

void Log::line(std::string_view text) const {
  std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string entry = fmt::format("{:%Y-%m-%d %H:%M:%S} [{}] {}\n", local, ::getpid(), text);
  int fd = fd_ >= 0 ? fd_ : STDERR_FILENO;
  ssize_t ignored = ::write(fd, entry.data(), entry.size());
  static_cast<void>(ignored);
}

}  // namespace graftfs::cli
