// What the writer promises: order, batches, durability, segments, trim, errors.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "test_device.h"

namespace graftfs::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(JournalWriter, WhatWasAppendedIsFoundAgainInOrder) {
  Bench b;
  b.open();
  b.append("one");
  b.append("two");
  b.put("three");
  b.kill();
  auto scan = b.scan();
  EXPECT_THAT(events(scan), ElementsAre("one", "two", "three"));
  EXPECT_EQ(kinds(scan), "");
  EXPECT_FALSE(scan.clean);
}

TEST(JournalWriter, CloseEndsCleanAndTheNextOwnerGoesOn) {
  Bench b;
  b.open();
  b.put("one");
  ASSERT_TRUE(b.executor.wait(b.journal->close()));
  auto scan = b.reopen();
  EXPECT_TRUE(scan.clean);
  EXPECT_EQ(scan.durable.next(), scan.last);  // the closing barrier vouches for all before it
  b.put("two");
  b.kill();
  scan = b.scan();
  EXPECT_FALSE(scan.clean);
  EXPECT_EQ(scan.epoch, Epoch{2});
  EXPECT_THAT(events(scan), ElementsAre("one", "two"));
}

TEST(JournalWriter, WhatIsAppendedDuringAWriteGoesWithTheNextOne) {
  Bench b;
  b.open();
  b.executor.run_for(kSecond);
  b.device.write_time = kMillisecond;
  b.device.log_calls = true;
  b.append("a");
  b.journal->flush();
  for (int i = 0; i < 100; ++i) {
    b.append("b");
    b.journal->flush();
  }
  b.executor.run_for(3 * kMillisecond);
  int writes = 0;
  for (auto& line : b.device.log) writes += line.starts_with("write");
  EXPECT_EQ(writes, 2);
  EXPECT_EQ(b.device.most_writes, 1);
  EXPECT_EQ(b.journal->written(), b.journal->appended());
}

TEST(JournalWriter, PosixSyncsAfterIdlenessAndThenSaysSoOnce) {
  Bench b;
  b.open();
  b.executor.run_for(kSecond);
  b.device.log_calls = true;
  Lsn lsn = b.put("a");
  EXPECT_EQ(b.journal->written(), lsn);
  b.executor.run_for(4 * kMillisecond);
  EXPECT_LT(b.journal->durable(), lsn);
  b.executor.run_for(2 * kMillisecond);
  EXPECT_EQ(b.journal->durable(), lsn);
  b.executor.run_for(10 * kSecond);
  // The event, its sync, and one barrier that nobody syncs.
  ASSERT_EQ(b.device.log.size(), 3u);
  EXPECT_TRUE(b.device.log[1].starts_with("sync"));
  EXPECT_TRUE(b.device.log[2].starts_with("write"));
  EXPECT_EQ(b.journal->appended(), lsn);
  EXPECT_FALSE(b.executor.step()) << "an idle journal has no timers";
  b.kill();
  EXPECT_EQ(b.scan().durable, lsn);
}

TEST(JournalWriter, PosixSyncsAfterAHundredMillisecondsOfLoad) {
  Bench b;
  b.open();
  b.executor.run_for(kSecond);
  Lsn first = b.put("a");
  for (int i = 0; i < 95; ++i) {
    b.executor.run_for(kMillisecond);
    b.put("b");
  }
  EXPECT_LT(b.journal->durable(), first);
  for (int i = 0; i < 10; ++i) {
    b.executor.run_for(kMillisecond);
    b.put("b");
  }
  EXPECT_GE(b.journal->durable(), first);
}

