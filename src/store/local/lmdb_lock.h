#pragma once
// The lock that is held while data.mdb and its checksums change together.

#include <sys/file.h>
#include <time.h>

#include "store/local/lmdb_env.h"

namespace graftfs::local {

// A flock of VOLUME/dirs; the kernel gives it back when the process dies.
class LmdbEnv::DirLock {
 public:
  // Waits up to `most_ms`.
  explicit DirLock(int dir, int most_ms = 0) : dir_(dir) { wait(most_ms); }
  // False: somebody else still has it. Short steps at first: a commit is over soon.
  bool wait(int most_ms) {
    constexpr int64_t kFirstStep = 100'000, kLongestStep = 10'000'000;
    int64_t waited = 0, step = kFirstStep;
    while (!(held_ = ::flock(dir_, LOCK_EX | LOCK_NB) == 0)) {
      if (waited >= most_ms * int64_t{1'000'000}) return false;
      timespec sleep{0, step};
      ::nanosleep(&sleep, nullptr);
      waited += step;
      if (waited > 50 * step && step < kLongestStep) step *= 2;
    }
    return true;
  }
  DirLock(const DirLock&) = delete;
  DirLock& operator=(const DirLock&) = delete;
  ~DirLock() {
    if (held_) ::flock(dir_, LOCK_UN);
  }
  explicit operator bool() const { return held_; }

 private:
  int dir_;
  bool held_ = false;
};

}  // namespace graftfs::local
