#include "server/ops/ops.h"
#include "server/ops/permission.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome access(OpContext& cx, const AccessArgs& args) {
  GET(Target target, cx.inode(args.ino));
  if (int err = may(cx, target.inode(), args.mask)) return stop(err);
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