TEST(JournalWriter, StrictSyncsEveryWriteAndWritesDuringASync) {
  Bench b;
  b.options.durability = Durability::strict;
  b.open();
  b.device.sync_time = kMillisecond;
  Lsn one = b.put("one");
  EXPECT_EQ(b.journal->written(), one);
  EXPECT_LT(b.journal->durable(), one);
  Lsn two = b.put("two");
  EXPECT_EQ(b.journal->written(), two);
  EXPECT_TRUE(b.device.overlapped);
  b.executor.run_for(kMillisecond);
  EXPECT_EQ(b.journal->durable(), one) << "a sync covers only what was written before it";
  b.executor.run_for(kMillisecond);
  EXPECT_EQ(b.journal->durable(), two);
}

TEST(JournalWriter, NoEventIsDurableBeforeTheDataItReveals) {
  for (Durability mode : {Durability::strict, Durability::posix}) {
    Bench b;
    b.options.durability = mode;
    b.open();
    b.data.change();
    b.data.sync_time = kMillisecond;
    Lsn lsn = b.append("size grows");
    b.journal->flush();
    if (mode == Durability::posix) b.journal->want_sync();
    b.executor.run();
    EXPECT_LT(b.journal->durable(), lsn);
    EXPECT_TRUE(b.data.unsynced);
    b.executor.run_for(kMillisecond);
    EXPECT_GE(b.journal->durable(), lsn);
    EXPECT_FALSE(b.data.unsynced);
    b.kill();
    b.device.power_cut([] { return false; });
    auto scan = b.scan(false);
    EXPECT_GE(scan.safe, lsn);
    EXPECT_THAT(events(scan), ElementsAre("size grows"));
  }
}

TEST(JournalWriter, StrictTakesTheBarrierAlongInOneWrite) {
  Bench b;
  b.options.durability = Durability::strict;
  b.open();
  b.executor.run_for(kSecond);
  b.data.change();
  b.data.sync_time = kMillisecond;
  b.device.log_calls = true;
  b.append("size grows");
  b.journal->flush();
  b.executor.run_for(2 * kMillisecond);
  int writes = 0;
  for (auto& line : b.device.log) writes += line.starts_with("write");
  EXPECT_EQ(writes, 1);
}

TEST(JournalWriter, DataWrittenDuringADataSyncIsNotVouchedFor) {
  Bench b;
  b.open();
  b.data.change();
  b.data.sync_time = kMillisecond;
  Lsn one = b.put("one");
  b.journal->want_sync();
  b.data.change();
  Lsn two = b.put("two");
  b.executor.run_for(kMillisecond);
  EXPECT_GE(b.journal->durable(), one);
  EXPECT_LT(b.journal->durable(), two);
  b.kill();
  b.device.power_cut([] { return true; });
  auto scan = b.scan(false);
  EXPECT_GE(scan.last, two);
  EXPECT_GE(scan.safe, one);
  EXPECT_LT(scan.safe, two);
  cut_scan(scan, scan.safe);
  EXPECT_THAT(events(scan), ElementsAre("one"));
}

Task<void> start_only(Journal& journal) {
  Result<void> started = co_await journal.start();
  CHECK(started.has_value());
}

TEST(JournalWriter, ANewOwnerVouchesForNoDataThatOnlyThePageCacheHolds) {
  Bench b;
  b.open();
  b.executor.run_for(kSecond);
  b.data.change();
  const Lsn reveals = b.put("size grows");
  b.kill();
  JournalScan found = b.scan();
  ASSERT_EQ(found.last, reveals);
  // The power fails while the next owner syncs what the process had only written.
  b.options.epoch = Epoch{2};
  b.data.sync_time = kSecond;
  b.journal = std::make_unique<Journal>(b.executor, b.device, b.data, b.hooks, b.options,
                                        found.last, found.newest.next(), live_segments(found));
  {
    TaskScope scope;
    scope.spawn(start_only(*b.journal));
    b.executor.run_for(kMillisecond);
    ASSERT_FALSE(scope.empty());
    b.kill();
  }
  b.device.power_cut([] { return true; });
  EXPECT_LT(b.scan(false).safe, reveals);
}

