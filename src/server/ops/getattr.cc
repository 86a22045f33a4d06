#include "server/ops/ops.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome getattr(OpContext& cx, const GetattrArgs& args) {
  GET(Target target, cx.inode(args.ino));
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
