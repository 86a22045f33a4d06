#pragma once
// POSIX access control lists, as the kernel passes them in the extended attributes
// system.posix_acl_access and system.posix_acl_default: a 32-bit version (2), then eight bytes an
// entry (tag, permissions, id; all little endian).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graftfs {

inline constexpr std::string_view kAclAccess = "system.posix_acl_access";
inline constexpr std::string_view kAclDefault = "system.posix_acl_default";

enum AclTag : uint16_t {
  kAclUserObj = 0x01,
  kAclUser = 0x02,
  kAclGroupObj = 0x04,
  kAclGroup = 0x08,
  kAclMask = 0x10,
  kAclOther = 0x20,
};
inline constexpr uint32_t kAclNoId = UINT32_MAX;

struct AclEntry {
  uint16_t tag = 0;
  uint16_t perm = 0;       // rwx, 0..7
  uint32_t id = kAclNoId;  // of kAclUser and kAclGroup
  friend bool operator==(const AclEntry&, const AclEntry&) = default;
};
using Acl = std::vector<AclEntry>;

// 0, or EINVAL (not an ACL) or EOPNOTSUPP (another version). Bytes without an entry give an empty
// ACL, which stands for "none". Says nothing about whether the entries fit together.
int decode_acl(std::string_view bytes, Acl& acl);
std::string encode_acl(const Acl& acl);

// Whether the entries make an ACL: in order of tags, each of owner, group and others once, and a
// mask where a user or group is named.
bool is_valid_acl(const Acl& acl);

// Puts the permissions that the ACL stands for into the low nine bits of `mode`; whether that is
// all it says (no named entries, no mask), so that it need not be kept.
bool acl_to_mode(const Acl& acl, uint32_t& mode);

// After chmod: owner, mask (or group, where there is no mask) and others follow `mode`.
void acl_chmod(Acl& acl, uint32_t mode);

// What a new inode gets from its directory's default ACL: both `acl` (the copy that becomes its
// access ACL) and `mode` are limited to what the other allows. Whether the mode says it all.
bool acl_inherit(Acl& acl, uint32_t& mode);

}  // namespace graftfs
