#include <sys/xattr.h>

#include "server/migrate.h"
#include "server/ops/ops.h"
#include "server/ops/reply.h"
#include "server/ops/xattr.h"

namespace graftfs::ops {

Outcome setxattr(OpContext& cx, const SetxattrArgs& args) {
  if (args.flags & ~uint32_t{XATTR_CREATE | XATTR_REPLACE}) return stop(EINVAL);
  if (args.value.size() > kXattrValueMax) return stop(E2BIG);
  GET(XattrSpace space, xattr_space(args.name));
  GET(Target target, cx.inode(args.ino));
  if (int err = may_set_xattr(cx, target.inode(), space)) return stop(err);
  if (space == XattrSpace::acl) {
    if (auto done = set_acl(cx, target, args.name, args.value); !done) return done;
    return reply_stat(cx, target.inode());
  }
  if (space == XattrSpace::pin) {
    if (args.value == "-1") return removexattr(cx, {args.ino, args.name});
    auto rank = parse_pin(args.value);
    if (!rank || !cx.is_rank(*rank)) return stop(EINVAL);
  }
  const bool exists = target.inode().xattrs().contains(args.name);
  if (exists && (args.flags & XATTR_CREATE)) return stop(EEXIST);
  if (!exists && (args.flags & XATTR_REPLACE)) return stop(ENODATA);
  InodeExtra extra = target.inode().copy_extra();
  extra.xattrs[args.name] = args.value;
  if (int err = check_xattr_total(extra)) return stop(err);
  if (cx.out_of_space()) return stop(ENOSPC);

  Change change(cx, EventType::inode);
  Inode& inode = change.edit(target);
  inode.set_extra(std::move(extra));
  inode.ctime = change.now();
  if (auto done = change.commit(args.ino); !done) return done;
  if (space == XattrSpace::pin) cx.pinned(args.ino);
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
