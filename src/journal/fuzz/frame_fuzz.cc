// Any bytes as the segments of a journal: the scanner must neither crash nor accept what it
// cannot walk. The first bytes of the input say how it is cut into segments and which frames get
// a right CRC, so that the fuzzer gets behind the checksum.

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "journal/damage.h"
#include "journal/scan.h"

namespace graftfs {
namespace {

class InlineDevice final : public JournalDevice {
 public:
  std::vector<std::pair<SegmentId, std::string>> segments;
  SegmentId broken;  // cannot be read

  Task<Result<std::vector<SegmentInfo>>> list() override {
    std::vector<SegmentInfo> out;
    for (auto& [id, bytes] : segments) out.push_back({id, bytes.size()});
    co_return out;
  }
  Task<Result<void>> create(SegmentId) override { co_return fail(EROFS); }
  Task<Result<void>> write(SegmentId, uint64_t, std::string_view) override {
    co_return fail(EROFS);
  }
  Task<Result<void>> sync(SegmentId) override { co_return fail(EROFS); }
  Task<Result<std::string>> read(SegmentId id, uint64_t offset, uint64_t length) override {
    if (id == broken) co_return fail(EIO, "cannot be read");
    for (auto& [have, bytes] : segments)
      if (have == id && offset <= bytes.size()) co_return bytes.substr(offset, length);
    co_return std::string{};
  }
  Task<Result<void>> remove(SegmentId) override { co_return fail(EROFS); }
  uint64_t segment_capacity() const override { return 1 << 20; }
  std::string name_of(SegmentId id) const override { return fmt::format("{}.seg", id.v); }
};

Task<void> scan(JournalDevice& device, ScanOptions options, JournalScan& out) {
  Result<JournalScan> result = co_await scan_journal(device, options);
  CHECK(result.has_value());
  out = std::move(*result);
}

// Makes the frames that the bytes pretend to hold belong here, with right checksums.
void adopt_frames(std::string& bytes, SegmentId id, uint64_t volume) {
  for (size_t at = 0; at + sizeof(journal::FrameHeader) <= bytes.size();) {
    journal::FrameHeader h;
    std::memcpy(&h, bytes.data() + at, sizeof h);
    h.magic = journal::kFrameMagic;
    h.length %= 256;
    h.rank = 0;
    h.volume = volume;
    h.segment = static_cast<uint32_t>(id.v);
    const size_t size = journal::frame_size(h.length);
    if (at + size > bytes.size()) return;
    std::memcpy(bytes.data() + at, &h, sizeof h);
    h.crc = crc32c(std::string_view(bytes).substr(at + 8, size - 8));
    std::memcpy(bytes.data() + at, &h, sizeof h);
    at += size;
  }
}

void check(const JournalScan& s) {
  Lsn last;
  SegmentId segment;
  for_each_frame(s, SegmentId{0}, [&](const Frame& f) {
    if (last.v) CHECK(f.header.lsn == last.v + 1, "{} after {}", f.header.lsn, last.v);
    CHECK(f.segment >= segment);
    segment = f.segment;
    last = Lsn{f.header.lsn};
    return true;
  });
  CHECK(last == s.last, "{} {}", last, s.last);
  CHECK(s.safe <= s.last && s.durable <= s.last);
  CHECK(s.segments.empty() || s.segments.front().major);
  for (auto& d : s.damage) CHECK(!damage_message(d, LossPolicy::refuse, "v").empty());
}

}  // namespace
}  // namespace graftfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graftfs;
  if (size < 4) return 0;
  const size_t pieces = data[0] % 4 + 1;
  const bool adopt = data[1] & 1, survived = data[1] & 2, must_exist = data[1] & 4;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 4, size - 4);
  ScanOptions options{.volume = 1, .unsynced_survived = survived, .must_exist = must_exist};
  InlineDevice device;
  device.broken = SegmentId{data[2]};
  uint64_t id = data[3] % 4u + 1;
  for (size_t i = 0; i < pieces; ++i) {
    std::string piece(bytes.substr(bytes.size() * i / pieces, bytes.size() / pieces));
    if (adopt) adopt_frames(piece, SegmentId{id}, options.volume);
    device.segments.emplace_back(SegmentId{id}, std::move(piece));
    id += (data[3] >> (4 + i) & 1) + 1;
  }
  JournalScan result;
  TaskScope scope;
  scope.spawn(scan(device, options, result));
  CHECK(scope.empty());
  check(result);
  if (result.last.v > 1) {
    cut_scan(result, Lsn{result.last.v - 1});
    check(result);
  }
  return 0;
}
