// The frozen bytes of journal format 1, which every later version must read.
//
// GRAFTFS_WRITE_FORMATS=1 journal_test --gtest_filter='JournalFormat.*' writes them anew; that is
// for a new format only, under a new name.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "test_device.h"

namespace graftfs::testing {
namespace {

const std::string kFrozen = std::string(GRAFTFS_FORMATS_DIR) + "/journal-v1.bin";

// A container of segments: (u64 id, u64 length, bytes) each; zeros at the end are left out.
std::string pack(const TestDevice& device) {
  std::string out;
  ByteWriter w(out);
  for (auto& [id, file] : device.files) {
    const auto end = file.bytes.find_last_not_of('\0');
    const size_t length = end == std::string::npos ? 0 : end + 1;
    w.u64(id.v);
    w.u64(length);
    w.raw(std::string_view(file.bytes).substr(0, length));
  }
  return out;
}

void unpack(std::string_view bytes, TestDevice& device) {
  ByteReader r(bytes);
  while (r.ok() && r.remaining()) {
    const SegmentId id{r.u64()};
    auto& file = device.files[id];
    file.bytes = r.raw(r.u64());
    file.bytes.resize(device.segment_capacity(), '\0');
  }
  ASSERT_TRUE(r.done());
}

// Two owners: the first is killed with an event in its tail that the second cut off; segments
// were trimmed; the second ends cleanly.
void write_example(Bench& b) {
  b.options.segment_events = 4;
  b.options.segments_per_major = 2;
  b.open();
  for (int i = 0; i < 10; ++i) b.put(fmt::format("event {}", i));
  b.sync();
  ASSERT_TRUE(b.executor.wait(b.journal->trim(SegmentId{3})));
  b.data.change();
  b.put("void");
  b.kill();
  b.device.power_cut([] { return true; });
  b.data.unsynced = false;
  b.reopen(false);
  b.put("event 10");
  ASSERT_TRUE(b.executor.wait(b.journal->close()));
  b.kill();
}

TEST(JournalFormat, FrozenBytesOfFormat1AreRead) {
  if (std::getenv("GRAFTFS_WRITE_FORMATS")) {
    Bench b(32 << 10);
    write_example(b);
    std::ofstream out(kFrozen, std::ios::binary);
    out << pack(b.device);
    ASSERT_TRUE(out.good()) << kFrozen;
  }
  std::ifstream in(kFrozen, std::ios::binary);
  ASSERT_TRUE(in.good()) << kFrozen;
  std::stringstream bytes;
  bytes << in.rdbuf();

  Bench b(32 << 10);
  unpack(bytes.str(), b.device);
  const JournalScan scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "");
  EXPECT_TRUE(scan.clean);
  EXPECT_EQ(scan.epoch, Epoch{2});
  ASSERT_EQ(scan.segments.size(), 2u);
  EXPECT_EQ(scan.segments[0].id, SegmentId{3});
  EXPECT_TRUE(scan.segments[0].major);
  EXPECT_EQ(scan.segments[0].wall_sec, 1'700'000'000u);
  EXPECT_EQ(scan.durable.next(), scan.last);
  EXPECT_EQ(scan.safe, scan.last);
  EXPECT_THAT(events(scan), ::testing::ElementsAre("event 8", "event 9", "event 10"));
  int starts = 0;
  for_each_frame(scan, SegmentId{0}, [&](const Frame& f) {
    if (f.header.type != static_cast<uint8_t>(journal::FrameType::segment_start)) return true;
    ++starts;
    const SegmentStartView start = segment_start(f);
    EXPECT_EQ(start.fixed.format, 1u);
    EXPECT_EQ(start.fixed.segment, f.segment.v);
    EXPECT_EQ(start.payload, "checkpoint");
    return true;
  });
  EXPECT_EQ(starts, 2);
}

}  // namespace
}  // namespace graftfs::testing
