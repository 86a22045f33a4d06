#include "harness/process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "harness/benchmark.h"

namespace graftfs::bench {
namespace {

// `out` becomes the standard output of the child; -1: /dev/null. Its standard
// error goes there too when it is captured, so that a failure can be shown.
pid_t start(const std::vector<std::string>& argv, const RunOptions& options, int out) {
  std::vector<char*> pointers;
  for (const std::string& arg : argv) {
    pointers.push_back(const_cast<char*>(arg.c_str()));
  }
  pointers.push_back(nullptr);
  pid_t pid = fork();
  if (pid < 0) {
    throw BenchmarkError(fmt::format("cannot start '{}': {}", argv[0], std::strerror(errno)));
  }
  if (pid > 0) {
    return pid;
  }
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  dup2(out < 0 ? null : out, 1);
  if (out >= 0) {
    dup2(out, 2);
  }
  for (const std::string& variable : options.environment) {
    putenv(const_cast<char*>(variable.c_str()));
  }
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) {
    _exit(126);
  }
  execvp(pointers[0], pointers.data());
  _exit(127);
}

int status_of(int raw) { return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw); }

// The words of a /proc file after `skip` of them.
std::vector<long> numbers_after(const std::string& line, size_t skip) {
  std::istringstream stream(line);
  std::string word;
  while (skip-- > 0) {
    stream >> word;
  }
  std::vector<long> numbers;
  for (long number; stream >> number;) {
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

Finished run(const std::vector<std::string>& argv, const RunOptions& options) {
  if (!options.capture) {
    return {wait_for(start(argv, options, -1)), {}};
  }
  // A file and not a pipe: a daemon that the program leaves behind may hold the
  // other end open for ever.
  char name[] = "/tmp/graftfs-bench-XXXXXX";
  int file = mkostemp(name, O_CLOEXEC);
  if (file < 0) {
    throw BenchmarkError("cannot make a file in /tmp; make room there");
  }
  unlink(name);
  int status = wait_for(start(argv, options, file));
  std::string output;
  char buffer[65536];
  for (off_t at = 0;;) {
    ssize_t count = pread(file, buffer, sizeof(buffer), at);
    if (count <= 0) {
      break;
    }
    output.append(buffer, static_cast<size_t>(count));
    at += count;
  }
  close(file);
  return {status, std::move(output)};
}

std::string run_or_throw(const std::vector<std::string>& argv, const RunOptions& options) {
  RunOptions captured = options;
  captured.capture = true;
  Finished finished = run(argv, captured);
  if (finished.status != 0) {
    std::string tail =
        finished.output.substr(finished.output.size() > 2000 ? finished.output.size() - 2000 : 0);
    throw BenchmarkError(
        fmt::format("'{}' failed with status {}: {}", fmt::join(argv, " "), finished.status, tail));
  }
  return finished.output;
}

pid_t spawn(const std::vector<std::string>& argv, const RunOptions& options) {
  return start(argv, options, -1);
}

int wait_for(pid_t pid) {
  int raw = 0;
  while (waitpid(pid, &raw, 0) < 0) {
    if (errno != EINTR) {
      return 255;
    }
  }
  return status_of(raw);
}

bool has_ended(pid_t pid) {
  int raw;
  return waitpid(pid, &raw, WNOHANG) != 0;
}

namespace {

double cpu_seconds_in(const std::string& stat_file) {
  std::ifstream file(stat_file);
  std::string line;
  std::getline(file, line);
  size_t close_bracket = line.rfind(')');
  if (close_bracket == std::string::npos) {
    return 0;
  }
  // utime and stime are the 12th and 13th word after the name.
  std::vector<long> numbers = numbers_after(line.substr(close_bracket + 1), 11);
  if (numbers.size() < 2) {
    return 0;
  }
  return static_cast<double>(numbers[0] + numbers[1]) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double cpu_seconds(pid_t pid) { return cpu_seconds_in(fmt::format("/proc/{}/stat", pid)); }

double thread_cpu_seconds(pid_t process, pid_t thread) {
  std::ifstream file(fmt::format("/proc/{}/task/{}/schedstat", process, thread));
  if (double nanoseconds; file >> nanoseconds) {
    return nanoseconds / 1e9;
  }
  return cpu_seconds_in(fmt::format("/proc/{}/task/{}/stat", process, thread));
}

long write_calls(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/io", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("syscw: ")) {
      return std::stol(line.substr(7));
    }
  }
  return -1;
}

}  // namespace graftfs::bench