TEST(JournalWriter, SegmentsEndByEventsAndByCapacityAndEveryNthIsMajor) {
  Bench b(64 << 10);
  b.options.segment_events = 10;
  b.options.segments_per_major = 4;
  b.open();
  for (int i = 0; i < 100; ++i) b.put("small");
  EXPECT_EQ(b.hooks.begun.size(), 10u);
  for (size_t i = 0; i < b.hooks.begun.size(); ++i)
    EXPECT_EQ(b.hooks.begun[i].second, i % 4 == 0) << i;
  // 20 KB events: two in a segment of 64 KB.
  const std::string big(20 << 10, 'x');
  for (int i = 0; i < 6; ++i) b.put(big);
  EXPECT_EQ(b.hooks.begun.size(), 13u);
  EXPECT_GT(fault::mark<"journal.append.rolled">.hits.load(), 0u);
  EXPECT_EQ(b.journal->segments().size(), 13u);
  uint64_t bytes = 0;
  for (auto& s : b.journal->segments()) bytes += s.bytes;
  EXPECT_EQ(b.journal->live_bytes(), bytes);
  b.kill();
  auto scan = b.scan();
  EXPECT_EQ(events(scan).size(), 106u);
  EXPECT_EQ(kinds(scan), "");
  EXPECT_EQ(scan.segments.size(), 13u);
}

TEST(JournalWriter, TheNextSegmentIsReadyBeforeItIsNeeded) {
  Bench b;
  b.open();
  b.executor.run();
  EXPECT_TRUE(b.device.files.contains(SegmentId{3}));
  EXPECT_FALSE(b.device.files.contains(SegmentId{4}));
  b.device.create_time = kSecond;
  b.put("one");
  b.journal->roll(false);
  b.put("two");
  b.journal->roll(false);
  Lsn lsn = b.put("three");
  EXPECT_EQ(b.journal->written(), lsn) << "rolling does not wait";
  EXPECT_FALSE(b.journal->can_roll());
  EXPECT_FALSE(b.journal->awaits_segment(0.5)) << "most of the last one is left";
  EXPECT_TRUE(b.journal->awaits_segment(1.0));
  // The one after that is being made: events wait in memory, and get written once it is there.
  b.journal->roll(false);
  lsn = b.put("four");
  EXPECT_LT(b.journal->written(), lsn);
  EXPECT_GT(fault::mark<"journal.create.waited">.hits.load(), 0u);
  b.executor.run_for(2 * kSecond);
  EXPECT_GE(b.journal->durable(), lsn);
  b.kill();
  EXPECT_THAT(events(b.scan()), ElementsAre("one", "two", "three", "four"));
}

TEST(JournalWriter, WithoutSpaceForASegmentItSaysSoAndGoesOnLater) {
  Bench b;
  b.device.create_time = kMillisecond;
  b.open();
  b.device.fail_create = ENOSPC;
  b.executor.run_for(kSecond);
  EXPECT_TRUE(b.journal->out_of_space());
  EXPECT_FALSE(b.journal->failed());
  Lsn lsn = b.put("there is still room");
  b.sync();
  EXPECT_GE(b.journal->durable(), lsn);
  b.device.fail_create = 0;
  b.executor.run_for(kSecond);
  EXPECT_FALSE(b.journal->out_of_space());
  b.journal->roll(false);
  lsn = b.put("more");
  EXPECT_EQ(b.journal->written(), lsn);
}

