#include "server/ops/ops.h"
#include "server/ops/reply.h"
#include "server/ops/xattr.h"

namespace graftfs::ops {

Outcome removexattr(OpContext& cx, const RemovexattrArgs& args) {
  GET(XattrSpace space, xattr_space(args.name));
  GET(Target target, cx.inode(args.ino));
  if (int err = may_set_xattr(cx, target.inode(), space)) return stop(err);
  if (space == XattrSpace::acl) {
    if (auto done = set_acl(cx, target, args.name, {}); !done) return done;
    return reply_stat(cx, target.inode());
  }
  if (!target.inode().xattrs().contains(args.name)) return stop(ENODATA);
  InodeExtra extra = target.inode().copy_extra();
  extra.xattrs.erase(args.name);

  Change change(cx, EventType::inode);
  Inode& inode = change.edit(target);
  inode.set_extra(std::move(extra));
  inode.ctime = change.now();
  if (auto done = change.commit(args.ino); !done) return done;
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
