#pragma once
// From a journal to a rank's cache and state (docs/recovery.md).
//
// Phase 1 replays the journal and reads nothing else; the cache becomes a forest of fragments
// dangling below import points. Phase 2 attaches what still dangles, by asking the store where it
// hangs. Recovery writes nothing, so it may be cut off and begun again at any point.

#include <deque>
#include <functional>
#include <string>

#include "cache/cache.h"
#include "events/rank_state.h"
#include "journal/journal.h"
#include "journal/scan.h"

namespace graftfs {

struct RecoveryProgress {
  uint64_t events_done = 0;
  uint64_t bytes_done = 0, bytes_total = 0;
  Nanos elapsed = 0;
  Nanos left = 0;  // estimate
};

struct RecoveryOptions {
  uint64_t volume = 0;
  RankId rank;
  bool unsynced_survived = false;
  bool accept_loss = false;  // go on without what is damaged
  // Writes again what is kept and was not known to be durable, where unsynced bytes are in doubt:
  // after a sync that failed they may be clean in the page cache and not on the disk, and another
  // sync would not write them. For the journal's owner only.
  bool rewrite_doubtful = false;
  bool must_exist = false;  // the volume has had a journal: finding none is damage
  std::string volume_name;  // as the user named it, for messages
  SegmentId from;           // replay from this major segment (tests); 0: from the oldest
  std::function<void(const RecoveryProgress&)> progress;  // about ten times a second; may be empty
};

struct Recovered {
  bool fresh = false;  // there was no journal
  Lsn last;            // newest event that was kept
  Epoch epoch;         // of the newest owner seen
  SegmentId newest;    // newest segment on the device
  std::deque<SegmentState> live;
  uint64_t events = 0;
  uint64_t bytes = 0;
  Nanos scan = 0, replay = 0, attach = 0;
  uint64_t commits = 0;               // write-backs that the store has seen
  uint64_t cut = 0;                   // events behind `last` that were not kept
  std::vector<std::string> messages;  // for people: what was cut off, what was lost
};

// Fails with EUCLEAN and a sentence where the journal is damaged and loss was not accepted.
Task<Result<Recovered>> recover(Executor& executor, JournalDevice& device, DirStore& store,
                                Cache& cache, RankState& state, RecoveryOptions options);

// Phase 1 alone: replays what the scan found, up to and including `last`. `device` names files in
// messages.
Task<Result<uint64_t>> replay(Executor& executor, JournalDevice& device, const JournalScan& scan,
                              Lsn last, Cache& cache, RankState& state,
                              const RecoveryOptions& options);
// Phase 2 alone.
Task<Result<void>> attach(DirStore& store, Cache& cache, const RankState& state);

}  // namespace graftfs
