#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace graftfs::bench {

// Seconds on a clock that only goes forward.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Finished {
  int status;          // exit status, or 128 + signal
  std::string output;  // standard output, when it was asked for
};

// Programs are run without a shell. Their standard output goes to /dev/null or
// to a string, never to ours: with --json that carries only JSON. Extra
// environment is given as "NAME=VALUE".
struct RunOptions {
  std::string directory;  // empty: the current one
  std::vector<std::string> environment;
  bool capture = false;
};
Finished run(const std::vector<std::string>& argv, const RunOptions& options = {});
// Throws BenchmarkError, with what the program wrote, when it fails.
std::string run_or_throw(const std::vector<std::string>& argv, const RunOptions& options = {});

// Starts a program and returns its pid at once.
pid_t spawn(const std::vector<std::string>& argv, const RunOptions& options = {});
// Waits for it; exit status, or 128 + signal.
int wait_for(pid_t pid);
// True when it has ended (and was reaped).
bool has_ended(pid_t pid);

// User and system time a process has used so far, in seconds; 0 once it is gone.
double cpu_seconds(pid_t pid);
// The same of one thread, by the kernel's finer clock where it has one.
double thread_cpu_seconds(pid_t process, pid_t thread);
// write(2)-like calls made so far; a FUSE server answers each request with one.
// -1 when the kernel does not say.
long write_calls(pid_t pid);

}  // namespace graftfs::bench
