#pragma once
// A volume served inside this process: a rank over the local store, on this thread's loop.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "base/wait.h"
#include "harness/benchmark.h"
#include "server/rank.h"
#include "store/local/local_store.h"

namespace graftfs::bench {

// Formats a volume in `path` if there is none, and starts a rank on it. Owned and used by one
// thread. Errors end the benchmark.
class Embedded {
 public:
  Embedded(const std::filesystem::path& path, RankOptions options);
  ~Embedded();

  Rank& rank() { return *rank_; }
  EventLoop& loop() { return loop_; }
  // Ends cleanly; or drops everything as the death of the process would (without waiting).
  void stop();

  // Runs the loop until the task is done, and returns what it returned.
  template <class T>
  T wait(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }
  // One request, and its answer.
  Reply call(Args args);
  // The next request of this client's session, to be submitted.
  Request request(Args args);
  // Makes DIR/NAME for each name, one below the other; the ino of the last.
  Ino make_path(int levels, const std::string& prefix);

  static constexpr SessionId kSession{1};

 private:
  EventLoop loop_;
  BlockingPool pool_{"io", 2};
  std::unique_ptr<LocalStore> store_;
  std::unique_ptr<Rank> rank_;
  uint64_t seq_ = 0;
};

// User and system time of this process so far, in seconds.
double process_cpu_seconds();
// Resident memory of this process, in bytes: what it holds itself, and pages of files that it has
// mapped (the kernel's cache of the store, which it takes back as it needs).
struct Resident {
  uint64_t own = 0, mapped = 0;
};
Resident resident_bytes();

}  // namespace graftfs::bench
