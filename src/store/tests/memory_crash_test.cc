// What the simulated disk leaves after a crash, and what its faults do.

#include <set>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

constexpr RankId kRank{0};
constexpr SegmentId kSegment{1};

class MemoryCrash : public ::testing::Test {
 protected:
  MemoryCrash() { boot(); }
  void boot() { store_ = std::make_unique<MemoryStore>(loop_, disk_, &random_); }
  void crash(CrashKind kind) {
    store_.reset();
    disk_->crash(random_, kind);
    boot();
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  JournalDevice& own() {
    auto owned = run(store_->own_journal(kRank));
    EXPECT_OK(owned);
    return **owned;
  }
  JournalDevice& own_with_segment() {
    JournalDevice& j = own();
    EXPECT_OK(run(j.create(kSegment)));
    return j;
  }
  std::string segment(uint64_t length) { return *run(own().read(kSegment, 0, length)); }

  EventLoop loop_;
  TestRandom random_{1};
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<MemoryStore> store_;
};

TEST_F(MemoryCrash, SyncedWritesSurviveAPowerCutAndOthersSectorBySector) {
  std::set<std::string> tails;
  for (int round = 0; round < 64; ++round) {
    disk_ = std::make_shared<MemoryDisk>();
    boot();
    JournalDevice& j = own_with_segment();
    EXPECT_OK(run(j.write(kSegment, 0, std::string(1024, 'a'))));
    EXPECT_OK(run(j.sync(kSegment)));
    EXPECT_OK(run(j.write(kSegment, 1024, std::string(1024, 'b'))));
    crash(CrashKind::power_cut);
    std::string bytes = segment(2048);
    EXPECT_FALSE(store_->unsynced_survived(kRank));
    EXPECT_EQ(bytes.substr(0, 1024), std::string(1024, 'a'));
    for (size_t s = 1024; s < 2048; s += 512) {
      std::string sector = bytes.substr(s, 512);
      EXPECT_TRUE(sector == std::string(512, 'b') || sector == std::string(512, '\0'));
    }
    tails.insert(bytes.substr(1024));
  }
  EXPECT_EQ(tails.size(), 4u) << "each sector for itself";
}

TEST_F(MemoryCrash, ASectorWrittenTwiceMayShowAnyOfItsVersions) {
  std::set<char> seen;
  for (int round = 0; round < 64; ++round) {
    disk_ = std::make_shared<MemoryDisk>();
    boot();
    JournalDevice& j = own_with_segment();
    for (char c : {'1', '2', '3'}) {
      EXPECT_OK(run(j.write(kSegment, 0, std::string(512, c))));
      if (c == '1') EXPECT_OK(run(j.sync(kSegment)));
    }
    crash(CrashKind::power_cut);
    seen.insert(segment(1)[0]);
  }
  EXPECT_EQ(seen, (std::set<char>{'1', '2', '3'}));
}

TEST_F(MemoryCrash, ProcessDeathKeepsWhatWasCompleted) {
  JournalDevice& j = own_with_segment();
  EXPECT_OK(run(j.write(kSegment, 0, "journal")));
  EXPECT_OK(run(store_->data().write(Ino{9}, 0, "data", 0)));
  crash(CrashKind::process_death);
  EXPECT_EQ(segment(7), "journal");
  EXPECT_TRUE(store_->unsynced_survived(kRank));
  std::string out(4, ' ');
  EXPECT_OK(run(store_->data().read(Ino{9}, 0, out.data(), 4)));
  EXPECT_EQ(out, "data");
  EXPECT_TRUE(store_->data().has_unsynced());
}

Task<void> drop(Task<Result<void>> task) { (void)co_await std::move(task); }

TEST_F(MemoryCrash, ACommitInFlightLeavesEachDirectoryWhole) {
  std::set<int> outcomes;
  for (int round = 0; round < 200; ++round) {
    disk_ = std::make_shared<MemoryDisk>();
    boot();
    std::vector<DirUpdate> batch(2);
    for (int i = 0; i < 2; ++i) {
      batch[i].dir = Ino{1u + i};
      batch[i].header = "h";
      batch[i].put = {{"a", "1"}, {"b", "2"}};
    }
    {
      TaskScope scope;
      scope.spawn(drop(store_->dirs().commit(batch)));
    }
    crash(CrashKind::process_death);
    int outcome = 0;
    for (uint64_t i = 0; i < 2; ++i) {
      size_t entries = run(store_->dirs().read_entries(Ino{1 + i}, "", 9))->size();
      bool header = run(store_->dirs().read_header(Ino{1 + i}))->has_value();
      EXPECT_TRUE((entries == 2 && header) || (entries == 0 && !header));
      if (header) outcome |= 1 << i;
    }
    outcomes.insert(outcome);
  }
  EXPECT_EQ(outcomes.size(), 4u) << "none, either, both";
}

TEST_F(MemoryCrash, AWriteInFlightMayBeTorn) {
  for (CrashKind kind : {CrashKind::process_death, CrashKind::power_cut}) {
    std::set<std::string> seen;
    for (int round = 0; round < 100; ++round) {
      disk_ = std::make_shared<MemoryDisk>();
      boot();
      JournalDevice& j = own_with_segment();
      {
        TaskScope scope;
        scope.spawn(drop(j.write(kSegment, 0, std::string(1024, 'w'))));
      }
      crash(kind);
      std::string bytes = segment(1024);
      seen.insert(std::string(1, bytes[0]) + bytes[1023]);
    }
    // A process that dies leaves the first part of a write, a power cut any part.
    const std::string only_last = std::string(1, '\0') + 'w';
    EXPECT_EQ(seen.size(), kind == CrashKind::power_cut ? 4u : 3u);
    EXPECT_EQ(seen.contains(only_last), kind == CrashKind::power_cut);
  }
}

TEST_F(MemoryCrash, ANewOwnerFencesTheOldOne) {
  JournalDevice& old = own_with_segment();
  MemoryStore other(loop_, disk_, nullptr);
  EXPECT_CODE(run(other.own_journal(kRank)), EBUSY);
  OwnOptions take;
  take.mode = OwnMode::take;
  auto owned = run(other.own_journal(kRank, take));
  ASSERT_OK(owned);
  EXPECT_CODE(run(old.write(kSegment, 0, "late")), ESTALE);
  EXPECT_CODE(run(old.sync(kSegment)), ESTALE);
  EXPECT_CODE(run(old.remove(kSegment)), ESTALE);
  EXPECT_OK(run((*owned)->write(kSegment, 0, "new")));
}

TEST_F(MemoryCrash, AFailedSyncDropsWhatItCoveredForGood) {
  JournalDevice& j = own_with_segment();
  EXPECT_OK(run(j.write(kSegment, 0, std::string(4096, 'x'))));
  disk_->script({{StoreCall::journal_sync, 1, FaultKind::eio}});
  EXPECT_CODE(run(j.sync(kSegment)), EIO);
  // The next one succeeds, as Linux does, and proves nothing about them.
  EXPECT_OK(run(j.sync(kSegment)));
  crash(CrashKind::power_cut);
  EXPECT_EQ(segment(4096), std::string(4096, '\0'));

  EXPECT_OK(run(store_->data().write(Ino{5}, 0, "lost", 0)));
  disk_->script({{StoreCall::data_sync, 1, FaultKind::eio}});
  EXPECT_CODE(run(store_->data().sync(Ino{5})), EIO);
  EXPECT_CODE(run(store_->data().sync(Ino{5})), EIO);
  EXPECT_CODE(run(store_->data().sync_all()), EIO);
  EXPECT_TRUE(store_->data().has_unsynced());
}

TEST_F(MemoryCrash, AnOwnerThatDiesEarlyHandsItsDoubtOn) {
  JournalDevice& j = own_with_segment();
  EXPECT_OK(run(j.sync(kSegment)));
  crash(CrashKind::power_cut);
  own();
  EXPECT_FALSE(store_->unsynced_survived(kRank));
  crash(CrashKind::process_death);
  JournalDevice& later = own();
  EXPECT_FALSE(store_->unsynced_survived(kRank));
  EXPECT_OK(run(later.sync(kSegment)));  // the old segment proves nothing
  EXPECT_OK(run(later.create(kSegment.next())));
  EXPECT_OK(run(later.sync(kSegment.next())));
  crash(CrashKind::process_death);
  own();
  EXPECT_TRUE(store_->unsynced_survived(kRank));
}

TEST_F(MemoryCrash, FaultsAreInjectedByScriptAndByChance) {
  JournalDevice& j = own_with_segment();
  disk_->script({{StoreCall::journal_write, 2, FaultKind::lost},
                 {StoreCall::journal_write, 3, FaultKind::misdirected},
                 {StoreCall::dirs_commit, 1, FaultKind::enospc}});
  EXPECT_OK(run(j.write(kSegment, 0, "one")));
  EXPECT_OK(run(j.write(kSegment, 1024, "two")));
  EXPECT_OK(run(j.write(kSegment, 2048, "three")));
  std::string bytes = *run(j.read(kSegment, 0, 4096));
  EXPECT_EQ(bytes.substr(0, 3), "one");
  EXPECT_EQ(bytes.find("two"), std::string::npos);
  EXPECT_EQ(bytes.find("three"), 2048u + 512u) << "in the neighbouring sector";
  DirUpdate u;
  u.dir = Ino{1};
  u.header = "h";
  EXPECT_CODE(run(store_->dirs().commit({u})), ENOSPC);
  EXPECT_EQ(*run(store_->dirs().read_header(Ino{1})), std::nullopt);
  EXPECT_OK(run(store_->dirs().commit({u})));
  disk_->faults()[StoreCall::data_read].eio_ppm = 500'000;
  int failed = 0;
  char c;
  for (int i = 0; i < 100; ++i) failed += !run(store_->data().read(Ino{1}, 0, &c, 1));
  EXPECT_GT(failed, 20);
  EXPECT_LT(failed, 80);
}

TEST_F(MemoryCrash, AFullDiskWorksAgainOnceSpaceIsFreed) {
  disk_->set_capacity(1 << 20);
  EXPECT_OK(run(store_->data().write(Ino{1}, 0, std::string(900 << 10, 'x'), 0)));
  EXPECT_CODE(run(store_->data().write(Ino{2}, 0, std::string(200 << 10, 'y'), 0)), ENOSPC);
  EXPECT_CODE(run(own().create(kSegment)), ENOSPC);
  // Overwriting takes no space.
  EXPECT_OK(run(store_->data().write(Ino{1}, 0, std::string(1000, 'z'), 900 << 10)));
  EXPECT_OK(run(store_->data().remove(Ino{1})));
  EXPECT_EQ(disk_->used(), 0u);
  EXPECT_OK(run(store_->data().write(Ino{2}, 0, std::string(200 << 10, 'y'), 0)));
}

TEST_F(MemoryCrash, BitsFlipWhereTheyAreStored) {
  JournalDevice& j = own_with_segment();
  EXPECT_OK(run(j.write(kSegment, 0, "AAAA")));
  EXPECT_TRUE(disk_->flip_journal_bit(kRank, kSegment, 8));
  EXPECT_EQ(*run(j.read(kSegment, 0, 4)), "A@AA");
  EXPECT_FALSE(disk_->flip_journal_bit(kRank, SegmentId{99}, 8));
  DirUpdate u;
  u.dir = Ino{1};
  u.header = "A";
  u.put = {{"k", "A"}};
  EXPECT_OK(run(store_->dirs().commit({u})));
  EXPECT_TRUE(disk_->flip_header_bit(Ino{1}, 0));
  EXPECT_TRUE(disk_->flip_entry_bit(Ino{1}, "k", 1));
  EXPECT_EQ(**run(store_->dirs().read_header(Ino{1})), "@");
  EXPECT_EQ(**run(store_->dirs().read_entry(Ino{1}, "k")), "C");
}

TEST_F(MemoryCrash, ACloneCrashesForItself) {
  JournalDevice& j = own_with_segment();
  EXPECT_OK(run(j.write(kSegment, 0, "kept here")));
  auto copy = disk_->clone();
  bool lost = false;
  for (int i = 0; i < 32 && !lost; ++i) {
    auto other = copy->clone();
    other->crash(random_, CrashKind::power_cut);
    MemoryStore store(loop_, other, nullptr);
    auto reader = run(store.read_journal(kRank));
    lost = *run((*reader)->read(kSegment, 0, 4)) != "kept";
  }
  EXPECT_TRUE(lost);
  EXPECT_EQ(*run(j.read(kSegment, 0, 9)), "kept here");
}

}  // namespace
}  // namespace graftfs
