#pragma once
// The reading side: finds the journal that counts, and says what is wrong with the rest.

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "journal/format.h"
#include "journal/journal.h"
#include "store/store.h"

namespace graftfs {

enum class DamageKind : uint8_t {
  torn_tail,        // the writer died here: normal after a crash
  damaged_middle,   // bytes that were durable are wrong
  missing_segment,  // a segment that should be there is not
  foreign_epoch,    // frames of an owner that is newer than the scan's
  foreign_journal,  // another volume's or rank's segment, or a newer format
  io_error,
};

// Where the damage lies, as far as going on is concerned.
enum class DamagePlace : uint8_t {
  front,  // the oldest segment that counts is concerned: nothing before the next major one is left
  durable,  // something that was durable is concerned
  tail,     // only what was never known to be durable
};

struct JournalDamage {
  DamageKind kind{};
  DamagePlace place{};
  SegmentId segment;
  uint64_t offset = 0;
  Lsn lsn;                // the first frame concerned, where it is known
  Lsn newest_lost;        // the newest frame seen behind the damage; 0: none
  uint64_t wall_sec = 0;  // when the last good segment before it was begun; 0: not known
  std::string detail;     // "FILE, offset N: what is wrong"
};

// One segment in memory, verified up to `end`.
struct ScannedSegment {
  SegmentId id;
  bool major = false;
  Epoch epoch;
  uint64_t wall_sec = 0;  // when it was begun
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
  Lsn safe;              // newest event whose file data, with that of all before it, is on disk
  Lsn durable;           // newest event that is known to have been durable
  Epoch epoch;           // newest seen
  uint32_t commits = 0;  // write-backs that the directories must have, as barriers say; 0: unknown
  SegmentId newest;      // newest id on the device (next one to use is above it)
  std::vector<JournalDamage> damage;
  bool clean = false;  // ended by close()
};

struct ScanOptions {
  uint64_t volume = 0;
  RankId rank;
  // The bytes that were written and not synced may be lost or torn (power cut).
  bool unsynced_survived = true;
  Epoch epoch;  // of the owner that scans: a frame of a newer one is damage. 0: any
  // The volume was formatted, so there is a journal: finding no frame at all is damage.
  bool must_exist = false;
};

// Reads every segment. Fails only where the device does not answer at all; everything else is in
// `damage` (damage.h decides what to do about it). Reads nothing but the journal.
//
// The scan holds the longest prefix that is whole. Where unsynced bytes may be lost, `last` can be
// above `safe`: names survived whose file data did not, so the caller cuts at `safe`
// (cut_scan(scan, scan.safe)) before it replays. Otherwise it goes on with everything.
Task<Result<JournalScan>> scan_journal(JournalDevice& device, ScanOptions options);

// Walks the frames that count, from the first segment with id >= from. Returns false from
// `visit` to stop.
void for_each_frame(const JournalScan& scan, SegmentId from,
                    absl::FunctionRef<bool(const Frame&)> visit);

// Forgets every frame above `last`. The next owner's Journal gets `last` as `resumes_after`.
void cut_scan(JournalScan& scan, Lsn last);
// What the next owner's Journal gets as `live`.
std::deque<SegmentState> live_segments(const JournalScan& scan);

// The parts of a segment start frame.
struct SegmentStartView {
  journal::SegmentStart fixed{};
  std::string_view payload;  // what begin_segment() appended
};
SegmentStartView segment_start(const Frame& frame);

}  // namespace graftfs
