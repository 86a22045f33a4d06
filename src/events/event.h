#pragma once
// The log entry types, and what those that change the tree have in common.
//
// An event holds the new state of what it changes (entries and directory headers, each with the
// version of the directory that wrote it), never a description of an operation; applying it reads
// no store and obeys versions, so it is idempotent. Live operations and replay call the same
// apply(). Formats: docs/formats/events.md. One file an event type: link.cc, unlink.cc, ...

#include <absl/container/inlined_vector.h>

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "cache/cache.h"
#include "types/entry.h"

namespace graftfs {

enum class EventType : uint8_t {
  import_path = 16,
  import = 17,
  export_ = 18,
  ino_alloc = 19,
  ino_release = 20,
  inode = 21,
  link = 22,
  unlink = 23,
  rename = 24,
  session = 25,
  prepare = 26,
  commit = 27,
  abort = 28,
  close = 29,
  import_part = 30,
  import_end = 31,
  export_end = 32,
};

// A directory in an event. Full: the whole header. Otherwise a touch: version, times, link count
// and number of entries of a directory that the segment has named before. Dirty: the event
// changes it; clean: it is only trace.
struct DirItem {
  bool dirty = true;
  bool full = false;
  DirHeader header;
};

struct EntryItem {
  bool dirty = true;
  uint32_t dir = 0;  // index into the event's dirs
  std::string name;
  EntryValue value;  // kind null: the name is gone
};

enum ResultFlags : uint8_t {
  kResultCreated = 1,
  kResultOrphaned = 2,
};

// Inode, Link, Unlink, Rename, InoRelease, and inside Commit: a change of the tree. `session` and
// `seq` name the request it carries out (0: none), `result` and `result_flags` are what its answer
// needs; the session has had the answers to all its requests below `oldest`.
struct TreeEvent {
  EventType type = EventType::inode;
  SessionId session;
  uint64_t seq = 0;
  uint64_t oldest = 0;
  Ino result;
  uint8_t result_flags = 0;
  // No operation changes more; live events never grow past it, so references stay good.
  static constexpr size_t kMaxItems = 8;
  absl::InlinedVector<DirItem, kMaxItems> dirs;
  absl::InlinedVector<EntryItem, kMaxItems> entries;

  void clear() {
    dirs.clear();
    entries.clear();
  }
};

void encode_tree_event(ByteWriter& w, const TreeEvent& event);
// `event.type` is the caller's. Checks everything that a reader relies on.
bool decode_tree_event(ByteReader& r, TreeEvent& event);
// False: an item has no base to stand on.
bool apply_items(Cache& cache, Lsn lsn, const TreeEvent& event);

// Name of an inode in a hidden directory: its ino in hex, 16 digits.
std::string hidden_name(Ino ino);
Ino parse_hidden_name(std::string_view name);  // Ino{0} where it is none

}  // namespace graftfs
