#include <algorithm>

#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {
namespace {

int check_size(const OpContext& cx, const Inode& inode, const SetattrArgs& args) {
  if (inode.is_dir()) return EISDIR;
  if (!inode.is_regular()) return EINVAL;
  if (!args.by_handle)
    if (int err = may(cx, inode, kMayWrite)) return err;
  return args.size > uint64_t{kMaxFileSize} ? EFBIG : 0;
}

int check_owner(const OpContext& cx, const Inode& inode, const SetattrArgs& args) {
  const Credentials& cred = cx.cred();
  if (cred.is_root()) return 0;
  if ((args.valid & kSetUid) && (cred.uid != inode.uid || args.uid != inode.uid)) return EPERM;
  if ((args.valid & kSetGid) &&
      (cred.uid != inode.uid || (args.gid != inode.gid && !cred.in_group(args.gid))))
    return EPERM;
  return 0;
}

int check_mode(const OpContext& cx, const Inode& inode) {
  if (inode.is_symlink()) return EOPNOTSUPP;
  return is_owner(cx.cred(), inode) ? 0 : EPERM;
}

// The owner sets any times; whoever may write may set both to now. The kernel writes back the
// times of an open file by its handle.
int check_times(const OpContext& cx, const Inode& inode, const SetattrArgs& args) {
  if (args.by_handle || is_owner(cx.cred(), inode)) return 0;
  constexpr uint32_t touch = kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow;
  bool truncation = (args.valid & kSetSize) && !(args.valid & (kSetAtime | kSetCtime)) &&
                    (args.valid & kSetMtimeNow);
  if (truncation) return 0;  // its own permission was checked
  if ((args.valid & touch) == touch && !(args.valid & kSetCtime)) return may(cx, inode, kMayWrite);
  return EPERM;
}

// chown(path, -1, -1), and what the kernel sends before a write that takes set-uid and set-gid. The
// first is an owner's to do; the write says itself what it takes. So who is neither owner nor
// root changes nothing here.
bool is_empty(const SetattrArgs& args) { return args.valid == 0; }

int check(const OpContext& cx, const Inode& inode, const SetattrArgs& args) {
  if (cx.read_only()) return EROFS;
  if (args.valid & kSetSize)
    if (int err = check_size(cx, inode, args)) return err;
  if (args.valid & (kSetUid | kSetGid))
    if (int err = check_owner(cx, inode, args)) return err;
  if (args.valid & kSetMode)
    if (int err = check_mode(cx, inode)) return err;
  if (args.valid & (kSetAtime | kSetMtime | kSetCtime))
    if (int err = check_times(cx, inode, args)) return err;
  return 0;
}

void set_mode(const Credentials& cred, uint32_t mode, Inode& inode) {
  if (!is_member(cred, inode.gid)) mode &= ~uint32_t{S_ISGID};
  inode.mode = (inode.mode & S_IFMT) | (mode & 07777);
  auto found = inode.xattrs().find(std::string(kAclAccess));
  Acl acl;
  if (found == inode.xattrs().end() || decode_acl(found->second, acl) != 0) return;
  acl_chmod(acl, mode);
  InodeExtra extra = inode.copy_extra();
  extra.xattrs[std::string(kAclAccess)] = encode_acl(acl);
  inode.set_extra(std::move(extra));
}

// The caller knows what the data store holds, or else a shorter file holds no more than its size.
uint64_t blocks_after(const Inode& inode, const SetattrArgs& args) {
  constexpr uint64_t page = 4096, block = 512;
  if (args.blocks) return args.blocks;
  return std::min(inode.blocks, (args.size + page - 1) / page * (page / block));
}

void apply(const Credentials& cred, const SetattrArgs& args, Timespec now, Inode& inode) {
  inode.ctime = args.valid & kSetCtime ? args.ctime : now;
  if (args.valid & kSetSize) {
    inode.blocks = blocks_after(inode, args);
    inode.size = args.size;
    inode.mtime = now;
    clear_privileges_on_write(cred, args.valid & kKillSuidgid, inode);
  }
  // A change of owner comes with kKillSuidgid, too, but has its own rule.
  if ((args.valid & (kSetUid | kSetGid)) || (is_empty(args) && is_owner(cred, inode))) {
    clear_privileges_on_chown(cred, inode);
    if (args.valid & kSetUid) inode.uid = args.uid;
    if (args.valid & kSetGid) inode.gid = args.gid;
  } else if ((args.valid & kKillSuidgid) && !(args.valid & kSetSize)) {
    clear_privileges_on_write(cred, true, inode);
  }
  if (args.valid & kSetMode) set_mode(cred, args.mode, inode);
  if (args.valid & kSetAtime) inode.atime = args.valid & kSetAtimeNow ? now : args.atime;
  if (args.valid & kSetMtime) inode.mtime = args.valid & kSetMtimeNow ? now : args.mtime;
}

}  // namespace

Outcome setattr(OpContext& cx, const SetattrArgs& args) {
  GET(Target target, cx.inode(args.ino));
  if (int err = check(cx, target.inode(), args)) return stop(err);

  Change change(cx, EventType::inode);
  apply(cx.cred(), args, change.now(), change.edit(target));
  if (auto done = change.commit(args.ino); !done) return done;
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
