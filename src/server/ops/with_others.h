#pragma once
// What operations that concern several ranks have in common (docs/protocols/two_party.md).

#include "server/op_context.h"

namespace graftfs::ops {

// The name is busy here while the others are asked.
Asked mark_name(OpContext& cx, const Dir& dir, std::string_view name);
Asked ask_drop_link(const NamedTarget& named);
Asked ask_drop_dir(const NamedTarget& named);

// What can be said before the inode's own rank was asked: EACCES, then ENOTDIR, EISDIR.
int may_take_remote(OpContext& cx, const Dir& dir, const NamedTarget& named, bool as_dir);
// With the attributes that it has told, all of may_remove().
int may_remove_stat(OpContext& cx, const Dir& dir, const Stat& victim, bool as_dir);

// Another rank's directory that hung in `dir` is gone from there, or hangs there now.
void drop_bound(OpContext& cx, Change& change, const Dir& dir, Ino ino);
void add_bound(OpContext& cx, Change& change, const Dir& dir, Ino ino, RankId rank);

}  // namespace graftfs::ops
