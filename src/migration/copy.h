#pragma once
// What of a cached subtree the importer has got, and what it has not: the exporter's copying.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <memory>
#include <set>
#include <vector>

#include "cache/cache.h"
#include "events/rank_state.h"
#include "types/wire.h"

namespace graftfs::migration {

// A subtree as it is cached: its root and what hangs below, down to where other imports begin.
// Parents first.
std::vector<Dir*> subtree_of(const Cache& cache, const RankState& state, const Dir& root);

// One for an export, in the rank's thread, while the root stays cached. Directories that it has
// sent it pins, so that names which go away leave their null entries behind until the importer
// knows, too. Destroying it unpins and lets write-back go on.
//
// Goes through the subtree once, and then again and again through the entries that have changed
// since (which directories note), so that a round costs what has changed. What is sent a second
// time is always sent as dirty, also where the store has it by now: the importer's journal must not
// keep the older one as the newest.
class SubtreeCopy {
 public:
  // `part_bytes`: a part is about as large as that.
  SubtreeCopy(Cache& cache, const RankState& state, Ino root, size_t part_bytes);
  ~SubtreeCopy() { release(); }
  SubtreeCopy(const SubtreeCopy&) = delete;
  SubtreeCopy& operator=(const SubtreeCopy&) = delete;

  // The next part, without id and number. False: the importer has everything.
  bool next(msg::MigratePart& part);
  // Items that it does not have; counting stops at `enough`.
  uint64_t unsent(uint64_t enough);
  uint32_t rounds() const { return rounds_; }
  // Something came back that had gone: this copy cannot say any more what the importer has.
  bool broken() const { return broken_; }

  // Write-back takes no more of the subtree (also of what is new in it, where it is called again),
  // or may again.
  void hold_off(bool off);
  // Somebody else is at work in it: a fetch, or a write-back that was under way.
  bool in_use() const;

  std::vector<Ino> dirs() const;
  void release();

 private:
  struct Sent {
    Version version;  // of the directory, when it was last gone through
    bool pinned = false;
    // Entries that have changed since it was first come to, by their hashes (Dir::changes).
    std::unique_ptr<std::vector<NameHash>> changes = std::make_unique<std::vector<NameHash>>();
  };
  void look();  // what has to be gone through
  void visit(Dir& dir, msg::MigratePart& part, size_t& bytes);
  void send_first(Dir& dir, Sent& sent, msg::PartDir& out, size_t& bytes);
  void send_changes(Dir& dir, Sent& sent, msg::PartDir& out, size_t& bytes);
  void unpin(Dir& dir, Sent& sent);
  void bury(Ino ino, Sent& sent, msg::MigratePart& part);

  Cache& cache_;
  const RankState& state_;
  Ino root_;
  size_t part_bytes_;
  absl::flat_hash_map<uint64_t, Sent> sent_;  // gone through at least once, or being so
  absl::flat_hash_set<uint64_t> complete_;    // of these, once from end to end
  absl::flat_hash_set<uint64_t> gone_;        // sent, and not in the subtree any more
  std::set<Ino> held_;                        // from write-back, and pinned for that
  std::vector<Ino> todo_;
  std::vector<Ino> left_;  // to be buried
  size_t at_ = 0;
  NameHash cursor_ = 0;  // within todo_[at_], the first time
  Version pass_;         // of that directory, when it was come to for the first time
  uint32_t rounds_ = 0;
  bool broken_ = false;
};

}  // namespace graftfs::migration
