#pragma once
// A value for each of many inode numbers.

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base/ids.h"

namespace graftfs {

// Numbers are given out in order, and what was made together is used together: so they are kept in
// runs of 32, each found in a hash map. With pointers that takes a quarter of the memory of a map
// of single numbers; one of 32 inserts goes to a place that is not in the processor's cache; and
// the pause in which a map of millions grows is as much shorter. In the worst case, one number of
// each run, a pointer takes 280 bytes.
//
// T{} stands for nothing: small, and cheap to copy. One thread.
template <class T>
class InoTable {
 public:
  T get(Ino ino) const {
    auto run = runs_.find(ino.v / kRun);
    return run == runs_.end() ? T{} : run->second->at[ino.v % kRun];
  }
  void set(Ino ino, T value) {
    const bool there = value != T{};
    auto run = runs_.find(ino.v / kRun);
    if (run == runs_.end()) {
      if (!there) return;
      run = runs_.emplace(ino.v / kRun, std::make_unique<Run>()).first;
    }
    T& slot = run->second->at[ino.v % kRun];
    const int change = there - (slot != T{});
    slot = value;
    size_ += change;
    run->second->used += change;
    if (run->second->used == 0) runs_.erase(run);
  }
  // Takes over all of `other`, which is empty afterwards; of a number that both know, its value.
  void join(InoTable& other) {
    for (auto& [number, theirs] : other.runs_) {
      std::unique_ptr<Run>& run = runs_[number];
      if (!run) {
        size_ += theirs->used;
        run = std::move(theirs);
        continue;
      }
      for (size_t i = 0; i < kRun; ++i) {
        if (theirs->at[i] == T{}) continue;
        const bool fresh = run->at[i] == T{};
        run->used += fresh;
        size_ += fresh;
        run->at[i] = theirs->at[i];
      }
    }
    other.runs_.clear();
    other.size_ = 0;
  }
  size_t size() const { return size_; }
  size_t runs() const { return runs_.size(); }

 private:
  static constexpr uint64_t kRun = 32;
  struct Run {
    std::array<T, kRun> at{};
    int used = 0;
  };
  absl::flat_hash_map<uint64_t, std::unique_ptr<Run>> runs_;
  size_t size_ = 0;
};

}  // namespace graftfs
