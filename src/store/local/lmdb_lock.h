#pragma once
// The lock that is held while data.mdb and its checksums change together.

#include <sys/file.h>
#include <time.h>

#include "store/local/lmdb_env.h"

namespace graftfs::local {

// A flock of VOLUME/dirs; the kernel gives it back when the process dies.
class LmdbEnv::DirLock {
 public:
  // Waits up to `most_ms`; without, for as long as it takes.
  explicit DirLock(int dir, int most_ms = -1) : dir_(dir) {
    if (most_ms < 0) {
      while ((held_ = ::flock(dir, LOCK_EX) == 0) == false && errno == EINTR) {
      }
      return;
    }
    constexpr int kStepMs = 10;
    for (int waited = 0; !(held_ = ::flock(dir, LOCK_EX | LOCK_NB) == 0); waited += kStepMs) {
      if (waited >= most_ms) return;
      timespec step{0, kStepMs * 1000000};
      ::nanosleep(&step, nullptr);
    }
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
