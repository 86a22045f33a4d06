#include "server/ops/permission.h"

#include <fcntl.h>

namespace graftfs::ops {
namespace {

// The kernel sets it in the flags of an open for execve(2).
constexpr uint32_t kOpenForExec = 0x20;
constexpr std::string_view kCapability = "security.capability";

// What the access ACL says about someone who is not the owner.
int acl_permits(const Credentials& cred, const Inode& inode, const Acl& acl, uint32_t mask) {
  uint32_t limit = 7;
  for (const AclEntry& e : acl)
    if (e.tag == kAclMask) limit = e.perm;
  bool in_a_group = false;
  for (const AclEntry& e : acl) {
    switch (e.tag) {
      case kAclUser:
        if (e.id == cred.uid) return mask & ~(e.perm & limit) ? EACCES : 0;
        break;
      case kAclGroupObj:
      case kAclGroup:
        if (!cred.in_group(e.tag == kAclGroup ? e.id : inode.gid)) break;
        in_a_group = true;
        if (!(mask & ~uint32_t{e.perm})) return mask & ~(e.perm & limit) ? EACCES : 0;
        break;
      case kAclOther:
        return in_a_group || (mask & ~uint32_t{e.perm}) ? EACCES : 0;
      default:
        break;
    }
  }
  return EACCES;
}

int acl_or_mode_permits(const Credentials& cred, const Inode& inode, uint32_t mask) {
  uint32_t mode = inode.mode;
  if (cred.uid == inode.uid) return mask & ~(mode >> 6) ? EACCES : 0;
  // The group bits are the ACL's mask: where they are empty no entry can permit anything, and
  // Linux goes by the bits for others.
  if (inode.extra && (mode & S_IRWXG)) {
    auto found = inode.xattrs().find(std::string(kAclAccess));
    Acl acl;
    if (found != inode.xattrs().end() && decode_acl(found->second, acl) == 0 && !acl.empty())
      return acl_permits(cred, inode, acl, mask);
  }
  // Groups are looked up only where that decides something.
  if ((mask & (mode ^ (mode >> 3))) && cred.in_group(inode.gid)) mode >>= 3;
  return mask & ~mode ? EACCES : 0;
}

void clear_capabilities(Inode& inode) {
  if (!inode.xattrs().contains(std::string(kCapability))) return;
  InodeExtra extra = inode.copy_extra();
  extra.xattrs.erase(std::string(kCapability));
  inode.set_extra(std::move(extra));
}

}  // namespace

int may(const Credentials& cred, const Inode& inode, uint32_t mask) {
  mask &= 7;
  if (cred.is_root())
    return (mask & kMayExec) && !inode.is_dir() && !(inode.mode & 0111) ? EACCES : 0;
  return acl_or_mode_permits(cred, inode, mask);
}

int may(const OpContext& cx, const Inode& inode, uint32_t mask) {
  if ((mask & kMayWrite) && cx.read_only() &&
      (inode.is_regular() || inode.is_dir() || inode.is_symlink()))
    return EROFS;
  return may(cx.cred(), inode, mask);
}

bool is_owner(const Credentials& cred, const Inode& inode) {
  return cred.is_root() || cred.uid == inode.uid;
}

bool is_member(const Credentials& cred, uint32_t gid) {
  return cred.is_root() || cred.in_group(gid);
}

bool is_sticky(const Credentials& cred, const Inode& dir, const Inode& victim) {
  return (dir.mode & S_ISVTX) && cred.uid != victim.uid && !is_owner(cred, dir);
}

Found<Dir*> resolve_parent(OpContext& cx, Ino ino, std::string_view name) {
  GET(Dir * dir, cx.dir(ino));
  if (int err = may(cx, dir->inode(), kMayExec)) return stop(err);
  if (int err = check_name(name)) return stop(err);
  return dir;
}

int may_add(const OpContext& cx, const Dir& dir) {
  if (dir.inode().nlink == 0) return ENOENT;
  return may(cx, dir.inode(), kMayWrite | kMayExec);
}

int may_remove(const OpContext& cx, const Dir& dir, const Inode& victim, bool as_dir) {
  if (int err = may(cx, dir.inode(), kMayWrite | kMayExec)) return err;
  if (is_sticky(cx.cred(), dir.inode(), victim)) return EPERM;
  if (as_dir != victim.is_dir()) return as_dir ? ENOTDIR : EISDIR;
  return 0;
}

int may_open(const OpContext& cx, const Inode& inode, uint32_t flags) {
  uint32_t mask = 0;
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      mask = flags & kOpenForExec ? kMayExec : kMayRead;
      break;
    case O_WRONLY:
      mask = kMayWrite;
      break;
    default:
      mask = kMayRead | kMayWrite;
  }
  if (truncates(inode, flags)) mask |= kMayWrite;
  if (inode.is_symlink()) return ELOOP;
  if (inode.is_dir() && ((mask & kMayWrite) || (flags & (O_CREAT | O_TRUNC)))) return EISDIR;
  if (inode.is_dir() && (mask & kMayExec)) return EACCES;
  if (int err = may(cx, inode, mask)) return err;
  if ((flags & O_NOATIME) && !is_owner(cx.cred(), inode)) return EPERM;
  return 0;
}

bool truncates(const Inode& inode, uint32_t flags) {
  return (flags & O_TRUNC) && inode.is_regular();
}

void clear_privileges_on_write(const Credentials& cred, bool always, Inode& inode) {
  if (!inode.is_regular()) return;
  clear_capabilities(inode);
  if (!always && cred.is_root()) return;
  inode.mode &= ~uint32_t{S_ISUID};
  // Without execution by the group set-gid meant mandatory locking: a member may keep it.
  if ((inode.mode & S_IXGRP) || !cred.in_group(inode.gid)) inode.mode &= ~uint32_t{S_ISGID};
}

void clear_privileges_on_chown(const Credentials& cred, Inode& inode) {
  if (inode.is_dir()) return;
  clear_capabilities(inode);
  inode.mode &= ~uint32_t{S_ISUID};
  if ((inode.mode & S_IXGRP) || !is_member(cred, inode.gid)) inode.mode &= ~uint32_t{S_ISGID};
}

}  // namespace graftfs::ops
