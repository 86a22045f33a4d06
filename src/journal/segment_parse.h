#pragma once
// Inside the scanner: one segment in memory and the valid frames in it, wherever they are.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/scan.h"

namespace graftfs::journal {

inline constexpr uint64_t kNowhere = UINT64_MAX;

// Valid frames, each right behind the one before it, with LSNs that count up.
struct Run {
  uint64_t offset = 0, end = 0;
  Lsn first, last;
  Epoch epoch;
  Lsn safe, durable;  // the most that its frames say
  bool closed = false;
  bool after(Epoch e, Lsn lsn) const { return epoch > e || (epoch == e && last > lsn); }
};

struct Parsed {
  SegmentId id;
  std::string name;
  std::string bytes;
  uint64_t unreadable = kNowhere;  // the first offset that could not be read
  std::string read_error;
  std::string foreign;  // what is foreign about it
  std::optional<SegmentStart> start;
  Epoch start_epoch;
  std::vector<Run> runs;
  SegmentId oldest;      // the most that its frames say
  uint32_t commits = 0;  // the same

  // Begins with a segment start that counts.
  bool starts() const { return start && !runs.empty() && runs.front().offset == 0; }
  bool major() const { return start && (start->flags & journal::kMajor); }
};

// `bytes` holds a header at `offset`; nothing is checked.
FrameHeader header_at(std::string_view bytes, uint64_t offset);
// Whether volume, rank and segment fit.
bool ours(const FrameHeader& h, SegmentId id, const ScanOptions& options);
// Whether the frame at `offset`, whose header `h` is, is complete and its CRC right.
bool whole(std::string_view bytes, uint64_t offset, const FrameHeader& h);

// Reads the segment; what cannot be read becomes zeros and is noted.
Task<Result<void>> load_segment(JournalDevice& device, SegmentInfo info, Parsed& out);
// Finds the frames of all segments that are not void.
void parse_segments(std::vector<Parsed>& all, const ScanOptions& options);

}  // namespace graftfs::journal
