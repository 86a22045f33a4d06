// What the scanner finds after crashes and damage, as sentences.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "test_device.h"

namespace graftfs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Events one to four, of which the first two are durable and vouched for.
struct FourEvents : Bench {
  uint64_t offset[5] = {};
  FourEvents() {
    open();
    note(1);
    put("one");
    note(2);
    put("two");
    sync();
    note(3);
    put("three");
    note(4);
    put("four");
  }
  void note(int i) { offset[i] = journal->segments().back().bytes; }
  void flip(int event) { device.files.at(SegmentId{1}).bytes[offset[event] + 50] ^= 1; }
};

TEST(JournalScan, AnEmptyDeviceIsAnEmptyJournal) {
  Bench b;
  auto scan = b.scan();
  EXPECT_EQ(kinds(scan), "");
  EXPECT_EQ(scan.last, Lsn{0});
  EXPECT_TRUE(scan.segments.empty());
  auto options = b.scan_options();
  options.must_exist = true;
  scan = *b.executor.wait(scan_journal(b.device, options));
  EXPECT_EQ(kinds(scan), "missing segment in front 1 @0");
}

TEST(JournalScan, AFileWithoutAnyWholeFrameIsDamageWhereTheJournalMustExist) {
  Bench b;
  b.open();
  b.kill();
  for (auto& [id, f] : b.device.files) f.bytes.assign(f.bytes.size(), '\0');
  auto options = b.scan_options();
  options.must_exist = true;
  auto scan = *b.executor.wait(scan_journal(b.device, options));
  EXPECT_EQ(kinds(scan), "missing segment in front 1 @0");
}

TEST(JournalScan, ATornTailRightAfterASegmentStartIsIgnored) {
  Bench b;
  b.options.segment_events = 2;
  b.open();
  b.put("one");
  b.put("two");
  uint64_t at = 0;
  b.put("three");  // opens segment 2
  ASSERT_EQ(b.journal->current_segment(), SegmentId{2});
  at = b.journal->segments().back().bytes - journal::frame_size(5);
  b.kill();
  b.device.files.at(SegmentId{2}).bytes[at + 49] ^= 4;
  auto scan = b.scan();
  EXPECT_EQ(kinds(scan), fmt::format("torn tail in tail 2 @{}", at));
  EXPECT_THAT(events(scan), ElementsAre("one", "two"));
  EXPECT_TRUE(decide(scan, LossPolicy::refuse, "v").start);
  b.reopen();
  b.put("four");
  b.kill();
  EXPECT_THAT(events(b.scan()), ElementsAre("one", "two", "four"));
}

TEST(JournalScan, ATornSegmentStartIsIgnored) {
  Bench b;
  b.open();
  b.put("one");
  b.executor.run_for(kSecond);
  b.journal->roll(false);
  b.put("two");
  b.kill();
  b.device.files.at(SegmentId{2}).bytes.replace(60, 400, 400, '\0');
  auto scan = b.scan(false);
  EXPECT_THAT(events(scan), ElementsAre("one"));
  EXPECT_TRUE(decide(scan, LossPolicy::refuse, "v").start);
}

TEST(JournalScan, AfterAPowerCutABadFrameThatNothingVouchesForIsATornTail) {
  FourEvents b;
  b.kill();
  b.flip(3);
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), fmt::format("torn tail in tail 1 @{}", b.offset[3]));
  EXPECT_THAT(events(scan), ElementsAre("one", "two"));
  EXPECT_TRUE(decide(scan, LossPolicy::refuse, "v").start);
}

TEST(JournalScan, AfterTheDeathOfOnlyTheProcessABadFrameBeforeGoodOnesIsDamage) {
  FourEvents b;
  b.kill();
  b.flip(3);
  auto scan = b.scan(true);
  EXPECT_EQ(kinds(scan), fmt::format("damaged middle in durable 1 @{}", b.offset[3]));
  EXPECT_FALSE(decide(scan, LossPolicy::refuse, "v").start);
  auto decision = decide(scan, LossPolicy::accept_loss, "v");
  EXPECT_TRUE(decision.start);
  EXPECT_TRUE(decision.loses);
}

