#include "server/ops/ops.h"

namespace graftfs::ops {

Outcome release(OpContext& cx, const ReleaseArgs& args) {
  // Who holds it elsewhere is sent there.
  if (!cx.is_alone() && !cx.holds(args.ino)) {
    GET([[maybe_unused]] Target target, cx.inode(args.ino));
  }
  cx.release(args.ino, args.count);
  return {};
}

}  // namespace graftfs::ops
