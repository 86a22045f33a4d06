#pragma once
// Which directories a rank is asked for, and how often: what a balancer looks at.

#include <absl/container/flat_hash_map.h>

#include "base/executor.h"
#include "base/ids.h"

namespace graftfs {

// One for a rank, in its thread, in memory only. Counts from the first time that it is asked, until
// nobody has asked for a while: nobody pays for it otherwise.
class Heat {
 public:
  // An operation has seen the directory.
  void touch(Ino dir) {
    if (on_) [[unlikely]]
      count(dir);
  }
  struct Window {
    double seconds = 0;  // 0: it begins now
    absl::flat_hash_map<uint64_t, uint32_t> counts;
  };
  // What was counted since the last call; begins to count anew.
  Window take(Nanos now) {
    Window window{on_ ? static_cast<double>(now - since_) / kSecond : 0, std::move(counts_)};
    counts_ = {};
    on_ = true;
    since_ = now;
    return window;
  }

 private:
  static constexpr size_t kMost = 1 << 20;
  void count(Ino dir) {
    if (counts_.size() < kMost)
      counts_[dir.v]++;
    else
      on_ = false;  // nobody asks any more
  }

  bool on_ = false;
  Nanos since_ = 0;
  absl::flat_hash_map<uint64_t, uint32_t> counts_;
};

}  // namespace graftfs
