#pragma once
// Who asks.

#include <cstdint>
#include <vector>

namespace graftfs {

// Looks up supplementary groups only when a decision depends on them (a FUSE request names the
// caller's pid, not its groups). Owned by whoever made the request; outlives it.
class GroupLookup {
 public:
  virtual ~GroupLookup() = default;
  virtual bool is_member(int32_t pid, uint32_t gid) const = 0;
  // All of them, for a request that leaves this process.
  virtual std::vector<uint32_t> groups_of(int32_t pid) const = 0;
};

struct Credentials {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;
  int32_t pid = 0;
  const GroupLookup* lookup = nullptr;

  bool is_root() const { return uid == 0; }
  // Before the request leaves its maker's thread or process. (Nothing asks for root's groups.)
  void settle() {
    if (!lookup) return;
    if (!is_root()) groups = lookup->groups_of(pid);
    lookup = nullptr;
  }
  bool in_group(uint32_t g) const {
    if (g == gid) return true;
    for (uint32_t member : groups)
      if (member == g) return true;
    return lookup && lookup->is_member(pid, g);
  }
};

}  // namespace graftfs
