#pragma once
// A volume for one process alone: what fsck needs.

#include <memory>
#include <string>
#include <utility>

#include "store/local/local_common.h"

namespace graftfs::local {

// While it lives no other process can open the volume; this one can, as ever. Any thread. A crash
// of the process gives it back.
class Alone {
 public:
  // EBUSY where any process has the volume open, in whatever way and state. EINVAL, EUCLEAN: as
  // LocalVolume::open().
  static Result<std::unique_ptr<Alone>> take(const std::string& volume);
  ~Alone();
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
  // Whether this process has the volume with this lock file for itself.
  static bool holds(const Fd& lock_file);

 private:
  using Identity = std::pair<uint64_t, uint64_t>;
  static Identity identity_of(const Fd& lock_file);
  explicit Alone(Fd lock);
  Fd lock_;
};

}  // namespace graftfs::local
