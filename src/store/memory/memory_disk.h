#pragma once
// The simulated disk: what a node's store is written to, and what is left when the node dies.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/executor.h"
#include "store/memory/memory_faults.h"
#include "store/memory/sector_file.h"
#include "store/store.h"

namespace graftfs {

enum class CrashKind : uint8_t {
  process_death,  // what was completed stays
  power_cut,      // of what was completed and not synced, any part may be missing
};

struct MemoryDiskOptions {
  uint64_t segment_capacity = 1 << 20;
  uint64_t capacity = UINT64_MAX;  // bytes of everything; ENOSPC beyond
};

// How a call that takes effect goes wrong.
struct Effect {
  FaultKind fault = FaultKind::none;
  Random* random = nullptr;  // set where the fault needs one
  bool in_order = false;     // a torn write has its first sectors, and none behind them
  bool crash = false;        // it takes effect because of one
};

// Held by shared_ptr, by the simulator and by every MemoryStore on it; outlives nodes. One thread.
// A call of a store is an operation in flight from its issue until the executor runs its
// completion; that is when it takes effect, and when its caller learns of it. Operations on the
// data of one ino take effect in the order of their issue.
class MemoryDisk {
 public:
  explicit MemoryDisk(MemoryDiskOptions options = {}) : options_(options) {}

  // To be called after the dead node's MemoryStore was destroyed (and, for a power cut, all of
  // them): settles every operation in flight of stores that are gone at random (kept, torn where
  // it is a write, dropped; a commit of several directories: any subset, each of them whole) and
  // then, for a power cut, everything that was not synced.
  void crash(Random& random, CrashKind kind);

  // The machine of some ranks loses its power, and with it what they wrote and did not sync to
  // their journals. To be called after their stores were destroyed.
  void crash_of(Random& random, const std::vector<RankId>& ranks);

  // What is stored, without what is in flight.
  std::shared_ptr<MemoryDisk> clone() const;

  MemoryFaults& faults() { return faults_; }
  // Replaces the script; counting starts anew.
  void script(std::vector<MemoryFaults::Scripted> faults);
  void set_capacity(uint64_t bytes) { options_.capacity = bytes; }
  uint64_t capacity() const { return options_.capacity; }
  uint64_t used() const;
  // How many calls have reported success and did something else.
  uint64_t lies() const { return lies_; }
  uint64_t calls(StoreCall call) const { return calls_[static_cast<size_t>(call)]; }

  // A sync of the file's data has failed, and dropped what it should have written.
  bool sync_has_failed(Ino ino) const {
    auto it = data_.find(ino);
    return it != data_.end() && it->second.poisoned;
  }

  // Bits that flip at rest. False where there is nothing to flip.
  bool flip_journal_bit(RankId rank, SegmentId segment, uint64_t bit);
  bool flip_header_bit(Ino dir, uint64_t bit);
  bool flip_entry_bit(Ino dir, const EntryKey& key, uint64_t bit);
  bool flip_data_bit(Ino ino, uint64_t bit);
  bool flip_seal_bit(Ino ino, uint64_t bit);
  // Of each file that has checksums for all that is stored, how many bytes that is (all, where the
  // checksums are damaged).
  std::map<Ino, uint64_t> sealed() const;
  // What a test may pick from.
  std::vector<SegmentId> segments(RankId rank) const;
  // Whether the next owner will be told that unsynced writes may be missing.
  bool in_doubt(RankId rank) const {
    auto it = journals_.find(rank);
    return it == journals_.end() || it->second.in_doubt;
  }
  // A key of the state store, as it is; "" where there is none.
  std::string state(const std::string& key) const {
    auto it = state_.find(key);
    return it == state_.end() ? std::string() : it->second.value;
  }
  // A directory's header and entries, as they would be read.
  std::optional<std::string> header_bytes(Ino dir) const;
  std::map<EntryKey, std::string> entry_bytes(Ino dir) const;
  // All of a segment, as it would be read.
  std::string journal_bytes(RankId rank, SegmentId segment) const;
  std::vector<Ino> dirs() const;
  std::vector<EntryKey> entries(Ino dir) const;

 private:
  friend class MemoryNode;
  friend class MemoryDirs;
  friend class MemoryJournal;
  friend class MemoryData;
  friend class MemoryState;
  friend class MemoryStore;

  struct Dir {
    std::optional<std::string> header;
    std::map<EntryKey, std::string> entries;
  };
  struct Journal {
    std::map<SegmentId, SectorFile> segments;
    uint64_t owner = 0;              // the token of the last own_journal()
    std::weak_ptr<void> owner_node;  // expired: the owner's process has ended
    bool ever_owned = false;
    bool in_doubt = false;  // unsynced writes may have been lost since then
    // The doubt ends when a segment that the owner made is synced: its start says what counts of
    // what was found. Until then the next owner doubts as well.
    std::optional<SegmentId> made;
    bool sync_failed = false;  // of this owner's
  };
  struct Data {
    SectorFile bytes;
    uint64_t size = 0;  // nothing is stored behind it
    // Its seal's bytes: [0] is durable, the last one is what reads see, a power cut leaves any.
    std::vector<std::string> seals{std::string()};
    bool poisoned = false;  // a sync failed; until every store on it was opened again
  };
  struct Operation {
    StoreCall call;
    uint64_t order = 0;  // operations of the same order key take effect in turn; 0: no order
    std::weak_ptr<void> node;
    bool applied = false;
    std::move_only_function<void(const Effect&)> apply;
    Effect effect;
    std::shared_ptr<std::vector<DirUpdate>> updates;  // of a commit, for the crash
  };

  uint64_t next_seq() { return ++seq_; }
  FaultKind scripted(FaultKind fault);
  FaultKind draw(StoreCall call, Random* random, Nanos& latency);
  // Makes the operation take effect (and before it those it must not overtake) and forgets it.
  void finish(uint64_t id);
  bool fits(uint64_t more) const { return used() + more <= options_.capacity; }
  void apply_update(DirUpdate& update);
  // Writes were lost while somebody owned them: the next owner doubts what was not synced.
  void distrust_journals() {
    for (auto& [rank, journal] : journals_) journal.in_doubt = journal.sync_failed = true;
  }
  static uint64_t bytes_of(const DirUpdate& update);

  MemoryDiskOptions options_;
  MemoryFaults faults_;
  std::array<uint64_t, kStoreCalls> calls_{};
  std::array<uint64_t, kStoreCalls> calls_since_script_{};
  uint64_t lies_ = 0;
  uint64_t seq_ = 0;
  uint64_t next_operation_ = 1;
  uint64_t next_owner_ = 1;
  std::map<uint64_t, Operation> in_flight_;

  std::map<Ino, Dir> dirs_;
  std::map<Ino, Location> locations_;
  uint64_t dir_bytes_ = 0;
  // What a power cut leaves of the directories while the newest commit is in a volatile cache.
  struct Durable {
    std::map<Ino, Dir> dirs;
    std::map<Ino, Location> locations;
    uint64_t dir_bytes;
  };
  std::optional<Durable> durable_dirs_;
  std::map<RankId, Journal> journals_;
  std::map<Ino, Data> data_;
  std::set<Ino> unsynced_;       // whose bytes may be unsynced, or are poisoned
  std::map<Ino, Data> removed_;  // files that a power cut may bring back
  uint64_t data_sectors_ = 0;
  std::map<std::string, StateValue> state_;
};

}  // namespace graftfs