TEST(JournalScan, AfterAPowerCutABadFrameThatALaterOneVouchesForIsDamage) {
  FourEvents b;
  b.kill();
  b.flip(2);
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), fmt::format("damaged middle in durable 1 @{}", b.offset[2]));
  EXPECT_THAT(events(scan), ElementsAre("one"));
  auto decision = decide(scan, LossPolicy::refuse, "/srv/v");
  EXPECT_FALSE(decision.start);
  EXPECT_THAT(decision.message, HasSubstr(fmt::format("journal/1.seg, offset {}", b.offset[2])));
  EXPECT_THAT(decision.message, HasSubstr("graftfs journal verify /srv/v"));
  EXPECT_THAT(decision.message, HasSubstr("--accept-loss"));
  EXPECT_THAT(decision.message, HasSubstr("would be lost"));
}

TEST(JournalScan, ALazyBarrierTellsAFlippedBitInTheLastSyncedFrameFromATornTail) {
  Bench b;
  b.open();
  b.put("one");
  const uint64_t at = b.journal->segments().back().bytes;
  b.put("two");
  b.executor.run_for(kSecond);
  b.kill();
  b.device.files.at(SegmentId{1}).bytes[at + 48] ^= 1;
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), fmt::format("damaged middle in durable 1 @{}", at));
}

TEST(JournalScan, AFlippedBitInTheStartOfANewJournalIsDamage) {
  Bench b;
  b.open();
  b.executor.run();
  b.kill();
  b.device.files.at(SegmentId{1}).bytes[90] ^= 1;
  auto scan = b.scan(false);
  EXPECT_EQ(scan.damage.size(), 1u);
  EXPECT_FALSE(decide(scan, LossPolicy::refuse, "v").start);
}

TEST(JournalScan, DamageAtTheEndOfASegmentIsFoundFromTheNextOne) {
  Bench b;
  b.open();
  b.put("one");
  const uint64_t at = b.journal->segments().back().bytes;
  b.put("two");
  b.journal->roll(false);
  b.put("three");
  b.sync();
  b.put("four");
  b.kill();
  b.device.files.at(SegmentId{1}).bytes[at + 10] ^= 1;
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), fmt::format("damaged middle in durable 1 @{}", at));
}

struct ManySegments : Bench {
  ManySegments() {
    options.segment_events = 5;
    options.segments_per_major = 4;
    open();
    for (int i = 0; i < 48; ++i) put(std::to_string(i));
    sync();
    put("48");  // segment 10
    kill();
  }
};

TEST(JournalScan, AMissingSegmentInTheMiddleIsNamed) {
  ManySegments b;
  b.device.files.erase(SegmentId{4});
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "missing segment in durable 4 @0");
  EXPECT_EQ(events(scan).size(), 15u);
  EXPECT_THAT(decide(scan, LossPolicy::refuse, "v").message, HasSubstr("journal/4.seg"));
}

TEST(JournalScan, AMissingFirstSegmentIsNamedAndTheNextMajorOneIsTheWayOn) {
  ManySegments b;
  b.device.files.erase(SegmentId{1});
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "missing segment in front 1 @0");
  ASSERT_FALSE(scan.segments.empty());
  EXPECT_EQ(scan.segments.front().id, SegmentId{5});
  EXPECT_TRUE(scan.segments.front().major);
  EXPECT_FALSE(decide(scan, LossPolicy::refuse, "v").start);
  EXPECT_TRUE(decide(scan, LossPolicy::accept_loss, "v").start);
  // With the loss accepted the next owner's journal is whole again.
  b.reopen(false);
  b.put("new");
  b.kill();
  EXPECT_EQ(kinds(b.scan()), "");
}

TEST(JournalScan, AZeroedSegmentInTheMiddleIsDamage) {
  ManySegments b;
  auto& bytes = b.device.files.at(SegmentId{3}).bytes;
  bytes.assign(bytes.size(), '\0');
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "damaged middle in durable 3 @0");
}

TEST(JournalScan, AMissingLastSegmentLosesOnlyWhatNothingVouchesFor) {
  ManySegments b;
  const auto whole = events(b.scan());
  b.device.files.erase(SegmentId{11});  // made ahead, empty
  EXPECT_EQ(events(b.scan()), whole);
  EXPECT_EQ(kinds(b.scan()), "");
}

