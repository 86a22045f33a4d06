#include "server/ops/new_inode.h"

#include "server/ops/permission.h"

namespace graftfs::ops {
namespace {

void set_owner_and_group(const Credentials& cred, const Inode& dir, Inode& inode) {
  inode.uid = cred.uid;
  inode.gid = cred.gid;
  if (!(dir.mode & S_ISGID)) return;
  inode.gid = dir.gid;
  if (inode.is_dir())
    inode.mode |= S_ISGID;
  else if ((inode.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !is_member(cred, dir.gid))
    inode.mode &= ~uint32_t{S_ISGID};
}

// A default ACL takes the place of the umask.
void inherit_acl(const Inode& dir, uint32_t umask, Inode& inode) {
  if (inode.is_symlink()) return;
  auto found = dir.xattrs().find(std::string(kAclDefault));
  Acl acl;
  if (found == dir.xattrs().end() || decode_acl(found->second, acl) != 0 || acl.empty()) {
    inode.mode &= ~(umask & 0777);
    return;
  }
  InodeExtra extra;
  if (inode.is_dir()) extra.xattrs[std::string(kAclDefault)] = found->second;
  if (!acl_inherit(acl, inode.mode)) extra.xattrs[std::string(kAclAccess)] = encode_acl(acl);
  inode.set_extra(std::move(extra));
}

}  // namespace

Inode new_inode(const OpContext& cx, const Dir& dir, Ino ino, uint32_t mode, uint32_t umask,
                Timespec now) {
  Inode inode;
  inode.ino = ino;
  inode.mode = mode;
  inode.nlink = inode.is_dir() ? 2 : 1;
  inode.atime = inode.mtime = inode.ctime = inode.btime = now;
  set_owner_and_group(cx.cred(), dir.inode(), inode);
  inherit_acl(dir.inode(), umask, inode);
  return inode;
}

}  // namespace graftfs::ops
