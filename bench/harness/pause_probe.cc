#include "harness/pause_probe.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "harness/benchmark.h"
#include "harness/process.h"

namespace graftfs::bench {

PauseProbe::PauseProbe(std::filesystem::path directory) : directory_(std::move(directory)) {
  std::filesystem::create_directories(directory_);
  thread_ = std::thread([this] { run(); });
}

PauseProbe::~PauseProbe() {
  stopping_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
}

void PauseProbe::stop() {
  stopping_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
  if (error_ != 0) {
    throw BenchmarkError(
        fmt::format("an operation beside the big directory failed: {}", std::strerror(error_)));
  }
}

void PauseProbe::run() {
  constexpr double kSleepMs = 1;
  std::string name = directory_ / "probe";
  auto timed = [&](auto&& operation) {
    Stopwatch watch;
    if (operation() != 0 && error_ == 0) {
      error_ = errno;
    }
    operations_ms_.push_back(watch.seconds() * 1000);
  };
  while (!stopping_ && error_ == 0) {
    timed([&] {
      int fd = open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
      return fd < 0 ? -1 : close(fd);
    });
    timed([&] {
      struct stat attributes;
      return stat(name.c_str(), &attributes);
    });
    timed([&] { return unlink(name.c_str()); });
    Stopwatch watch;
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(kSleepMs));
    longest_oversleep_ms_ = std::max(longest_oversleep_ms_, watch.seconds() * 1000 - kSleepMs);
  }
}

}  // namespace graftfs::bench
