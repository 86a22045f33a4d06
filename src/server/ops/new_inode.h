#pragma once
// What a new inode starts with.

#include "server/op_context.h"

namespace graftfs::ops {

// The inode that the caller makes in `dir`: owner, group (the directory's where that is set-gid),
// mode (type included) less `umask` or limited by the directory's default ACL, inherited ACLs,
// times. nlink is 1, of a directory 2.
Inode new_inode(const OpContext& cx, const Dir& dir, Ino ino, uint32_t mode, uint32_t umask,
                Timespec now);

}  // namespace graftfs::ops
