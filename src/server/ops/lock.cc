#include "server/locks.h"

#include "server/ops/ops.h"
#include "server/rank.h"

namespace graftfs::ops {

Outcome lock(OpContext& cx, const LockArgs& args) {
  if (args.range.start > args.range.end) return stop(EINVAL);
  GET([[maybe_unused]] Target target, cx.inode(args.range.ino));
  Locks& locks = cx.rank().locks();
  switch (args.op) {
    case LockOp::test:
      if (const LockTable::Held* held = locks.table().conflict(cx.session(), args.range))
        cx.reply().lock = held->range;
      return {};
    case LockOp::set:
    case LockOp::wait:
      return locks.acquire(cx.session(), args);
    case LockOp::unlock:
      locks.release(cx.session(), args.range);
      return {};
    case LockOp::cancel:
      locks.cancel(cx.session(), args);
      return {};
  }
  return stop(EINVAL);
}

}  // namespace graftfs::ops
