#pragma once

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

namespace graftfs::bench {

// A second user of a mount: about once per millisecond it creates, looks at and
// removes a file in a directory of its own, and notes how long that took. It
// runs on its own thread from the constructor to stop().
class PauseProbe {
 public:
  explicit PauseProbe(std::filesystem::path directory);
  PauseProbe(const PauseProbe&) = delete;
  PauseProbe& operator=(const PauseProbe&) = delete;
  ~PauseProbe();

  // Throws BenchmarkError when an operation failed.
  void stop();

  // Valid after stop(). One sample is one operation, in milliseconds.
  const std::vector<double>& operations_ms() const { return operations_ms_; }
  // How much too long the thread slept between them: what the machine, and not
  // the file system, made it wait.
  double longest_oversleep_ms() const { return longest_oversleep_ms_; }

 private:
  void run();

  std::filesystem::path directory_;
  std::vector<double> operations_ms_;
  double longest_oversleep_ms_ = 0;
  int error_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace graftfs::bench
