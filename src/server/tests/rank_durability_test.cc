// What waits for the journal to be durable, on a disk whose journal never gets there.
#include "server/tests/rank_fixture.h"

namespace graftfs {
namespace {

class RankDurabilityTest : public RankFixture {
 protected:
  // What came before is durable; nothing is from here on.
  void stop_syncing() {
    ASSERT_EQ(call(SyncArgs{}).err, 0);
    disk_->faults()[StoreCall::journal_sync].latency_min = 3600 * kSecond;
    disk_->faults()[StoreCall::journal_sync].latency_max = 3600 * kSecond;
  }
  void cut_power() {
    crash(CrashKind::power_cut);
    disk_->faults() = {};
    start();
  }
  // Sends a request and does not wait. The reply lands in `reply`.
  void send(SessionId session, Args args, std::optional<Reply>& reply) {
    Request request;
    request.session = session;
    request.seq = request.oldest = ++seq_;
    request.args = std::move(args);
    rank_->submit(std::move(request), [&reply](Reply r) { reply = std::move(r); });
  }
  void let_time_pass() {
    for (int i = 0; i < 250; ++i) wait(pause());
  }
  bool has_data(Ino ino) {
    auto inos = wait(store_->data().list(kRootIno, 1000));
    EXPECT_TRUE(inos.has_value());
    return inos && std::count(inos->begin(), inos->end(), ino) > 0;
  }

