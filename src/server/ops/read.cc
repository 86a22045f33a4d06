#include "server/ops/ops.h"
#include "server/ops/reply.h"

namespace graftfs::ops {

Outcome read(OpContext& cx, const ReadArgs& args) {
  GET(Target target, cx.inode(args.ino));
  if (auto noted = note_access(cx, target); !noted) return noted;
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