TEST(JournalScan, ASegmentThatCannotBeReadIsAnIoError) {
  ManySegments b;
  b.device.unreadable = SegmentId{3};
  b.device.fail_read_at = 0;
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "I/O error in durable 3 @0");
  EXPECT_EQ(events(scan).size(), 10u);
  EXPECT_THAT(decide(scan, LossPolicy::refuse, "v").message,
              HasSubstr("the disk cannot read this"));
}

TEST(JournalScan, AnUnreadablePlaceBehindTheLastFrameOfAMiddleSegmentDoesNotCount) {
  ManySegments b;
  b.device.unreadable = SegmentId{3};
  b.device.fail_read_at = 200 << 10;
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "");
  EXPECT_EQ(events(scan).size(), 49u);
  // In the last segment it may hide frames.
  b.device.unreadable = SegmentId{10};
  scan = b.scan(false);
  ASSERT_EQ(scan.damage.size(), 1u);
  EXPECT_EQ(scan.damage[0].kind, DamageKind::io_error);
  EXPECT_EQ(scan.damage[0].place, DamagePlace::tail);
  EXPECT_EQ(events(scan).size(), 49u);
}

TEST(JournalScan, AnotherVolumesOrRanksSegmentIsForeign) {
  for (int what = 0; what < 2; ++what) {
    ManySegments b;
    Bench other;
    if (what == 0) other.options.volume = 7;
    if (what == 1) other.options.rank = RankId{4};
    other.open();
    b.device.files.at(SegmentId{4}) = other.device.files.at(SegmentId{1});
    auto scan = b.scan();
    ASSERT_FALSE(scan.damage.empty());
    EXPECT_EQ(scan.damage[0].kind, DamageKind::foreign_journal);
    EXPECT_EQ(scan.damage[0].segment, SegmentId{4});
    EXPECT_FALSE(decide(scan, LossPolicy::accept_loss, "v").start);
  }
}

TEST(JournalScan, ANewerFormatIsForeignAndSaysSo) {
  Bench b;
  b.open();
  b.kill();
  auto& bytes = b.device.files.at(SegmentId{1}).bytes;
  bytes[sizeof(journal::FrameHeader)] = 2;
  journal::FrameHeader h;
  std::memcpy(&h, bytes.data(), sizeof h);
  h.crc = crc32c(std::string_view(bytes).substr(8, journal::frame_size(h.length) - 8));
  std::memcpy(bytes.data() + 4, &h.crc, 4);
  auto scan = b.scan();
  ASSERT_FALSE(scan.damage.empty());
  EXPECT_EQ(scan.damage[0].kind, DamageKind::foreign_journal);
  EXPECT_THAT(scan.damage[0].detail, HasSubstr("format is 2"));
}

TEST(JournalScan, FramesOfANewerOwnerThanTheScansAreDamage) {
  Bench b;
  b.options.epoch = Epoch{5};
  b.open();
  b.put("one");
  b.kill();
  auto options = b.scan_options();
  options.epoch = Epoch{4};
  auto scan = *b.executor.wait(scan_journal(b.device, options));
  EXPECT_EQ(kinds(scan), "foreign epoch in durable 1 @0");
  EXPECT_FALSE(decide(scan, LossPolicy::accept_loss, "v").start);
}

TEST(JournalScan, FramesThatRecoveryCutOffStayVoidForever) {
  Bench b;
  b.open();
  b.put("kept");
  b.sync();
  b.data.change();
  b.put("its data is not on disk");
  b.journal->roll(false);
  b.put("nor is this");
  b.kill();
  b.device.power_cut([] { return true; });  // all frames survived, the data did not
  b.data.unsynced = false;
  auto scan = b.reopen(false);
  EXPECT_THAT(events(scan), ElementsAre("kept"));
  b.put("next");
  // Before and after the strays are gone.
  b.kill();
  EXPECT_THAT(events(b.scan()), ElementsAre("kept", "next"));
  b.reopen();
  b.put("third owner");
  b.kill();
  auto last = b.scan();
  EXPECT_THAT(events(last), ElementsAre("kept", "next", "third owner"));
  EXPECT_EQ(kinds(last), "");
}

