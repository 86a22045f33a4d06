#pragma once
// What the enumerator runs: sequences of operations with syncs between, in rounds that each end
// in one crash.

#include <cstdint>
#include <string>
#include <vector>

#include "operation.h"

namespace graftfs::crash {

enum class SyncKind : uint8_t { none, file, parent, all };
inline constexpr int kSyncKinds = 4;

struct Sequence {
  std::vector<Operation> ops;
  std::vector<SyncKind> after;  // of each operation
  bool ends_synced() const { return after.back() != SyncKind::none; }
};
std::string describe(const Sequence& sequence);

struct Round {
  std::vector<Sequence> sequences;  // one after the other, in a directory each
  bool midway = false;  // crashed at a random moment while they run; else right after the last
};

// All sequences of one operation, with every placement of a sync.
std::vector<Sequence> single_operations();
// `count` different sequences of two, of all those there are, chosen by `seed`.
std::vector<Sequence> pairs(size_t count, uint64_t seed);

// Makes rounds of them. Where only what was synced is promised (`lossy`), a round has one sequence
// that ends with a sync, its last: the crash follows directly, and no later sync makes up for it.
// Else a round ends with a sequence that has no sync at its end.
std::vector<Round> make_rounds(std::vector<Sequence> sequences, bool lossy, size_t per_round);
// `count` rounds of randomly chosen sequences that are crashed while they run.
std::vector<Round> midway_rounds(const std::vector<Sequence>& sequences, size_t count,
                                 size_t per_round, uint64_t seed);

}  // namespace graftfs::crash
