#include "journal/segment_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/crc32c.h"
#include "base/fault.h"

namespace graftfs::journal {

FrameHeader header_at(std::string_view bytes, uint64_t offset) {
  FrameHeader h;
  std::memcpy(&h, bytes.data() + offset, sizeof h);
  return h;
}

bool ours(const FrameHeader& h, SegmentId id, const ScanOptions& options) {
  return h.magic == kFrameMagic && h.volume == options.volume && h.rank == options.rank.v &&
         h.segment == static_cast<uint32_t>(id.v);
}

bool whole(std::string_view bytes, uint64_t offset, const FrameHeader& h) {
  if (h.magic != kFrameMagic || h.length > bytes.size()) return false;
  const uint64_t size = frame_size(h.length);
  if (size > bytes.size() - offset) return false;
  if (h.type == static_cast<uint8_t>(FrameType::segment_start) && h.length < sizeof(SegmentStart))
    return false;
  if (h.type == static_cast<uint8_t>(FrameType::barrier) && h.length < sizeof(Barrier))
    return false;
  return crc32c(bytes.substr(offset + 8, size - 8)) == h.crc;
}

namespace {

constexpr uint64_t kReadPiece = 64 << 10;  // after an error, what can be read is read so

template <class T>
T payload_at(std::string_view bytes, uint64_t offset) {
  T t;
  std::memcpy(&t, bytes.data() + offset + sizeof(FrameHeader), sizeof t);
  return t;
}

Lsn behind(uint64_t lsn, uint32_t back) {
  return Lsn{back == UINT32_MAX || back > lsn ? 0 : lsn - back};
}

// Looks at the start of the segment only.
void parse_start(Parsed& p, const ScanOptions& options) {
  const std::string_view bytes = p.bytes;
  if (bytes.size() < sizeof(FrameHeader)) return;
  const FrameHeader h = header_at(bytes, 0);
  if (!whole(bytes, 0, h)) return;
  if (h.volume != options.volume) {
    p.foreign = "the segment is another volume's";
  } else if (h.rank != options.rank.v) {
    p.foreign = fmt::format("the segment is rank {}'s", h.rank);
  } else if (h.segment == static_cast<uint32_t>(p.id.v) &&
             h.type == static_cast<uint8_t>(FrameType::segment_start)) {
    const auto start = payload_at<SegmentStart>(bytes, 0);
    if (start.format > kFormat) {
      p.foreign =
          fmt::format("its format is {}, this program knows up to {}", start.format, kFormat);
    } else if (start.segment == p.id.v) {
      p.start = start;
      p.start_epoch = Epoch{h.epoch};
    }
  }
}

// For each epoch that began: the last LSN of older epochs that counts.
using Cuts = std::map<Epoch, Lsn>;

Lsn limit_for(const Cuts& cuts, Epoch epoch) {
  Lsn limit{UINT64_MAX};
  for (auto it = cuts.upper_bound(epoch); it != cuts.end(); ++it)
    limit = std::min(limit, it->second);
  return limit;
}

void note_cut(Cuts& cuts, Epoch epoch, Lsn lsn) {
  auto [it, added] = cuts.emplace(epoch, lsn);
  if (!added) it->second = std::min(it->second, lsn);
}

// Finds all frames of the segment that are not void. Behind a bad place it looks at every
// multiple of 8 bytes for the next one.
void parse_runs(Parsed& p, const ScanOptions& options, const Cuts& cuts) {
  p.runs.clear();
  p.oldest = {};
  if (!p.foreign.empty()) return;
  const std::string_view bytes = p.bytes;
  Epoch limit_epoch;
  Lsn limit{0};
  bool limit_known = false;
  bool open = false;  // runs.back() ends at `at`
  uint64_t at = 0;
  while (at + sizeof(FrameHeader) <= bytes.size()) {
    uint32_t magic;
    std::memcpy(&magic, bytes.data() + at, sizeof magic);
    if (magic != kFrameMagic) [[unlikely]] {
      open = false;
      at += kFrameAlign;
      continue;
    }
    const FrameHeader h = header_at(bytes, at);
    if (!ours(h, p.id, options) || !whole(bytes, at, h)) {
      open = false;
      at += kFrameAlign;
      continue;
    }
    const uint64_t size = frame_size(h.length);
    const Epoch epoch{h.epoch};
    if (!limit_known || epoch != limit_epoch) {
      limit = limit_for(cuts, epoch);
      limit_epoch = epoch;
      limit_known = true;
    }
    if (h.lsn > limit.v) {  // cut off by a later owner's recovery
      MARK("journal.scan.void");
      open = false;
      at += size;
      continue;
    }
    if (!open || p.runs.back().last.v + 1 != h.lsn || p.runs.back().epoch != epoch) {
      p.runs.push_back({at, at, Lsn{h.lsn}, Lsn{h.lsn}, epoch, Lsn{}, Lsn{}, false});
      open = true;
    }
    Run& run = p.runs.back();
    run.last = Lsn{h.lsn};
    run.end = at + size;
    run.safe = std::max(run.safe, behind(h.lsn, h.safe_back));
    run.durable = std::max(run.durable, behind(h.lsn, h.durable_back));
    run.closed = false;
    if (h.type == static_cast<uint8_t>(FrameType::segment_start)) {
      p.oldest = std::max(p.oldest, SegmentId{payload_at<SegmentStart>(bytes, at).oldest});
    } else if (h.type == static_cast<uint8_t>(FrameType::barrier)) {
      const auto barrier = payload_at<Barrier>(bytes, at);
      p.oldest = std::max(p.oldest, SegmentId{barrier.oldest});
      run.closed = barrier.flags & kClosed;
      p.commits = std::max(p.commits, barrier.commits);
    }
    at += size;
  }
}

}  // namespace

Task<Result<void>> load_segment(JournalDevice& device, SegmentInfo info, Parsed& out) {
  Result<std::string> all = co_await device.read(info.id, 0, info.capacity);
  if (all) {
    out.bytes = std::move(*all);
    co_return Result<void>{};
  }
  MARK("journal.scan.read_failed");
  for (uint64_t at = 0; at < info.capacity; at += kReadPiece) {
    const uint64_t length = std::min(kReadPiece, info.capacity - at);
    Result<std::string> piece = co_await device.read(info.id, at, length);
    if (piece) {
      out.bytes += *piece;
    } else if (out.unreadable == kNowhere) {
      out.unreadable = at;
      out.read_error = describe(piece.error());
    }
    out.bytes.resize(at + length, '\0');
  }
  co_return Result<void>{};
}

void parse_segments(std::vector<Parsed>& all, const ScanOptions& options) {
  Cuts cuts;
  for (Parsed& p : all) {
    parse_start(p, options);
    if (p.start) note_cut(cuts, p.start_epoch, Lsn{p.start->resumes_after});
  }
  for (Parsed& p : all) parse_runs(p, options, cuts);
  // Where an owner's segment start is damaged, its other frames still say that older frames with
  // their LSNs are void.
  bool more = false;
  for (const Parsed& p : all) {
    if (p.start || p.runs.empty()) continue;
    const Run& run = p.runs.front();
    const Lsn before{run.first.v >= 2 ? run.first.v - 2 : 0};
    auto it = cuts.find(run.epoch);
    if (it != cuts.end() && it->second <= before) continue;
    note_cut(cuts, run.epoch, before);
    more = true;
  }
  if (!more) return;
  MARK("journal.scan.start_lost");
  for (Parsed& p : all) parse_runs(p, options, cuts);
}

}  // namespace graftfs::journal
