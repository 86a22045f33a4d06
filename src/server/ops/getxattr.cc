#include "server/ops/ops.h"
#include "server/ops/reply.h"
#include "server/ops/xattr.h"

namespace graftfs::ops {

Outcome getxattr(OpContext& cx, const GetxattrArgs& args) {
  GET(XattrSpace space, xattr_space(args.name));
  GET(Target target, cx.inode(args.ino));
  if (int err = may_get_xattr(cx, target.inode(), space)) return stop(err);
  const auto& xattrs = target.inode().xattrs();
  auto found = xattrs.find(args.name);
  if (found == xattrs.end()) return stop(ENODATA);
  cx.reply().data = found->second;
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
