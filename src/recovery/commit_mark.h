#pragma once
// How many write-backs the directory store has seen: a number that every write-back stores with
// what it commits, and that the journal's barriers repeat. A store that has fewer of them than the
// journal says has lost what the journal no longer holds.
//
// The number lies in object 0 of the directory store, which is no directory (no header, so no list
// shows it), under the name of the rank.

#include <cstdint>

#include "base/task.h"
#include "store/store.h"

namespace graftfs {

inline constexpr Ino kCommitMarks{0};

// To be committed with the write-back that makes it so many.
DirUpdate commit_mark(RankId rank, uint64_t commits);
// 0: nothing was ever written back. EUCLEAN where the mark is damaged.
Task<Result<uint64_t>> read_commit_mark(DirStore& store, RankId rank);

}  // namespace graftfs
