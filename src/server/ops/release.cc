#include "server/ops/ops.h"

namespace graftfs::ops {

Outcome release(OpContext& cx, const ReleaseArgs& args) {
  cx.release(args.ino, args.count);
  return {};
}

}  // namespace graftfs::ops
