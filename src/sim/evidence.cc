#include "sim/evidence.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "journal/format.h"

namespace graftfs::sim {
namespace {

using journal::FrameHeader;

struct Found {
  uint32_t epoch;
  uint64_t lsn, durable;
};

// A whole frame of this segment at `at`, wherever that is.
const FrameHeader* frame_at(std::string_view bytes, size_t at, uint64_t volume, SegmentId id,
                            FrameHeader& h) {
  std::memcpy(&h, bytes.data() + at, sizeof h);
  if (h.magic != journal::kFrameMagic || h.volume != volume || h.rank != 0 ||
      h.segment != static_cast<uint32_t>(id.v) || h.length > bytes.size() - at - sizeof h)
    return nullptr;
  size_t size = journal::frame_size(h.length);
  if (size > bytes.size() - at) return nullptr;
  constexpr size_t kFrom = offsetof(FrameHeader, length);
  return crc32c(bytes.substr(at + kFrom, size - kFrom)) == h.crc ? &h : nullptr;
}

}  // namespace

Lsn evidence_on(const MemoryDisk& disk, uint64_t volume, CrashKind kind) {
  std::vector<Found> found;
  struct Cut {
    uint32_t epoch;
    uint64_t resumes_after;
  };
  std::vector<Cut> cuts;
  std::vector<std::pair<SegmentId, std::string>> segments;
  for (SegmentId id : disk.segments(RankId{0}))
    segments.emplace_back(id, disk.journal_bytes(RankId{0}, id));
  for (const auto& [id, bytes] : segments) {
    for (size_t at = 0; at + sizeof(FrameHeader) <= bytes.size(); at += journal::kFrameAlign) {
      FrameHeader h;
      if (!frame_at(bytes, at, volume, id, h)) continue;
      const char* payload = bytes.data() + at + sizeof h;
      if (h.type == static_cast<uint8_t>(journal::FrameType::segment_start)) {
        journal::SegmentStart start;
        std::memcpy(&start, payload, sizeof start);
        cuts.push_back({h.epoch, start.resumes_after});
      }
      // Saturated: nothing is known.
      uint64_t back = h.durable_back;
      found.push_back({h.epoch, h.lsn, back >= h.lsn ? 0 : h.lsn - back});
      at += journal::frame_size(h.length) - journal::kFrameAlign;
    }
  }
  const bool durable_only = kind == CrashKind::power_cut || disk.in_doubt(RankId{0});
  uint64_t newest = 0;
  for (const Found& f : found) {
    bool counts = true;
    for (const Cut& c : cuts) counts &= c.epoch <= f.epoch || f.lsn <= c.resumes_after;
    if (!counts) continue;
    newest = std::max(newest, durable_only ? f.durable : f.lsn);
  }
  return Lsn{newest};
}

}  // namespace graftfs::sim
