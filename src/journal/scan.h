#pragma once
// The reading side: finds the journal that counts, and says what is wrong with the rest.

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/format.h"
#include "store/store.h"

namespace graftfs {

enum class DamageKind : uint8_t {
  torn_tail,        // the writer died here: normal after a crash
  damaged_middle,   // bytes that were durable are wrong
  missing_segment,  // a hole in the ids, or the first segment is not a major one
  foreign_epoch,    // frames of an owner that is newer than the scan's, or epochs out of order
  foreign_journal,  // another volume's or rank's segment, or a newer format
  io_error,
};

struct JournalDamage {
  DamageKind kind;
  SegmentId segment;
  uint64_t offset = 0;
  Lsn lsn;             // the first event concerned, where it is known
  std::string detail;  // one sentence: file, offset, what is wrong
};

// One segment in memory, verified up to `end`.
struct ScannedSegment {
  SegmentId id;
  bool major = false;
  std::string bytes;
  uint64_t end = 0;  // offset behind the last frame that counts
  Lsn first, last;
};

struct Frame {
  journal::FrameHeader header;
  std::string_view payload;  // into the scan's bytes
  SegmentId segment;
  uint64_t offset;
};

struct JournalScan {
  std::vector<ScannedSegment> segments;  // contiguous, oldest first, the first one major
  Lsn last;                              // of the last frame that counts
  Lsn safe;     // newest event whose file data, with that of all before it, is on disk
  Lsn durable;  // newest event that is known to have been durable
  Epoch epoch;  // newest seen
  SegmentId newest;  // newest id on the device (next one to use is above it)
  std::vector<JournalDamage> damage;
  bool clean = false;  // ended by close()
};

struct ScanOptions {
  uint64_t volume = 0;
  RankId rank;
  // The bytes that were written and not synced may be lost or torn (power cut).
  bool unsynced_survived = true;
};

// Reads every segment. Fails only where the device does not answer at all; everything else is in
// `damage`. Reads nothing but the journal.
Task<Result<JournalScan>> scan_journal(JournalDevice& device, ScanOptions options);

// Walks the frames that count, from the first segment with id >= from. Returns false from
// `visit` to stop.
void for_each_frame(const JournalScan& scan, SegmentId from,
                    const std::function<bool(const Frame&)>& visit);

}  // namespace graftfs
