#pragma once
// Advisory locks of files, by POSIX rules.

#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"

namespace graftfs {

// fcntl's; flock's, which are of the whole file and apart from those; and the right to write to a
// file, which a client has for itself and gives back when it is asked (docs/protocols/leases.md).
enum class LockKind : uint8_t { posix, flock, data };

struct LockRange {
  Ino ino;
  uint64_t owner = 0;                    // as the kernel names it, unique within its session
  uint64_t start = 0, end = UINT64_MAX;  // bytes, both inclusive
  bool exclusive = false;
  LockKind kind = LockKind::posix;
  int32_t pid = 0;  // for F_GETLK
  friend auto operator<=>(const LockRange&, const LockRange&) = default;

  // The right to write to it.
  static LockRange to_write(Ino ino) {
    return {.ino = ino, .exclusive = true, .kind = LockKind::data};
  }
};

// Who has locked what. Owned by whoever asks or grants, in its thread, in memory only. Locks of one
// owner never overlap: a new one replaces what it covers.
class LockTable {
 public:
  struct Held {
    SessionId session;
    LockRange range;
  };

  // The first lock of somebody else that stands against it; null: none.
  const Held* conflict(SessionId session, const LockRange& want) const;
  // All of them.
  std::vector<Held> conflicts(SessionId session, const LockRange& want) const;
  // Sets it, whoever else has one.
  void set(SessionId session, const LockRange& range);
  // Takes the range away from its owner's locks of that kind.
  void unset(SessionId session, const LockRange& range);
  bool has(SessionId session, Ino ino, uint64_t owner, LockKind kind) const;
  std::vector<LockRange> of(SessionId session) const;
  std::vector<Held> on(Ino ino) const;
  std::vector<Ino> inos() const;
  // All of a session; returns the inodes that they were on.
  std::vector<Ino> drop(SessionId session);
  void forget(Ino ino) { held_.erase(ino); }
  bool empty() const { return held_.empty(); }

 private:
  std::map<Ino, std::vector<Held>> held_;
};

}  // namespace graftfs