TEST(JournalScan, ADamagedStartOfTheNewestOwnerDoesNotBringVoidFramesBack) {
  Bench b;
  b.open();
  b.put("kept");
  b.sync();
  b.data.change();
  for (int i = 0; i < 20; ++i) b.put("void");
  b.kill();
  b.device.power_cut([] { return true; });
  b.data.unsynced = false;
  b.reopen(false);
  const SegmentId second = b.journal->current_segment();
  b.put("next");
  b.sync();
  b.kill();
  b.device.files.at(second).bytes[70] ^= 1;
  for (bool survived : {false, true}) {
    auto scan = b.scan(survived);
    EXPECT_EQ(kinds(scan), fmt::format("damaged middle in durable {} @0", second.v));
    EXPECT_THAT(events(scan), ElementsAre("kept"));
  }
}

TEST(JournalScan, ACrashDuringRecoveryRecoversTheSame) {
  Bench b;
  b.open();
  b.put("one");
  b.put("two");
  b.kill();
  const auto files = b.device.files;
  // Killed at each kill point of the next owner's start.
  for (int stop = 0;; ++stop) {
    Bench again;
    again.device.files = files;
    again.options.epoch = Epoch{2};
    auto scan = again.scan();
    struct Stop {
      int left;
      static void hit(void* self, const fault::Site&) {
        if (static_cast<Stop*>(self)->left-- == 0) throw fault::Killed{};
      }
    } at{stop};
    fault::set_handler(&Stop::hit, &at);
    bool killed = false;
    try {
      again.open(scan.last, scan.newest.next(), live_segments(scan));
      again.executor.run_for(kSecond);
    } catch (const fault::Killed&) {
      killed = true;
    }
    fault::set_handler(nullptr, nullptr);
    again.kill();
    again.device.power_cut([] { return false; });
    scan = again.scan(false);
    EXPECT_EQ(kinds(scan), "") << stop;
    if (killed && stop == 0) continue;  // before anything: the page cache is gone with all of it
    EXPECT_THAT(events(scan), ElementsAre("one", "two")) << stop;
    if (!killed) {
      EXPECT_GT(stop, 8);
      break;
    }
  }
}

TEST(JournalScan, EveryFlippedBitIsDamageOrTouchesNothingThatCounts) {
  for (bool survived : {true, false}) {
    Bench b(32 << 10);
    b.options.segment_events = 3;
    b.open();
    for (int i = 0; i < 7; ++i) b.put(fmt::format("event {}", i));
    b.sync();
    const Lsn durable = b.journal->durable();
    b.put("after the sync");
    b.kill();
    const auto whole = b.scan(survived);
    ASSERT_EQ(kinds(whole), "");
    const auto all = events(whole);
    size_t durable_events = 0;
    for_each_frame(whole, SegmentId{0}, [&](const Frame& f) {
      durable_events += f.header.type >= journal::kFirstPayloadType && Lsn{f.header.lsn} <= durable;
      return true;
    });
    ASSERT_EQ(durable_events, 7u);
    for (auto& segment : whole.segments) {
      auto& bytes = b.device.files.at(segment.id).bytes;
      for (uint64_t at = 0; at < segment.end; ++at) {
        for (int bit = 0; bit < 8; ++bit) {
          bytes[at] ^= static_cast<char>(1 << bit);
          const auto scan = b.scan(survived);
          const auto found = events(scan);
          // Whatever happens, what is found is a prefix of what was written, bit for bit.
          ASSERT_LE(found.size(), all.size());
          ASSERT_TRUE(std::equal(found.begin(), found.end(), all.begin()))
              << segment.id.v << " @" << at << " bit " << bit;
          const bool starts = decide(scan, LossPolicy::refuse, "v").start;
          if (found.size() < durable_events) {
            ASSERT_FALSE(starts) << segment.id.v << " @" << at << " bit " << bit;
            ASSERT_FALSE(scan.damage.empty());
          }
          bytes[at] ^= static_cast<char>(1 << bit);
        }
      }
    }
  }
}

}  // namespace
}  // namespace graftfs::testing
