#include "harness/workload.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <barrier>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "harness/benchmark.h"
#include "harness/process.h"

namespace graftfs::bench {

double timed_threads(unsigned threads, const std::function<void(unsigned)>& work) {
  std::barrier ready(threads + 1);
  std::mutex lock;
  std::exception_ptr failure;
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; i++) {
    running.emplace_back([&, i] {
      ready.arrive_and_wait();
      try {
        work(i);
      } catch (...) {
        std::lock_guard guard(lock);
        failure = std::current_exception();
      }
    });
  }
  ready.arrive_and_wait();
  Stopwatch watch;
  for (std::thread& thread : running) {
    thread.join();
  }
  double seconds = watch.seconds();
  if (failure) {
    std::rethrow_exception(failure);
  }
  return seconds;
}

Files::Files(std::filesystem::path home, unsigned threads, uint64_t count)
    : per_thread_((count + threads - 1) / threads) {
  for (unsigned i = 0; i < threads; i++) {
    std::filesystem::path directory = home / fmt::format("t{}", i);
    std::filesystem::create_directories(directory);
    int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
      throw BenchmarkError(
          fmt::format("cannot open '{}': {}", directory.string(), std::strerror(errno)));
    }
    directories_.push_back(fd);
  }
}

Files::~Files() {
  for (int fd : directories_) {
    close(fd);
  }
}

double Files::phase(const char* what, char prefix, Operation operation) {
  last_seconds_ = timed_threads(static_cast<unsigned>(directories_.size()), [&](unsigned thread) {
    char name[24];
    for (uint64_t i = 0; i < per_thread_; i++) {
      std::snprintf(name, sizeof(name), "%c%011llu", prefix, static_cast<unsigned long long>(i));
      if (operation(directories_[thread], name) != 0) {
        throw BenchmarkError(
            fmt::format("{} of '{}' failed: {}", what, name, std::strerror(errno)));
      }
    }
  });
  return static_cast<double>(count()) / last_seconds_;
}

double Files::create() {
  file_prefix_ = 'f';
  return phase("create", 'f', [](int directory, const char* name) {
    int fd = openat(directory, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    return fd < 0 ? -1 : close(fd);
  });
}

double Files::stat() {
  return phase("stat", file_prefix_, [](int directory, const char* name) {
    struct stat attributes;
    return fstatat(directory, name, &attributes, AT_SYMLINK_NOFOLLOW);
  });
}

double Files::rename() {
  double speed = phase("rename", 'f', [](int directory, const char* name) {
    char to[24];
    std::strncpy(to, name, sizeof(to) - 1);
    to[0] = 'r';
    to[sizeof(to) - 1] = 0;
    return renameat(directory, name, directory, to);
  });
  file_prefix_ = 'r';
  return speed;
}

double Files::unlink() {
  return phase("unlink", file_prefix_,
               [](int directory, const char* name) { return unlinkat(directory, name, 0); });
}

double Files::mkdir() {
  return phase("mkdir", 'd',
               [](int directory, const char* name) { return mkdirat(directory, name, 0755); });
}

double Files::rmdir() {
  return phase("rmdir", 'd', [](int directory, const char* name) {
    return unlinkat(directory, name, AT_REMOVEDIR);
  });
}

}  // namespace graftfs::bench
