#pragma once
// The operations of a rank, one file each.

#include "server/op_context.h"

namespace graftfs::ops {

Outcome lookup(OpContext& cx, const LookupArgs& args);
Outcome lookup_parent(OpContext& cx, const LookupParentArgs& args);
Outcome getattr(OpContext& cx, const GetattrArgs& args);
Outcome setattr(OpContext& cx, const SetattrArgs& args);
Outcome mknod(OpContext& cx, const MknodArgs& args);
Outcome mkdir(OpContext& cx, const MkdirArgs& args);
Outcome create(OpContext& cx, const CreateArgs& args);
Outcome symlink(OpContext& cx, const SymlinkArgs& args);
Outcome readlink(OpContext& cx, const ReadlinkArgs& args);
Outcome link(OpContext& cx, const LinkArgs& args);
Outcome unlink(OpContext& cx, const UnlinkArgs& args);
Outcome rmdir(OpContext& cx, const RmdirArgs& args);
Outcome rename(OpContext& cx, const RenameArgs& args);
// Where other ranks have a part in it.
Outcome rename_between(OpContext& cx, const RenameArgs& args);
Outcome open(OpContext& cx, const OpenArgs& args);
Outcome release(OpContext& cx, const ReleaseArgs& args);
Outcome wrote(OpContext& cx, const WroteArgs& args);
Outcome read(OpContext& cx, const ReadArgs& args);
Outcome readdir(OpContext& cx, const ReaddirArgs& args);
Outcome getxattr(OpContext& cx, const GetxattrArgs& args);
Outcome listxattr(OpContext& cx, const ListxattrArgs& args);
Outcome setxattr(OpContext& cx, const SetxattrArgs& args);
Outcome removexattr(OpContext& cx, const RemovexattrArgs& args);
Outcome access(OpContext& cx, const AccessArgs& args);
Outcome lock(OpContext& cx, const LockArgs& args);

}  // namespace graftfs::ops
