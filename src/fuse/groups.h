#pragma once
// Supplementary groups of a caller, which a FUSE request does not carry.

#include <vector>

#include "types/credentials.h"

namespace graftfs::fuse {

// Reads /proc/PID/status when a permission check first depends on it, and remembers one caller
// until the next request is read (a process may change its groups between two).
class ProcGroups final : public GroupLookup {
 public:
  bool is_member(int32_t pid, uint32_t gid) const override;
  std::vector<uint32_t> groups_of(int32_t pid) const override;
  void new_request() { pid_ = 0; }

 private:
  bool load(int32_t pid) const;
  mutable int32_t pid_ = 0;
  mutable std::vector<uint32_t> groups_;
};

}  // namespace graftfs::fuse
