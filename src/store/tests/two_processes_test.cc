// One local volume, several processes: a rank changes hands while its old owner is stopped
// somewhere, and wakes up later.

#include <gmock/gmock.h>

#include <sys/file.h>

#include <fstream>
#include <thread>

#include "store/fence.h"
#include "store/tests/other_process.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

namespace fs = std::filesystem;
constexpr RankId kRank{0};
const std::string kStale = fmt::format("error {}", ESTALE);
const std::string kBusy = fmt::format("error {}", EBUSY);

class TwoProcesses : public ::testing::Test {
 protected:
  TwoProcesses() {
    EXPECT_OK(LocalStore::format(dir_.path));
    LocalOptions options;
    options.journal.segment_capacity = 64 << 10;
    options.dirs_map_size = 1 << 26;
    volume_ = *LocalVolume::open(dir_.path, options);
    store_ = *LocalStore::on(loop_, pool_, volume_);
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop_, std::move(task));
  }
  Result<JournalDevice*> take() {
    OwnOptions options;
    options.mode = OwnMode::take;
    return run(store_->own_journal(kRank, options));
  }
  std::optional<std::string> entry(uint64_t dir) {
    return *run(store_->dirs().read_entry(Ino{dir}, "k"));
  }
  std::set<std::string> journal_files(const std::string& prefix) {
    std::set<std::string> names;
    for (auto& e : fs::directory_iterator(dir_.path + "/journal/rank-0")) {
      std::string name = e.path().filename();
      if (name.starts_with(prefix)) names.insert(name);
    }
    return names;
  }

  TempDir dir_;
  EventLoop loop_;
  BlockingPool pool_{"test", 2};
  std::shared_ptr<LocalVolume> volume_;
  std::unique_ptr<LocalStore> store_;
};

TEST_F(TwoProcesses, AStoppedOwnerThatWakesUpChangesNothing) {
  OtherProcess old(dir_.path);
  ASSERT_EQ(old.ask("own if_free"), "ok");
  for (const char* line : {"create 1", "write 1 first", "sync 1", "commit 5 early", "fill 700"}) {
    ASSERT_EQ(old.ask(line), "ok") << line;
  }
  old.stop();
  // What it will find when it wakes up.
  for (const char* line :
       {"commit 5 late", "create 2", "remove 1", "erase_data 700", "write 1 stale"})
    old.tell(line);
  EXPECT_CODE(run(store_->own_journal(kRank)), EBUSY);
  auto owned = take();
  ASSERT_OK(owned);
  EXPECT_EQ(*run((*owned)->read(SegmentId{1}, 0, 5)), "first");
  ASSERT_OK(run((*owned)->create(SegmentId{2})));
  ASSERT_OK(run((*owned)->write(SegmentId{2}, 0, "mine")));
  auto before = journal_files("0");
  old.wake();
  EXPECT_EQ(old.hear(), kStale) << "commit";
  EXPECT_EQ(old.hear(), kStale) << "create";
  EXPECT_EQ(old.hear(), kStale) << "remove";
  EXPECT_EQ(old.hear(), kStale) << "erase_data";
  // A write is not asked about: it goes where the new owner reads no more.
  EXPECT_EQ(old.hear(), "ok") << "write";
  EXPECT_EQ(entry(5), "early");
  EXPECT_EQ(*run((*owned)->read(SegmentId{2}, 0, 4)), "mine");
  EXPECT_EQ(before, journal_files("0"));
  std::string bytes(5, '?');
  EXPECT_OK(run(store_->data().read(Ino{700}, 0, bytes.data(), 5)));
  EXPECT_EQ(bytes, "bytes");
  EXPECT_EQ(old.ask("own if_free"), kBusy) << "of its own process, which it has to end";
}

// Its open descriptors lead nowhere once the new owner has trimmed.
TEST_F(TwoProcesses, FilesOfAnOwnerThatMayLiveAreNeverUsedAgain) {
  OtherProcess old(dir_.path);
  ASSERT_EQ(old.ask("own if_free"), "ok");
  ASSERT_EQ(old.ask("create 1"), "ok");
  old.stop();
  auto owned = take();
  ASSERT_OK(owned);
  for (const std::string& name : journal_files("free-")) EXPECT_TRUE(name.starts_with("free-2-"));
  ASSERT_OK(run((*owned)->create(SegmentId{2})));
  EXPECT_OK(run((*owned)->remove(SegmentId{1})));
  ASSERT_OK(run((*owned)->create(SegmentId{3})));
  ASSERT_OK(run((*owned)->create(SegmentId{4})));
  ASSERT_OK(run((*owned)->create(SegmentId{5})));
  old.tell("write 1 stale");
  old.wake();
  EXPECT_EQ(old.hear(), "ok");
  for (uint64_t id : {2, 3, 4, 5})
    EXPECT_EQ(*run((*owned)->read(SegmentId{id}, 0, 5)), std::string(5, '\0')) << id;
  // Its own it does recycle.
  EXPECT_OK(run((*owned)->remove(SegmentId{3})));
  EXPECT_FALSE(journal_files("free-2-").empty());
}