TEST(JournalWriter, TrimGivesBackWhatIsOlderThanTheNewestMajorKept) {
  Bench b;
  b.options.segment_events = 5;
  b.options.segments_per_major = 4;
  b.open();
  for (int i = 0; i < 48; ++i) b.put(std::to_string(i));
  ASSERT_EQ(b.journal->current_segment(), SegmentId{10});  // majors: 1, 5, 9
  ASSERT_TRUE(b.executor.wait(b.journal->trim(SegmentId{4})));
  EXPECT_EQ(b.journal->segments().front().id, SegmentId{1});
  ASSERT_TRUE(b.executor.wait(b.journal->trim(SegmentId{8})));
  EXPECT_EQ(b.journal->segments().front().id, SegmentId{5});
  EXPECT_EQ(b.device.files.begin()->first, SegmentId{5});
  ASSERT_TRUE(b.executor.wait(b.journal->trim(SegmentId{100})));
  EXPECT_EQ(b.journal->segments().front().id, SegmentId{9});
  b.journal->roll(true);
  ASSERT_TRUE(b.executor.wait(b.journal->trim(SegmentId{100})));
  EXPECT_EQ(b.journal->segments().size(), 1u) << "the current one stays";
  // Recycled files hold old frames; none of them counts.
  for (int i = 0; i < 20; ++i) b.put("new");
  b.kill();
  auto scan = b.scan();
  EXPECT_EQ(kinds(scan), "");
  EXPECT_EQ(events(scan).size(), 20u);
}

TEST(JournalWriter, ATrimThatWasCutShortLeavesNoDamage) {
  for (int stop = 0; stop < 4; ++stop) {
    Bench b;
    b.options.segment_events = 5;
    b.options.segments_per_major = 4;
    b.open();
    for (int i = 0; i < 30; ++i) b.put("e");
    struct Stop {
      int left;
      static void hit(void* self, const fault::Site& site) {
        if (std::string_view(site.name) == "journal.trim.before" &&
            static_cast<Stop*>(self)->left-- == 0)
          throw fault::Killed{};
      }
    } at{stop};
    fault::set_handler(&Stop::hit, &at);
    bool killed = false;
    try {
      (void)b.executor.wait(b.journal->trim(SegmentId{5}));
    } catch (const fault::Killed&) {
      killed = true;
    }
    fault::set_handler(nullptr, nullptr);
    ASSERT_TRUE(killed) << stop;
    b.kill();
    EXPECT_EQ(b.device.files.begin()->first.v, 1u + stop);
    b.device.power_cut([] { return false; });
    auto scan = b.reopen(false);
    EXPECT_EQ(kinds(scan), "");
    ASSERT_FALSE(scan.segments.empty());
    EXPECT_EQ(scan.segments.front().id, SegmentId{5});
    EXPECT_EQ(b.device.files.begin()->first, SegmentId{5}) << "the next owner removes the rest";
  }
}

TEST(JournalWriter, AFailedWriteOrSyncEndsItOnce) {
  for (int what = 0; what < 3; ++what) {
    Bench b;
    b.open();
    Lsn durable = b.journal->durable();
    if (what == 0) b.device.fail_write = EIO;
    if (what == 1) b.device.fail_sync = EIO;
    if (what == 2) {
      b.data.change();
      b.data.fail_sync = EIO;
    }
    b.append("lost");
    auto synced = b.executor.wait(b.journal->sync());
    ASSERT_FALSE(synced);
    EXPECT_EQ(synced.error().code, EIO);
    b.device.fail_write = b.device.fail_sync = b.data.fail_sync = 0;
    b.put("nothing moves any more");
    EXPECT_FALSE(b.executor.wait(b.journal->sync()));
    b.executor.run_for(kSecond);
    EXPECT_EQ(b.hooks.failures, 1);
    EXPECT_TRUE(b.journal->failed());
    EXPECT_EQ(b.journal->durable(), durable);
  }
}

TEST(JournalWriter, ABarrierThatDoesNotFitBeginsASegment) {
  Bench b(32 << 10);
  b.open();
  for (int i = 0; i < 2000; ++i) {
    b.data.change();
    b.put("x");
    b.sync();
  }
  EXPECT_EQ(b.journal->segments().back().id, b.journal->current_segment());
  b.kill();
  auto scan = b.scan(false);
  EXPECT_EQ(kinds(scan), "");
  EXPECT_EQ(events(scan).size(), 2000u);
}

}  // namespace
}  // namespace graftfs::testing
