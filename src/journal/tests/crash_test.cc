// Random lives of a journal, each ended by a crash: what is found again is a prefix of what was
// appended, it holds all that was durable (or written, where only the process died), and it
// reveals no file data that is not on disk.

#include <gtest/gtest.h>

#include <random>

#include "test_device.h"

namespace graftfs::testing {
namespace {

class CrashRun {
 public:
  explicit CrashRun(uint32_t seed) : seed_(seed), random_(seed), b_(64 << 10) {
    b_.options.durability = below(2) ? Durability::strict : Durability::posix;
    b_.options.segment_events = 5 + below(40);
    b_.options.segments_per_major = 2 + below(4);
    b_.device.write_time = below(3) * 200 * kMicrosecond;
    b_.device.sync_time = below(3) * kMillisecond;
    b_.device.create_time = below(2) * 3 * kMillisecond;
    b_.data.sync_time = below(2) * kMillisecond;
  }

  void run() {
    b_.open();
    for (uint64_t life = 1 + below(5); life > 0 && !::testing::Test::HasFatalFailure(); --life) {
      work(below(120));
      if (!::testing::Test::HasFatalFailure()) crash(below(2) == 0);
    }
  }

 private:
  struct Event {
    std::string payload;
    Lsn lsn;
    uint64_t data;  // the data changes before it, which it may reveal
  };

  uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

  void work(uint64_t steps) {
    for (uint64_t i = 0; i < steps; ++i) {
      if (below(4) == 0) b_.data.change();
      std::string payload = fmt::format("{}.{}", ++count_, std::string(below(900), 'p'));
      const Lsn lsn = b_.append(payload);
      events_.push_back({std::move(payload), lsn, b_.data.changes});
      if (below(2)) b_.journal->flush();
      if (below(10) == 0) b_.journal->want_sync();
      b_.executor.run_for(below(4) * 300 * kMicrosecond);
      if (below(40) == 0) {
        auto trimmed = b_.executor.wait(b_.journal->trim(b_.journal->current_segment()));
        ASSERT_TRUE(trimmed) << trimmed.error().message;
      }
    }
  }

  void crash(bool power_cut) {
    const Lsn promised = power_cut ? b_.journal->durable() : b_.journal->written();
    const Lsn oldest = b_.journal->segments().front().first;
    b_.kill();
    b_.device.die([&](uint64_t size) { return below(static_cast<uint32_t>(size) + 1); });
    if (power_cut) b_.device.power_cut([&] { return below(2) == 0; });
    JournalScan scan = b_.scan(!power_cut);
    ASSERT_TRUE(decide(scan, LossPolicy::refuse, "v").start) << seed_ << ": " << kinds(scan);
    if (power_cut) cut_scan(scan, scan.safe);

    while (trimmed_ < events_.size() && events_[trimmed_].lsn < oldest) ++trimmed_;
    const auto found = testing::events(scan);
    const size_t kept = trimmed_ + found.size();
    ASSERT_LE(kept, events_.size()) << seed_;
    for (size_t i = trimmed_; i < kept; ++i)
      ASSERT_EQ(found[i - trimmed_], events_[i].payload) << seed_;
    for (size_t i = 0; i < events_.size(); ++i) {
      if (events_[i].lsn <= promised) {
        ASSERT_LT(i, kept) << seed_ << ": a promised event is lost";
      }
      if (power_cut && i < kept) {
        ASSERT_LE(events_[i].data, b_.data.synced_changes) << seed_ << ": data is not on disk";
      }
    }
    events_.resize(kept);
    if (power_cut) {
      b_.data.unsynced = false;
      b_.data.changes = b_.data.synced_changes;
      for (Event& e : events_) e.data = std::min(e.data, b_.data.changes);
    }
    b_.options.epoch = Epoch{b_.options.epoch.v + 1};
    b_.open(scan.last, scan.newest.next(), live_segments(scan));
    // A start that was completed needs no luck any more.
    ASSERT_GE(b_.journal->durable(), scan.last);
  }

  const uint32_t seed_;
  std::mt19937 random_;
  Bench b_;
  std::vector<Event> events_;
  uint64_t count_ = 0;
  size_t trimmed_ = 0;
};

TEST(JournalCrash, WhatIsFoundIsAPrefixThatHoldsWhatWasPromised) {
  for (uint32_t seed = 0; seed < 600 && !HasFatalFailure(); ++seed) CrashRun(seed).run();
}

Task<void> trim_all(Journal& journal) {
  Result<void> trimmed = co_await journal.trim(journal.current_segment());
  CHECK(trimmed.has_value());
}

TEST(JournalCrash, APowerCutWhileTrimIsSyncingLosesNoSegmentWhateverSectorsSurvive) {
  bool more = true;
  for (uint32_t mask = 0; more; ++mask) {
    Bench b(64 << 10);
    b.hooks.checkpoint = std::string(1500, 'c');
    b.open();
    b.put("one");
    b.sync();
    b.executor.run_for(kSecond);
    b.device.sync_time = kSecond;
    b.journal->roll(true);
    {
      TaskScope scope;
      scope.spawn(trim_all(*b.journal));
      b.executor.run_for(kMillisecond);
      ASSERT_FALSE(scope.empty());
      b.kill();
    }
    uint32_t sector = 0;
    b.device.power_cut([&] { return mask >> sector++ & 1; });
    more = mask + 1 < 1u << sector;
    const JournalScan scan = b.scan(false);
    ASSERT_TRUE(decide(scan, LossPolicy::refuse, "v").start) << mask << ": " << kinds(scan);
    ASSERT_FALSE(scan.segments.empty()) << mask;
    if (scan.segments.front().id == SegmentId{1}) {
      ASSERT_EQ(events(scan), std::vector<std::string>{"one"});
    }
  }
}

}  // namespace
}  // namespace graftfs::testing
