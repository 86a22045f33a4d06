#include "types/acl.h"

#include <sys/stat.h>

#include <cerrno>

#include "base/bytes.h"

namespace graftfs {
namespace {

constexpr uint32_t kAclVersion = 2;
constexpr size_t kAclHeaderSize = 4;
constexpr size_t kAclEntrySize = 8;

bool has_id(uint16_t tag) { return tag == kAclUser || tag == kAclGroup; }

bool is_tag(uint16_t tag) { return tag && tag <= kAclOther && !(tag & (tag - 1)); }

}  // namespace

int decode_acl(std::string_view bytes, Acl& acl) {
  acl.clear();
  if (bytes.empty()) return 0;
  ByteReader r(bytes);
  uint32_t version = r.u32();
  if (!r.ok() || r.remaining() % kAclEntrySize) return EINVAL;
  if (version != kAclVersion) return EOPNOTSUPP;
  acl.reserve(r.remaining() / kAclEntrySize);
  while (r.remaining()) {
    AclEntry e;
    e.tag = r.u16();
    e.perm = r.u16();
    e.id = r.u32();
    if (!is_tag(e.tag)) return EINVAL;
    if (!has_id(e.tag))
      e.id = kAclNoId;
    else if (e.id == kAclNoId)
      return EINVAL;
    acl.push_back(e);
  }
  return 0;
}

std::string encode_acl(const Acl& acl) {
  std::string bytes;
  bytes.reserve(kAclHeaderSize + acl.size() * kAclEntrySize);
  ByteWriter w(bytes);
  w.u32(kAclVersion);
  for (const AclEntry& e : acl) {
    w.u16(e.tag);
    w.u16(e.perm);
    w.u32(e.id);
  }
  return bytes;
}

bool is_valid_acl(const Acl& acl) {
  // Tags are bits in the order in which entries must stand; only named ones may repeat.
  uint16_t last = 0, seen = 0;
  for (const AclEntry& e : acl) {
    if (!is_tag(e.tag) || e.perm > 7) return false;
    if (e.tag < last || (e.tag == last && !has_id(e.tag))) return false;
    if (has_id(e.tag) && e.id == kAclNoId) return false;
    last = e.tag;
    seen |= e.tag;
  }
  constexpr uint16_t needed = kAclUserObj | kAclGroupObj | kAclOther;
  if ((seen & needed) != needed) return false;
  return !(seen & (kAclUser | kAclGroup)) || (seen & kAclMask);
}

bool acl_to_mode(const Acl& acl, uint32_t& mode) {
  uint32_t bits = 0;
  bool says_it_all = true;
  for (const AclEntry& e : acl) {
    switch (e.tag) {
      case kAclUserObj:
        bits |= e.perm << 6;
        break;
      case kAclGroupObj:
        bits |= e.perm << 3;
        break;
      case kAclOther:
        bits |= e.perm;
        break;
      case kAclMask:  // stands behind the group's entry and takes its place in the mode
        bits = (bits & ~uint32_t{S_IRWXG}) | e.perm << 3;
        [[fallthrough]];
      default:
        says_it_all = false;
    }
  }
  mode = (mode & ~uint32_t{0777}) | bits;
  return says_it_all;
}

void acl_chmod(Acl& acl, uint32_t mode) {
  AclEntry* group = nullptr;  // the mask, where there is one, else the group
  for (AclEntry& e : acl) {
    if (e.tag == kAclUserObj) e.perm = (mode >> 6) & 7;
    if (e.tag == kAclGroupObj || e.tag == kAclMask) group = &e;
    if (e.tag == kAclOther) e.perm = mode & 7;
  }
  if (group) group->perm = (mode >> 3) & 7;
}

bool acl_inherit(Acl& acl, uint32_t& mode) {
  AclEntry* group = nullptr;
  uint32_t bits = mode & 0777;
  bool says_it_all = true;
  auto limit = [&bits](AclEntry& e, int shift) {
    e.perm &= bits >> shift;
    bits = (bits & ~(7u << shift)) | uint32_t{e.perm} << shift;
  };
  for (AclEntry& e : acl) {
    if (e.tag == kAclUserObj) limit(e, 6);
    if (e.tag == kAclOther) limit(e, 0);
    if (e.tag == kAclGroupObj || e.tag == kAclMask) group = &e;
    if (has_id(e.tag) || e.tag == kAclMask) says_it_all = false;
  }
  if (group) limit(*group, 3);
  mode = (mode & ~uint32_t{0777}) | bits;
  return says_it_all;
}

}  // namespace graftfs
