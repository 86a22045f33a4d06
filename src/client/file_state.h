#pragma once
// What a client knows of a file while operations on its data are under way.

#include <deque>
#include <optional>

#include "base/task.h"
#include "types/inode.h"

namespace graftfs {

// Lets operations that keep a file's size (shared) run together, and those that change it
// (exclusive) alone, in the order in which they came. One thread.
class SizeLock {
 public:
  explicit SizeLock(Executor& executor) : executor_(executor) {}

  // Held until unlock() with the same argument.
  Task<void> lock(bool exclusive) {
    if (waiting_.empty() && fits(exclusive)) {
      take(exclusive);
      co_return;
    }
    Promised<bool> granted(executor_);
    waiting_.push_back({exclusive, granted});
    co_await granted;
  }
  void unlock(bool exclusive) {
    if (exclusive) {
      exclusive_ = false;
    } else {
      --shared_;
    }
    while (!waiting_.empty() && fits(waiting_.front().exclusive)) {
      take(waiting_.front().exclusive);
      waiting_.front().granted.set(true);
      waiting_.pop_front();
    }
  }

 private:
  struct Waiter {
    bool exclusive;
    Promised<bool> granted;
  };
  bool fits(bool exclusive) const { return !exclusive_ && (!exclusive || shared_ == 0); }
  void take(bool exclusive) {
    if (exclusive) {
      exclusive_ = true;
    } else {
      ++shared_;
    }
  }

  Executor& executor_;
  int shared_ = 0;
  bool exclusive_ = false;
  std::deque<Waiter> waiting_;
};

// Lives while an operation uses it, so memory follows what is in flight, not what is known.
struct FileState {
  explicit FileState(Executor& executor) : lock(executor) {}

  SizeLock lock;
  int users = 0;
  bool known = false;  // size, blocks: from the rank, and since then from this client's writes
  uint64_t size = 0;   // with what is written and not yet told to the rank
  uint64_t blocks = 0;
  std::optional<bool> atime_due;  // a read would change atime, as relatime has it

  void set_size(uint64_t bytes, uint64_t blocks_now) {
    known = true;
    size = bytes;
    blocks = blocks_now;
  }
};

}  // namespace graftfs
