#include "server/ops/new_inode.h"
#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {
namespace {

// The type that is meant; 0 stands for a regular file.
uint32_t node_type(uint32_t mode) { return mode & S_IFMT ? mode & S_IFMT : S_IFREG; }

int check_type(const Credentials& cred, uint32_t type, uint32_t rdev) {
  switch (type) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      return 0;
    case S_IFCHR:
      // Anybody may make the whiteout of an overlay.
      return rdev == 0 || cred.is_root() ? 0 : EPERM;
    case S_IFBLK:
      return cred.is_root() ? 0 : EPERM;
    case S_IFDIR:
      return EPERM;
    default:
      return EINVAL;
  }
}

bool is_device(uint32_t type) { return type == S_IFCHR || type == S_IFBLK; }

}  // namespace

Outcome mknod(OpContext& cx, const MknodArgs& args) {
  uint32_t type = node_type(args.mode);
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) return stop(EEXIST);
  if (int err = may_add(cx, *dir)) return stop(err);
  if (int err = check_type(cx.cred(), type, args.rdev)) return stop(err);
  if (cx.out_of_space()) return stop(ENOSPC);
  GET(Ino ino, cx.new_ino());

  Change change(cx, EventType::link);
  EntryValue value{.kind = EntryKind::primary, .ino = ino, .type = type};
  value.inode = new_inode(cx, *dir, ino, type | (args.mode & 07777), args.umask, change.now());
  if (is_device(type)) value.inode.rdev = args.rdev;
  change.touch(*dir);
  change.put(*dir, args.name, std::move(value));
  if (auto done = change.commit(ino); !done) return done;
  // A kernel makes a file that it opens with it, too.
  if (type == S_IFREG) cx.grant_write(ino);
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
