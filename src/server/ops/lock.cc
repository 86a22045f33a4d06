#include "server/locks.h"

#include "server/ops/ops.h"
#include "server/ops/reply.h"
#include "server/rank.h"

namespace graftfs::ops {

Outcome lock(OpContext& cx, const LockArgs& args) {
  if (args.range.start > args.range.end) return stop(EINVAL);
  GET(Target target, cx.inode(args.range.ino));
  Locks& locks = cx.rank().locks();
  switch (args.op) {
    case LockOp::test:
      if (const LockTable::Held* held = locks.table().conflict(cx.session(), args.range))
        cx.reply().lock = held->range;
      return {};
    case LockOp::set:
    case LockOp::wait:
      if (auto granted = locks.acquire(cx.session(), args); !granted) return granted;
      if (args.range.kind != LockKind::data) return {};
      return reply_stat(cx, target.inode());  // whoever may write has to know the size
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
