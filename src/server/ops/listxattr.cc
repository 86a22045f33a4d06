#include "server/ops/ops.h"
#include "server/ops/reply.h"
#include "server/ops/xattr.h"

namespace graftfs::ops {

Outcome listxattr(OpContext& cx, const ListxattrArgs& args) {
  GET(Target target, cx.inode(args.ino));
  std::string names;
  for (const auto& [name, value] : target.inode().xattrs()) {
    // trusted.* is hidden from everybody else.
    if (name.starts_with("trusted.") && !cx.cred().is_root()) continue;
    names.append(name).push_back('\0');
  }
  cx.reply().data = std::move(names);
  return reply_stat(cx, target.inode());
}

}  // namespace graftfs::ops
