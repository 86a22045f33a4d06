// The journal's length: what holds its tail, and what holds back those who make it longer.
#include "base/fault.h"
#include "server/tests/rank_fixture.h"

namespace graftfs {
namespace {

class RankJournalTest : public RankFixture {
 protected:
  void SetUp() override {
    disk_ = std::make_shared<MemoryDisk>(MemoryDiskOptions{.segment_capacity = kCapacity});
    options_.journal_cap = 1;  // raised to what is needed to make progress
    options_.segment_events = 128;
    options_.segments_per_major = 2;
    start();
  }
  SetattrArgs chmod(Ino ino, uint32_t mode) {
    SetattrArgs args;
    args.ino = ino;
    args.valid = kSetMode;
    args.mode = mode;
    return args;
  }

  static constexpr uint64_t kCapacity = 64 << 10;
};

TEST_F(RankJournalTest, StaysBelowItsCapWhateverArrivesAtOnce) {
  constexpr int kRequests = 8000;
  int answered = 0;
  uint64_t longest = 0;
  for (int i = 0; i < kRequests; ++i) {
    Request request;
    request.session = kSession;
    request.seq = request.oldest = ++seq_;
    request.args = MknodArgs{kRootIno, "f" + std::to_string(i), S_IFREG | 0600, 0, 0};
    rank_->submit(std::move(request), [&](Reply reply) {
      EXPECT_EQ(reply.err, 0);
      ++answered;
    });
    longest = std::max(longest, rank_->journal().live_bytes());
  }
  while (answered < kRequests) {
    loop_.run_one();
    longest = std::max(longest, rank_->journal().live_bytes());
  }
  EXPECT_GT(rank_->stats().throttled, 0u);
  EXPECT_GT(longest, rank_->journal_cap() / 2);
  // A new segment may open, with its checkpoint, when the cap is reached already.
  EXPECT_LE(longest, rank_->journal_cap() + kCapacity);
  EXPECT_EQ(call(GetattrArgs{kRootIno}).stat.size, uint64_t{kRequests});
}

TEST_F(RankJournalTest, WhatCannotBeWrittenBackDoesNotPinItsTail) {
  Ino dir = mkdir(kRootIno, "dir");
  Ino file = create(kRootIno, "removed");
  Ino busy = create(kRootIno, "busy");
  // Removing the data takes for ever: the removed directory stays frozen, and dirty.
  disk_->faults()[StoreCall::data_remove].latency_min = 3600 * kSecond;
  disk_->faults()[StoreCall::data_remove].latency_max = 3600 * kSecond;
  EXPECT_EQ(call(RmdirArgs{kRootIno, "dir"}).err, 0);
  EXPECT_EQ(call(UnlinkArgs{kRootIno, "removed"}).err, 0);
  call(ReleaseArgs{dir, 1});
  call(ReleaseArgs{file, 1});
  auto is_frozen = [&] {
    bool frozen = false;
    rank_->cache().for_each_dir([&](Dir& d) { frozen |= d.ino() == dir && d.frozen; });
    return frozen;
  };
  for (int i = 0; i < 10'000 && !is_frozen(); ++i) wait(pause());
  ASSERT_TRUE(is_frozen());
  const SegmentId tail = rank_->journal().segments().front().id;
  uint64_t logged = 0;
  for (uint32_t i = 0; logged < 3 * rank_->journal_cap(); ++i, logged += 64) {
    std::optional<Reply> reply;
    Request request;
    request.session = kSession;
    request.seq = request.oldest = ++seq_;
    request.args = chmod(busy, i % 512);
    rank_->submit(std::move(request), [&reply](Reply r) { reply = std::move(r); });
    for (int turn = 0; turn < 5000 && !reply; ++turn) loop_.run_one();
    if (!reply) {
      crash();
      FAIL() << "request " << i << " waits for a journal that nothing shortens";
    }
    ASSERT_EQ(reply->err, 0);
  }
  EXPECT_TRUE(is_frozen());
  EXPECT_GT(rank_->stats().relogged, 0u);
  EXPECT_GT(rank_->journal().segments().front().id, tail);
  EXPECT_LE(rank_->journal().live_bytes(), rank_->journal_cap() + kCapacity);
  const uint32_t mode = call(GetattrArgs{busy}).stat.mode;
  crash();
  disk_->faults() = {};
  start();
  EXPECT_EQ(call(GetattrArgs{busy}).stat.mode, mode);
  // The purge begins anew.
  for (int i = 0; i < 10'000 && rank_->stats().purged < 2; ++i) wait(pause());
  EXPECT_EQ(rank_->stats().purged, 2u);
  EXPECT_EQ(call(GetattrArgs{dir}).err, ESTALE);
}

// Counts the write-backs that reach their commit; from the second one on it takes for ever.
class SlowCommits {
 public:
  explicit SlowCommits(MemoryDisk& disk) : disk_(disk) {
    set_latency(kSecond);
    fault::set_handler(&SlowCommits::hit, this);
  }
  ~SlowCommits() {
    fault::set_handler(nullptr, nullptr);
    disk_.faults() = {};
  }
  SlowCommits(const SlowCommits&) = delete;
  SlowCommits& operator=(const SlowCommits&) = delete;
  int seen() const { return seen_; }

 private:
  static void hit(void* self, const fault::Site& site) {
    if (std::string_view(site.name) != "write_back.before_commit") return;
    auto& commits = *static_cast<SlowCommits*>(self);
    if (++commits.seen_ > 1) commits.set_latency(3600 * kSecond);
  }
  void set_latency(Nanos latency) {
    disk_.faults()[StoreCall::dirs_commit].latency_min = latency;
    disk_.faults()[StoreCall::dirs_commit].latency_max = latency;
  }

  MemoryDisk& disk_;
  int seen_ = 0;
};

TEST_F(RankJournalTest, WhatChangesDuringItsWriteBackStaysInTheJournal) {
  Ino file = create(kRootIno, "f");
  wait(rank_->write_back_all());
  stop();
  options_.write_back_after = 500 * kMillisecond;
  start();
  auto commits = std::make_unique<SlowCommits>(*disk_);
  ASSERT_EQ(call(chmod(file, 0640)).err, 0);
  for (int i = 0; i < 10'000 && commits->seen() == 0; ++i) wait(pause());
  ASSERT_EQ(commits->seen(), 1);
  ASSERT_EQ(call(chmod(file, 0600)).err, 0);
  // A lot of journal that nothing waits for.
  for (uint64_t i = 0; rank_->journal().live_bytes() < rank_->journal_cap() / 2; ++i) {
    rank_->open_session(SessionId{1000 + i});
    rank_->close_session(SessionId{1000 + i});
    loop_.run_one();
  }
  ASSERT_EQ(rank_->stats().write_backs, 0u);
  for (int i = 0; i < 10'000 && rank_->stats().write_backs == 0; ++i) wait(pause());
  ASSERT_EQ(rank_->stats().write_backs, 1u);
  for (int i = 0; i < 50; ++i) wait(pause());  // a trim follows, and no write-back yet
  EXPECT_EQ(rank_->stats().write_backs, 1u);
  crash();
  commits.reset();
  start();
  EXPECT_EQ(call(GetattrArgs{file}).stat.mode & 07777, 0600u);
}

// The data of a file may be on disk when the event that made the file is not.
TEST_F(RankJournalTest, DataWhoseFileAPowerCutTookIsGone) {
  const Ino next{rank_->state().inos.front().next};
  std::string bytes = "of a file that is lost";
  ASSERT_TRUE(wait(store_->data().write(next, 0, bytes, 0)).has_value());
  ASSERT_TRUE(wait(store_->data().sync(next)).has_value());
  crash(CrashKind::power_cut);
  start();
  auto left = wait(store_->data().list(kRootIno, 100));
  ASSERT_TRUE(left.has_value());
  EXPECT_EQ(std::count(left->begin(), left->end(), next), 0);
}

TEST_F(RankJournalTest, WhatWasPurgedIsNotInTheIndexOfInodes) {
  Ino file = create(kRootIno, "f");
  ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
  auto located = wait(store_->dirs().locate(file));
  ASSERT_TRUE(located && *located);
  EXPECT_TRUE(call(UnlinkArgs{kRootIno, "f"}).orphaned);
  ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
  call(ReleaseArgs{file, 1});
  for (int i = 0; i < 10'000 && rank_->stats().purged == 0; ++i) wait(pause());
  ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
  located = wait(store_->dirs().locate(file));
  ASSERT_TRUE(located.has_value());
  EXPECT_FALSE(located->has_value());
}

// A recovered directory hangs where the store says, up to the root, before anybody asks for it.
TEST_F(RankJournalTest, RecoveryHangsWhatDanglesWhereTheStoreSays) {
  Ino a = mkdir(kRootIno, "a");
  Ino b = mkdir(a, "b");
  Ino c = mkdir(b, "c");
  ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
  stop();
  start();
  // The journal now begins behind them, and names only the deepest.
  EXPECT_EQ(call(chmod(c, 0700)).err, 0);
  const DirHeader header = rank_->cache().find_dir(c)->header;
  Cache cache;
  RankState state = rank_->state();
  cache.apply_header(Lsn{1}, true, header);
  ASSERT_TRUE(wait(attach(store_->dirs(), cache, state)).has_value());
  ASSERT_NE(cache.find_dir(b), nullptr);
  EXPECT_EQ(Cache::path_of(*cache.find_dir(c)), "/a/b/c");

  Cache damaged;
  DirHeader lost = header;
  lost.at.parent = Ino{0xdead};
  damaged.apply_header(Lsn{1}, true, lost);
  auto attached = wait(attach(store_->dirs(), damaged, state));
  ASSERT_FALSE(attached.has_value());
  EXPECT_TRUE(attached.error().is_damage());
}

TEST_F(RankJournalTest, ADamagedJournalIsRefusedUnlessItsLossWasAccepted) {
  for (int i = 0; i < 20; ++i) create(kRootIno, "f" + std::to_string(i));
  ASSERT_EQ(call(SyncArgs{}).err, 0);
  const SegmentId segment = rank_->journal().current_segment();
  const uint64_t middle = rank_->journal().segments().back().bytes / 2;
  crash();
  ASSERT_TRUE(disk_->flip_journal_bit(options_.rank, segment, middle * 8));
  store_ = std::make_unique<MemoryStore>(loop_, disk_, &random_);
  rank_ = std::make_unique<Rank>(loop_, *store_, options_);
  auto started = wait(rank_->start());
  ASSERT_FALSE(started.has_value());
  EXPECT_TRUE(started.error().is_damage()) << describe(started.error());
  rank_.reset();
  std::vector<std::string> told;
  options_.accept_loss = true;
  options_.log = [&told](const std::string& line) { told.push_back(line); };
  start();
  EXPECT_FALSE(told.empty()) << "what is lost is said";
  EXPECT_EQ(call(LookupArgs{kRootIno, "f0"}).err, 0);
  EXPECT_EQ(call(LookupArgs{kRootIno, "f19"}).err, ENOENT);
  stop();
}

// The whole way from the root would be longer than a segment.
TEST_F(RankJournalTest, AnEventFitsHoweverDeepTheTreeAndHoweverLongItsXattrs) {
  for (TracePolicy trace : {TracePolicy::chunked, TracePolicy::full}) {
    SCOPED_TRACE(static_cast<int>(trace));
    disk_ = std::make_shared<MemoryDisk>();
    options_.trace = trace;
    options_.segment_events = 64;
    start();
    std::vector<Ino> way = {kRootIno};
    for (int i = 0; i < 600; ++i) {
      way.push_back(mkdir(way.back(), std::string(200, 'd')));
      if (i < 20) {
        ASSERT_EQ(call(SetxattrArgs{way.back(), "user.long", std::string(60'000, 'x'), 0}).err, 0);
      }
      if (i == 300) {
        ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
      }
    }
    Ino file = create(way.back(), "file");
    crash();
    start();
    Ino at = kRootIno;
    for (size_t i = 1; i < way.size(); ++i) {
      Reply reply = call(LookupArgs{at, std::string(200, 'd')});
      ASSERT_EQ(reply.err, 0) << i;
      ASSERT_EQ(reply.stat.ino, way[i]);
      at = way[i];
      if (i <= 20) {
        EXPECT_EQ(call(GetxattrArgs{at, "user.long"}).data.size(), 60'000u) << i;
      }
    }
    EXPECT_EQ(call(LookupArgs{at, "file"}).stat.ino, file);
    stop();
  }
}

TEST_F(RankJournalTest, AClosedSessionStaysClosed) {
  constexpr SessionId kOther{9};
  rank_->open_session(kOther);
  rank_->close_session(kOther);
  create(kRootIno, "f");
  crash();
  start();
  EXPECT_FALSE(rank_->state().sessions.contains(kOther));
  EXPECT_TRUE(rank_->state().sessions.contains(kSession));
}

TEST_F(RankJournalTest, ACleanStopLeavesNothingToReplay) {
  Ino dir = mkdir(kRootIno, "dir");
  for (int i = 0; i < 300; ++i) create(dir, "f" + std::to_string(i));
  stop();
  start();
  EXPECT_EQ(rank_->recovered().events, 0u);
  EXPECT_EQ(rank_->recovered().live.size(), 1u) << "a checkpoint, and nothing before it";
  EXPECT_EQ(call(GetattrArgs{dir}).stat.size, 300u);
  // After a crash there is.
  create(dir, "one more");
  crash();
  start();
  EXPECT_GT(rank_->recovered().events, 0u);
  EXPECT_EQ(call(GetattrArgs{dir}).stat.size, 301u);
  stop();
}

}  // namespace
}  // namespace graftfs