// A segment that slipped through before the fence was asked.
TEST_F(TwoProcesses, ASegmentThatAFencedOwnerMadeIsInNobodysWay) {
  auto owned = run(store_->own_journal(kRank));
  ASSERT_OK(owned);
  std::ofstream(dir_.path + "/journal/rank-0/0000000000000007.seg") << "of an older owner";
  ASSERT_OK(run((*owned)->create(SegmentId{7})));
  EXPECT_EQ(run((*owned)->read(SegmentId{7}, 0, 64 << 10))->size(), size_t{64 << 10});
  EXPECT_CODE(run((*owned)->create(SegmentId{7})), EEXIST);
}

TEST_F(TwoProcesses, AProcessThatDiesWhileItTakesARankLeavesItToTheNext) {
  uint32_t epoch = 0;
  for (const char* point :
       {"store.own.looked", "store.own.locked", "store.own.fenced", "store.cluster.linking"}) {
    OtherProcess dies(dir_.path, point);
    EXPECT_EQ(dies.ask("own if_free"), "") << point;
    OtherProcess next(dir_.path);
    EXPECT_EQ(next.ask("own if_free"), "ok") << point;
    std::string key = fence_key(kRank);
    Epoch now = decode_fence(run(store_->state().get(key))->value, kRank)->epoch;
    EXPECT_GT(now.v, epoch) << point;
    epoch = now.v;
  }
  EXPECT_EQ(epoch, 5u) << "one of the four had raised the fence";
  EXPECT_EQ(journal_files("lock-"), std::set<std::string>{"lock-5"});
}

// The new owner waits for a lease that was not known to be over.
TEST_F(TwoProcesses, ALeaseThatMayRunIsWaitedForAndOneThatIsOverIsNot) {
  OtherProcess old(dir_.path);
  ASSERT_EQ(old.ask("own if_free"), "ok");
  old.stop();
  OwnOptions options;
  options.mode = OwnMode::take;
  options.lease = 300 * kMillisecond;
  options.beat = "cluster/node-1";
  ASSERT_OK(run(store_->state().set(options.beat, 0, "1")));
  options.beat_version = 1;
  Nanos begin = loop_.now();
  ASSERT_OK(run(store_->own_journal(kRank, options)));
  EXPECT_LT(loop_.now() - begin, 300 * kMillisecond);

  EventLoop other_loop;
  auto other = *LocalStore::on(other_loop, pool_, volume_);
  ASSERT_OK(run(store_->state().set(options.beat, 1, "2")));
  begin = other_loop.now();
  ASSERT_OK(graftfs::run(other_loop, other->own_journal(kRank, options)));
  EXPECT_GE(other_loop.now() - begin, 300 * kMillisecond);
}

TEST_F(TwoProcesses, AProcessThatDiesInACommitHoldsUpNobody) {
  OtherProcess dies(dir_.path, "store.dirs.committing");
  ASSERT_EQ(dies.ask("commit 5 lost"), "");
  OtherProcess lives(dir_.path);
  EXPECT_EQ(lives.ask("commit 5 kept"), "ok");
  volume_->clear_dead_readers();
  EXPECT_EQ(entry(5), "kept");
}

