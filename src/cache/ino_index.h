#pragma once
// Where the inode of a number is.

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <memory>

#include "base/ids.h"

namespace graftfs {

// Numbers are given out in order, and what was made together is used together: so they are kept in
// runs of 32, each found in a hash map. That takes a quarter of the memory of a map of single
// numbers, and one of 32 inserts goes to a place that is not in the processor's cache. In the worst
// case, one number of each run, it takes 280 bytes for each.
//
// T is a struct that lives elsewhere. One thread.
template <class T>
class InoIndex {
 public:
  // Null: it is not known.
  T* find(Ino ino) const {
    auto run = runs_.find(ino.v / kRun);
    return run == runs_.end() ? nullptr : run->second->at[ino.v % kRun];
  }
  void set(Ino ino, T* value) {
    std::unique_ptr<Run>& run = runs_[ino.v / kRun];
    if (!run) run = std::make_unique<Run>();
    T*& slot = run->at[ino.v % kRun];
    run->used += !slot;
    slot = value;
  }
  // Of a number that is known.
  void erase(Ino ino) {
    auto run = runs_.find(ino.v / kRun);
    run->second->at[ino.v % kRun] = nullptr;
    if (--run->second->used == 0) runs_.erase(run);
  }
  // Takes over all of `other`, which is empty afterwards; of a number that both know, its.
  void join(InoIndex& other) {
    for (auto& [number, theirs] : other.runs_) {
      std::unique_ptr<Run>& run = runs_[number];
      if (!run) {
        run = std::move(theirs);
        continue;
      }
      for (size_t i = 0; i < kRun; ++i) {
        if (!theirs->at[i]) continue;
        run->used += !run->at[i];
        run->at[i] = theirs->at[i];
      }
    }
    other.runs_.clear();
  }
  bool empty() const { return runs_.empty(); }

 private:
  static constexpr uint64_t kRun = 32;
  struct Run {
    std::array<T*, kRun> at{};
    uint32_t used = 0;
  };
  absl::flat_hash_map<uint64_t, std::unique_ptr<Run>> runs_;
};

}  // namespace graftfs
