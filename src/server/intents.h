#pragma once
// What a participant does for an operation of another rank: one function for each kind of intent,
// written like an operation (resolve, permission, POSIX checks, change).

#include "server/marks.h"
#include "server/op_context.h"

namespace graftfs::intents {

// An error, and at which of the checks: where several parties refuse, the lowest phase is the
// operation's answer.
// (Of what is another rank's, `phase` says which intent that is.)
inline constexpr uint32_t kResolve = 0, kMay = 1, kPosix = 2;

// Builds this rank's part of the operation; nothing is logged. `check`: whether it may be done, too
// (before it is promised); afterwards only how. `values`: what each intent has found, as it was.
Outcome build(OpContext& cx, Change& change, RankId coordinator,
              const std::vector<msg::Intent>& intents, bool check,
              std::vector<msg::IntentValue>& values, uint32_t& phase);

// A directory of this rank hangs in another rank's directory from now on, under that name. One that
// was inside of an import becomes a root.
void hang_elsewhere(const Rank& rank, Change& change, Dir& dir, Ino parent, std::string_view name);

// What nobody else may touch while it is promised.
std::vector<Mark> marks_of(const std::vector<msg::Intent>& intents);

// What becomes of bounds below a directory that goes from one import to another.
void move_bounds(const Rank& rank, Change& change, const Dir& dir, Ino from, Ino to);

}  // namespace graftfs::intents