// A process that is stopped in a commit holds the lock of the directories; it is for the one who
// waits to say what is done about it.
TEST_F(TwoProcesses, ACommitThatWaitsForAStoppedProcessSaysSo) {
  OtherProcess stopped(dir_.path);
  ASSERT_EQ(stopped.ask("own if_free"), "ok");
  local::Fd dirs(::open((dir_.path + "/dirs").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(::flock(dirs.get(), LOCK_EX), 0);
  std::atomic<int> calls{0};
  volume_->when_stuck(50 * kMillisecond, [&] {
    if (++calls == 2) ::flock(dirs.get(), LOCK_UN);
  });
  DirUpdate update;
  update.dir = Ino{5};
  update.put.emplace_back("k", "patient");
  std::vector<DirUpdate> updates{update};
  EXPECT_OK(run(store_->dirs().commit(updates)));
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(entry(5), "patient");
}

TEST_F(TwoProcesses, AMapThatAnotherProcessMadeLargerIsFollowed) {
  OtherProcess other(dir_.path);
  ASSERT_EQ(other.ask("commit 5 small"), "ok");
  // Beyond the 64 MiB that the other one has mapped.
  for (uint64_t d = 100; d < 124; ++d) {
    DirUpdate update;
    update.dir = Ino{d};
    for (int i = 0; i < 1000; ++i)
      update.put.emplace_back(fmt::format("{:06}", i), std::string(3500, 'v'));
    std::vector<DirUpdate> updates{update};
    ASSERT_OK(run(store_->dirs().commit(updates)));
  }
  EXPECT_GT(fs::file_size(dir_.path + "/dirs/data.mdb"), size_t{1} << 26);
  EXPECT_EQ(other.ask("commit 5 large"), "ok");
  EXPECT_EQ(entry(5), "large");
}

// Stores of one process side by side, each on its own thread.
TEST_F(TwoProcesses, StoresOfSeveralThreadsShareAVolume) {
  constexpr int kThreads = 3, kCommits = 20;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      EventLoop loop;
      auto store = *LocalStore::on(loop, pool_, volume_);
      RankId rank{static_cast<uint16_t>(t + 1)};
      ASSERT_OK(graftfs::run(loop, store->own_journal(rank)));
      for (int i = 0; i < kCommits; ++i) {
        DirUpdate update;
        update.dir = Ino{static_cast<uint64_t>(1000 + t)};
        update.put.emplace_back(fmt::format("{}", i), "v");
        std::vector<DirUpdate> updates{update};
        ASSERT_OK(graftfs::run(loop, store->dirs().commit(updates)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    Ino dir{static_cast<uint64_t>(1000 + t)};
    EXPECT_EQ(run(store_->dirs().read_entries(dir, "", 99))->size(), size_t{kCommits});
  }
}

// What another process commits makes this one load the checksums of the pages anew, while threads
// of its own read.
TEST_F(TwoProcesses, WhoReadsWhileChecksumsAreLoadedAnewFindsNoDamage) {
  constexpr int kEntries = 2000, kRounds = 100;
  OtherProcess other(dir_.path);
  ASSERT_EQ(other.ask("own"), "ok");
  OwnOptions options;
  ASSERT_OK(run(store_->own_journal(RankId{1}, options)));
  // Each page in several transactions, so that the file has sums that do not hold any more.
  for (int i = 0; i < 5; ++i) {
    DirUpdate update;
    update.dir = Ino{1000};
    for (int e = 0; e < kEntries; ++e)
      update.put.emplace_back(std::to_string(e), std::string(900, static_cast<char>('a' + i)));
    std::vector<DirUpdate> updates{update};
    ASSERT_OK(run(store_->dirs().commit(updates)));
  }
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      EventLoop loop;
      auto store = *LocalStore::on(loop, pool_, volume_);
      for (int e = t; !stop; e = (e + 7) % kEntries) {
        auto read = graftfs::run(loop, store->dirs().read_entry(Ino{1000}, std::to_string(e)));
        ASSERT_OK(read);
        ASSERT_EQ(read->value_or(""), std::string(900, 'e'));
      }
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    EXPECT_EQ(other.ask(fmt::format("commit 5 {}", i)), "ok");
    DirUpdate update;
    update.dir = Ino{6};
    update.put.emplace_back("k", std::to_string(i));
    std::vector<DirUpdate> updates{update};
    EXPECT_OK(run(store_->dirs().commit(updates)));
  }
  stop = true;
  for (auto& thread : threads) thread.join();
}

// Another process wrote; this one is told, and makes it durable and sees its size.
TEST_F(TwoProcesses, DataOfAnotherProcessIsSyncedAndSeen) {
  DataStore& data = store_->data();
  EXPECT_OK(run(data.write(Ino{700}, 0, "x", 0)));
  EXPECT_OK(run(data.sync_all()));
  EXPECT_FALSE(data.has_unsynced());
  OtherProcess other(dir_.path);
  ASSERT_EQ(other.ask("fill 700"), "ok");
  data.note_written(Ino{700});
  EXPECT_TRUE(data.has_unsynced());
  EXPECT_OK(run(data.sync_all()));
  EXPECT_FALSE(data.has_unsynced());
  data.forget(Ino{700});
  // All of the 5 bytes that are there are known to count, though this process wrote one.
  EXPECT_OK(run(data.write(Ino{700}, 6, "!", 5)));
  std::string bytes(7, '?');
  EXPECT_OK(run(data.read(Ino{700}, 0, bytes.data(), 7)));
  EXPECT_EQ(bytes, std::string("bytes\0!", 7));
}

}  // namespace
}  // namespace graftfs