  static constexpr SessionId kOther{8};
};

TEST_F(RankDurabilityTest, DataIsPurgedOnlyOnceItsUnlinkIsDurable) {
  Ino file = create(kRootIno, "f");
  std::string bytes = "bytes";
  ASSERT_TRUE(wait(store_->data().write(file, 0, bytes, 0)).has_value());
  ASSERT_TRUE(wait(store_->data().sync(file)).has_value());
  stop_syncing();
  EXPECT_EQ(call(UnlinkArgs{kRootIno, "f"}).err, 0);
  call(ReleaseArgs{file, 1});
  let_time_pass();
  EXPECT_TRUE(has_data(file));
  cut_power();
  // The power cut may have taken the unlink or not; it may not have taken half of it.
  if (call(LookupArgs{kRootIno, "f"}).err == 0) {
    EXPECT_TRUE(has_data(file));
  }
}

TEST_F(RankDurabilityTest, ARemovedFileLivesAsLongAsAnySessionHoldsIt) {
  Ino file = create(kRootIno, "f");
  rank_->open_session(kOther);
  EXPECT_EQ(call(OpenArgs{file, 0}, {}, kOther).err, 0);
  EXPECT_TRUE(call(UnlinkArgs{kRootIno, "f"}).orphaned);
  call(ReleaseArgs{file, 1});
  let_time_pass();
  EXPECT_EQ(rank_->stats().purged, 0u);
  EXPECT_EQ(call(GetattrArgs{file}, {}, kOther).err, 0);
  rank_->close_session(kOther);
  let_time_pass();
  EXPECT_EQ(rank_->stats().purged, 1u);
}

TEST_F(RankDurabilityTest, WhoOpensAFileThatIsAboutToBePurgedKeepsIt) {
  Ino file = create(kRootIno, "f");
  EXPECT_TRUE(call(UnlinkArgs{kRootIno, "f"}).orphaned);
  call(ReleaseArgs{file, 1});
  EXPECT_EQ(call(OpenArgs{file, 0}).err, 0);
  let_time_pass();
  EXPECT_EQ(rank_->stats().purged, 0u);
  EXPECT_EQ(call(GetattrArgs{file}).err, 0);
  call(ReleaseArgs{file, 1});
  let_time_pass();
  EXPECT_EQ(rank_->stats().purged, 1u);
}

TEST_F(RankDurabilityTest, WhatOthersDidIsShownOnceItIsDurable) {
  Ino dir = mkdir(kRootIno, "dir");
  rank_->open_session(kOther);
  stop_syncing();
  create(dir, "f");
  std::optional<Reply> own, other;
  send(kSession, LookupArgs{dir, "f"}, own);
  send(kOther, LookupArgs{dir, "f"}, other);
  let_time_pass();
  EXPECT_TRUE(own.has_value()) << "a client sees what it did itself";
  EXPECT_FALSE(other.has_value());
  crash(CrashKind::power_cut);
}

TEST_F(RankDurabilityTest, WhatOthersDidWaitsAlsoWhereTheEntryHasMoved) {
  Ino from = mkdir(kRootIno, "from");
  Ino to = mkdir(kRootIno, "to");
  rank_->open_session(kOther);
  EXPECT_EQ(call(MkdirArgs{to, "mine", 0755, 0}, {}, kOther).err, 0);
  stop_syncing();
  create(from, "f");
  std::optional<Reply> renamed, found;
  send(kOther, RenameArgs{from, "f", to, "f", 0}, renamed);
  send(kOther, LookupArgs{to, "f"}, found);
  let_time_pass();
  EXPECT_FALSE(renamed.has_value());
  EXPECT_FALSE(found.has_value());
  crash(CrashKind::power_cut);
}

TEST_F(RankDurabilityTest, ASyncWaits) {
  stop_syncing();
  create(kRootIno, "f");
  std::optional<Reply> synced;
  send(kSession, SyncArgs{}, synced);
  let_time_pass();
  EXPECT_FALSE(synced.has_value());
  crash(CrashKind::power_cut);
}

TEST_F(RankDurabilityTest, StrictAnswersNothingThatIsNotDurable) {
  stop();
  options_.durability = Durability::strict;
  start();
  stop_syncing();
  std::optional<Reply> made, looked;
  send(kSession, MkdirArgs{kRootIno, "d", 0755, 0}, made);
  send(kSession, LookupArgs{kRootIno, "d"}, looked);
  let_time_pass();
  EXPECT_FALSE(made.has_value());
  EXPECT_FALSE(looked.has_value());
  crash(CrashKind::power_cut);
}

// A request may be there twice, when a connection broke: the first answer goes nowhere then.
TEST_F(RankDurabilityTest, WhatIsAnsweredAgainIsNoMoreDurableThanBefore) {
  for (Durability durability : {Durability::posix, Durability::strict}) {
    stop();
    options_.durability = durability;
    start();
    ASSERT_EQ(call(MkdirArgs{kRootIno, "d", 0755, 0}).err, 0);
    stop_syncing();
    Request request;
    request.session = kSession;
    request.seq = request.oldest = ++seq_;
    request.args = RmdirArgs{kRootIno, "d"};
    std::optional<Reply> first, again;
    rank_->submit(Request(request), [&](Reply r) { first = std::move(r); });
    rank_->submit(Request(request), [&](Reply r) { again = std::move(r); });
    let_time_pass();
    if (durability == Durability::strict) {
      EXPECT_FALSE(first.has_value());
      EXPECT_FALSE(again.has_value());
    } else {
      ASSERT_TRUE(first && again);
      EXPECT_EQ(again->err, 0);
      EXPECT_GT(first->lsn, Lsn{}) << "a power cut may take it back";
      EXPECT_GE(again->lsn, first->lsn) << "and still may";
    }
    cut_power();
  }
}

TEST_F(RankDurabilityTest, NothingIsWrittenBackThatIsNotDurable) {
  stop();
  options_.write_back_after = 10 * kMillisecond;
  start();
  wait(rank_->write_back_all());
  stop_syncing();
  mkdir(kRootIno, "d");
  const uint64_t before = rank_->stats().written_back_items;
  let_time_pass();
  EXPECT_EQ(rank_->stats().written_back_items, before);
  auto in_store = wait(store_->dirs().read_entry(kRootIno, entry_key("d")));
  ASSERT_TRUE(in_store.has_value());
  EXPECT_FALSE(in_store->has_value());
  crash(CrashKind::power_cut);
}

}  // namespace
}  // namespace graftfs
