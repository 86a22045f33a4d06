#pragma once
// What the cache holds: directories and their entries.

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "cache/entry_index.h"
#include "types/entry.h"

namespace graftfs {

struct Dir;

// Something that differs from the store: a link in the cache's list of dirty items, oldest first.
struct DirtyItem {
  DirtyItem* prev = nullptr;
  DirtyItem* next = nullptr;
  Lsn since;  // the oldest event that is not yet in the store
  bool is_header = false;

  bool dirty() const { return next != nullptr; }
};

// One name. An entry of kind null is a name known not to exist; while it is dirty the store still
// has to be told.
struct Dentry : DirtyItem {
  EntryKind kind = EntryKind::null;
  bool referenced = false;  // looked at since the clock hand last passed
  uint32_t type = 0;        // S_IFMT bits
  Dir* dir = nullptr;
  NameHash hash = 0;
  Dentry* same_hash = nullptr;  // another name with this hash, in name order
  Version version;
  Ino ino;
  std::string name;
  Inode inode;  // primary only
};

// A directory. Its own inode lives here, not with its parent. In the cache it hangs below its
// parent (`parent`), or dangles (null): the root of a subtree, or during recovery.
struct Dir : DirtyItem {
  Dir() { is_header = true; }

  Ino ino() const { return header.inode.ino; }
  Inode& inode() { return header.inode; }
  const Inode& inode() const { return header.inode; }

  DirHeader header;
  Dir* parent = nullptr;
  uint32_t children = 0;     // cached directories whose parent this is: they pin it
  uint32_t pins = 0;         // fetches and write-backs under way: nothing is dropped meanwhile
  uint32_t dirty_items = 0;  // its entries and its header
  bool referenced = false;
  bool fetched = false;    // the store's header has been seen (or there surely is none)
  bool damaged = false;    // what the store has of it cannot be read: its items stay in the journal
  bool discarded = false;  // it is not here any more, and only waits to be freed
  bool frozen = false;     // write-back must wait (it is being migrated); its items are re-logged
  RankId foreign = kOurs;  // a stub: a subtree of this rank begins here (Cache::put_stub)
  EntryIndex entries;

  static constexpr RankId kOurs{0xffff};
  bool is_foreign() const { return foreign != kOurs; }

  // Hashes in [known_from, known_to) are all cached: a name in there that has no dentry does not
  // exist. Complete: [0, kEndHash).
  NameHash known_from = 0;
  NameHash known_to = 0;

  // Who changed it last: a reply that shows it must wait for these (architecture: nothing is
  // revealed before it is durable).
  Lsn last_lsn;            // newest event that touched it
  SessionId last_session;  // by whom
  Lsn other_lsn;           // newest event by anybody else

  // Where the hashes of entries that change are noted, while a copy is made of it; null: nowhere.
  std::vector<NameHash>* changes = nullptr;

  SegmentId traced;         // the newest journal segment that names it
  uint32_t trace_uses = 0;  // events of that segment that needed it named
  // Eviction ring.
  Dir* ring_prev = nullptr;
  Dir* ring_next = nullptr;

  static constexpr NameHash kEndHash = NameHash{1} << 63;
  bool complete() const { return known_from == 0 && known_to == kEndHash; }
  bool knows(NameHash hash) const { return hash >= known_from && hash < known_to; }
  void set_complete() {
    known_from = 0;
    known_to = kEndHash;
  }
  void forget_known() { known_from = known_to = 0; }
};

}  // namespace graftfs
