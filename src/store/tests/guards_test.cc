// Who was stopped, lost its rank and goes on changes nothing on Ceph, also where the cluster does
// not shut it out: there the guards are alone.

#include "store/rados/model_cluster.h"
#include "store/rados/rados_store.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

constexpr RankId kRank{0};

struct Guards : testing::Test {
  EventLoop loop;
  std::shared_ptr<rados::ModelCluster> cluster =
      std::make_shared<rados::ModelCluster>(rados::ModelOptions{.guards_alone = true});
  int32_t processes = 0;
  RadosStore zombie = open(), owner = open();
  JournalDevice* journal = nullptr;  // the zombie's

  RadosStore open() {
    return RadosStore(loop, cluster->connect(loop, {"here", ++processes}), RadosOptions{});
  }
  void SetUp() override {
    auto owned = run(zombie.own_journal(kRank));
    ASSERT_OK(owned);
    journal = *owned;
    ASSERT_OK(run(journal->create(SegmentId{1})));
    ASSERT_OK(run(journal->write(SegmentId{1}, 0, "before")));
  }
  JournalDevice* take() {
    OwnOptions options;
    options.mode = OwnMode::take;
    auto taken = run(owner.own_journal(kRank, options));
    EXPECT_OK(taken);
    return taken ? *taken : nullptr;
  }
  template <class T>
  T run(Task<T> task) {
    return graftfs::run(loop, std::move(task));
  }
  Result<void> put(RadosStore& store, uint64_t dir, Ino ino, std::string key) {
    DirUpdate u;
    u.dir = Ino{dir};
    u.header = "header";
    u.put.emplace_back(key, "v");
    u.located.emplace_back(ino, key);
    std::vector<DirUpdate> updates{u};
    return run(store.dirs().commit(std::move(updates)));
  }
};

// What was found by its number before it was moved is found afterwards.
TEST_F(Guards, ALateLocationDoesNotReplaceTheNewOwners) {
  const Ino ino{77};
  ASSERT_OK(put(zombie, 9, ino, "old"));
  ASSERT_TRUE(take());
  ASSERT_OK(put(owner, 10, ino, "new"));
  EXPECT_CODE(put(zombie, 11, ino, "old"), ESTALE);
  auto at = run(owner.dirs().locate(ino));
  ASSERT_OK(at);
  ASSERT_TRUE(*at);
  EXPECT_EQ((*at)->dir, Ino{10});
  EXPECT_EQ((*at)->key, "new");
}

// No failure of the store, of which clients would be told.
TEST_F(Guards, ASegmentThatTheNewOwnerHasTrimmedTellsThatTheRankIsTaken) {
  JournalDevice* mine = take();
  ASSERT_TRUE(mine);
  ASSERT_OK(run(mine->create(SegmentId{2})));
  ASSERT_OK(run(mine->remove(SegmentId{1})));
  EXPECT_CODE(run(journal->write(SegmentId{1}, 6, "behind")), ESTALE);
  EXPECT_CODE(run(journal->create(SegmentId{3})), ESTALE);
}

TEST_F(Guards, ASegmentThatSomebodyElseHasRemovedIsAFailureOfTheStore) {
  auto session = cluster->connect(loop, {"elsewhere", ++processes});
  rados::WriteOp remove;
  remove.remove();
  auto removed = [](rados::Session& session, rados::WriteOp op) -> Task<int> {
    co_return co_await session.write("journal/rank-0/0000000000000001.seg", std::move(op));
  };
  ASSERT_EQ(run(removed(*session, std::move(remove))), 0);
  EXPECT_CODE(run(journal->write(SegmentId{1}, 6, "behind")), EIO);
}

}  // namespace
}  // namespace graftfs
