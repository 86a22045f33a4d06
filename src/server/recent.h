#pragma once
// Who has changed what lately, name by name.

#include <absl/container/flat_hash_map.h>

#include <deque>

#include "base/ids.h"
#include "events/event.h"
#include "types/entry.h"

namespace graftfs {

// In `posix` a reply may leave before its event is durable, but it shows nothing that somebody else
// has done and a machine may still lose. A Dir knows that of all that is in it; by that alone, two
// clients that make files in one directory would wait for each other's syncs, although neither
// sees what the other one makes. So this keeps, for each name that a change not yet durable
// concerns (and for each directory's own attributes, without those that its names move: times,
// size, links), who has made it.
//
// Owned by the Rank, on its thread. It begins to take notes when there is a second client, so of
// earlier events it knows nothing. A crash leaves nothing of it, and nothing is not durable then.
class Recent {
 public:
  // Stands for the directory itself.
  static constexpr NameHash kSelf = 0;
  static_assert(kSelf < kFirstHash);

  void note(const TreeEvent& event, Lsn lsn);
  // What is durable shows without waiting.
  void forget(Lsn durable);
  void stop();
  bool on() const { return since_ != Lsn{}; }
  // The first event that was noted, if any was.
  Lsn since() const { return since_; }
  // The newest event there by anybody but `session`, or that was moved along with such a one. 0:
  // none that is not durable, and known.
  Lsn others(Ino dir, NameHash name, SessionId session) const;

 private:
  using Key = std::pair<Ino, NameHash>;
  struct Mark {
    Lsn last;           // the newest event
    SessionId session;  // by whom
    Lsn other;          // the newest by anybody else
  };
  static Lsn others(const Mark& mark, SessionId session) {
    return mark.session == session ? mark.other : mark.last;
  }

  absl::flat_hash_map<Key, Mark> marks_;
  std::deque<std::pair<Lsn, Key>> order_;  // by event; a key as often as it was changed
  Lsn since_;
  std::vector<Key> keys_;  // of the event being noted
};

}  // namespace graftfs
