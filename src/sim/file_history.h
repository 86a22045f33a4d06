#pragma once
// Which bytes a file may hold: every write that could still show, by when it began and ended and
// by which event made it durable.

#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace graftfs::sim {

inline constexpr uint64_t kNever = UINT64_MAX;

// Times are steps of the event queue. `bytes` empty: zeros up to `end`.
struct DataOp {
  uint64_t offset = 0;
  uint64_t end = 0;
  std::string bytes;
  uint64_t began = 0;
  uint64_t ended = kNever;
  Lsn pin{kNever};     // the event whose durability implies the data's
  bool maybe = false;  // a crash left it undecided for ever
  bool any = false;    // what it writes is not known (yet)
};

// What has happened between writing and looking.
struct Look {
  enum Kind : uint8_t { live, after_death, after_power_cut } kind = live;
  uint64_t began = 0;  // of the read
  uint64_t ended = 0;
  Lsn last;  // after a crash: the last event that was recovered
};

// One regular file. A value. One client writes to a file, so operations that overlap in the file
// do not overlap in time, unless a crash cut them off.
class FileHistory {
 public:
  size_t begin(uint64_t offset, uint64_t end, std::string bytes, uint64_t step);
  void end(size_t op, uint64_t step) { ops_[op].ended = step; }
  void set_any(size_t op) { ops_[op].any = true; }
  void set_bytes(size_t op, std::string bytes) {
    ops_[op].bytes = std::move(bytes);
    ops_[op].any = false;
  }
  void void_op(size_t op) { ops_[op].maybe = true; }
  // An event told of everything that had ended.
  void pin(Lsn lsn);
  // The node died: what had not ended may or may not have happened.
  void crash(uint64_t step);
  // Events above `last` were lost: what they told of is to be told again.
  void unpin(Lsn last);
  // What no event up to `last` tells of may have been lost: a sync failed.
  void doubt(Lsn last);
  // Nothing is known of what it holds any more.
  void settle_unknown();
  // A power cut has settled what the file holds.
  void settle(std::string bytes);

  // Where `content` (from offset `at`) is not what the file may hold.
  std::optional<uint64_t> wrong(uint64_t at, const std::string& content, const Look& look) const;
  std::string explain(uint64_t offset) const;

 private:
  bool allowed(uint64_t offset, char value, const Look& look) const;
  std::vector<DataOp> ops_;
};

}  // namespace graftfs::sim
