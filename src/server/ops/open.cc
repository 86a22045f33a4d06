#include "server/ops/open.h"

#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome open_target(OpContext& cx, const Target& target, uint32_t flags) {
  if (int err = may_open(cx, target.inode(), flags)) return stop(err);
  if (truncates(target.inode(), flags)) {
    if (auto owned = cx.own_write(target.ino()); !owned) return owned;
    Change change(cx, EventType::inode);
    Inode& inode = change.edit(target);
    inode.size = inode.blocks = 0;
    inode.mtime = inode.ctime = change.now();
    clear_privileges_on_write(cx.cred(), false, inode);
    if (auto done = change.commit(target.ino()); !done) return done;
  }
  cx.hold(target.ino(), 1);
  return reply_stat(cx, target.inode());
}

Outcome open(OpContext& cx, const OpenArgs& args) {
  GET(Target target, cx.inode(args.ino));
  return open_target(cx, target, args.flags);
}

}  // namespace graftfs::ops
