#pragma once
// The ends of operations.

#include <fcntl.h>

#include "base/check.h"
#include "server/op_context.h"

namespace graftfs::ops {

inline Outcome reply_stat(OpContext& cx, const Inode& inode) {
  cx.reply().stat = inode;
  return {};
}

// Of an inode that another rank serves: that one is to be asked for its attributes.
inline Outcome reply_elsewhere(OpContext& cx, Ino ino, uint32_t type, RankId home) {
  cx.reply().stat = Stat{};
  cx.reply().stat.ino = ino;
  cx.reply().stat.mode = type;
  cx.reply().partial = true;
  cx.reply().home = home;
  return {};
}

// Of an inode that was just changed, wherever it lives now: it is surely cached.
inline Outcome reply_stat(OpContext& cx, Ino ino) {
  auto target = cx.inode(ino);
  CHECK(target.has_value(), "inode {} is not cached after its change", ino);
  return reply_stat(cx, target->inode());
}

// Whether a read at `now` moves atime (mount option relatime: only where it would not be later
// than a change, or is a day old).
inline bool is_relatime_due(const Inode& inode, Timespec now) {
  constexpr int64_t day_s = 24 * 60 * 60;
  return inode.atime <= inode.mtime || inode.atime <= inode.ctime ||
         now.sec - inode.atime.sec >= day_s;
}

// The inode was read. Quietly does nothing where atime cannot be written down; stops where others
// have to be asked first.
Outcome note_access(OpContext& cx, const Target& target);

}  // namespace graftfs::ops
