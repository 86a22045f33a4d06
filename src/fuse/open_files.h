#pragma once
// The open files of a shared mount, and which of them are void (docs/protocols/leases.md).

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <vector>

#include "base/ids.h"

namespace graftfs::fuse {

// Owned by State, on the loop's thread. A handle is one open(2), until its last close.
class OpenFiles {
 public:
  // The handle that the kernel is to name.
  uint64_t open(Ino ino);
  void close(Ino ino, uint64_t handle);
  // Somebody had locked the file, and has the lock no more. Through whom that was the kernel does
  // not say of fcntl's, and who reads without a lock may go by one of somebody else's here: all
  // handles of now are void.
  void lost_lock(Ino ino);
  bool is_void(uint64_t handle) const { return !void_.empty() && void_.contains(handle); }

 private:
  uint64_t last_ = 0;
  absl::flat_hash_map<Ino, std::vector<uint64_t>> open_;
  absl::flat_hash_set<uint64_t> void_;
};

}  // namespace graftfs::fuse
