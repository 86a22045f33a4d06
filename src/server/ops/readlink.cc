#include "server/ops/ops.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome readlink(OpContext& cx, const ReadlinkArgs& args) {
  GET(Target target, cx.inode(args.ino));
  if (!target.inode().is_symlink()) return stop(EINVAL);
  note_access(cx, target);
  cx.reply().data = target.inode().symlink();
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
