#include "server/ops/new_inode.h"
#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome symlink(OpContext& cx, const SymlinkArgs& args) {
  if (args.target.empty()) return stop(ENOENT);
  if (args.target.size() >= kPathMax) return stop(ENAMETOOLONG);
  GET(Dir * dir, resolve_parent(cx, args.dir, args.name));
  GET(Dentry * there, cx.entry(*dir, args.name));
  if (there) return stop(EEXIST);
  if (int err = may_add(cx, *dir)) return stop(err);
  if (cx.out_of_space()) return stop(ENOSPC);
  GET(Ino ino, cx.new_ino());

  Change change(cx, EventType::link);
  EntryValue value{.kind = EntryKind::primary, .ino = ino, .type = S_IFLNK};
  value.inode = new_inode(cx, *dir, ino, S_IFLNK | 0777, 0, change.now());
  value.inode.size = args.target.size();
  value.inode.set_extra({.symlink = args.target, .xattrs = {}});
  change.touch(*dir);
  change.put(*dir, args.name, std::move(value));
  if (auto done = change.commit(ino); !done) return done;
  return reply_stat(cx, ino);
}

}  // namespace graftfs::ops
