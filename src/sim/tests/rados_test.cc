// The store on Ceph, on a modelled cluster of objects: random runs, those that once failed, and
// what the model itself promises.
#include <gtest/gtest.h>

#include "sim/cluster/cluster.h"
#include "sim/world.h"
#include "store/rados/name.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kSeeds = 240, kClusterSeeds = 160;

struct Regression {
  uint64_t seed;
  const char* why;
  bool cluster = false;
};
const std::vector<Regression> kRegressions = {
#include "sim/rados_regressions.inc"
};

void run_seed(uint64_t seed) {
  SimConfig config = random_rados_config(seed);
  RunResult result = run_simulation(config);
  EXPECT_TRUE(result.ok) << describe(config) << "\n"
                         << result.failure << "\nagain: graftfs-soak --store rados --seed " << seed;
}

void run_cluster_seed(uint64_t seed) {
  ClusterConfig config = random_rados_cluster(seed);
  ClusterResult result = run_cluster(config);
  EXPECT_TRUE(result.ok) << describe(config) << "\n"
                         << result.failure
                         << "\nagain: graftfs-soak --cluster --store rados --seed " << seed;
}

class SimRadosTest : public testing::TestWithParam<int> {};

TEST_P(SimRadosTest, Seeds) {
  for (uint64_t i = 0; i < kSeeds / 4; ++i)
    run_seed(5'000'000 + static_cast<uint64_t>(GetParam()) * kSeeds / 4 + i);
}
TEST_P(SimRadosTest, SeedsOfSeveralRanks) {
  for (uint64_t i = 0; i < kClusterSeeds / 4; ++i)
    run_cluster_seed(1 + static_cast<uint64_t>(GetParam()) * kClusterSeeds / 4 + i);
}
INSTANTIATE_TEST_SUITE_P(Part, SimRadosTest, testing::Range(0, 4));

class SimRadosRegressionTest : public testing::TestWithParam<Regression> {};
TEST_P(SimRadosRegressionTest, Holds) {
  if (GetParam().cluster)
    run_cluster_seed(GetParam().seed);
  else
    run_seed(GetParam().seed);
}
INSTANTIATE_TEST_SUITE_P(Seed, SimRadosRegressionTest, testing::ValuesIn(kRegressions),
                         [](const auto& param) { return std::to_string(param.param.seed); });

TEST(SimRadosTest, TheSameSeedDoesTheSame) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    RunResult a = run_simulation(random_rados_config(seed));
    RunResult b = run_simulation(random_rados_config(seed));
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    EXPECT_GT(a.executions, 0u) << "seed " << seed;
    ClusterResult c = run_cluster(random_rados_cluster(seed));
    ClusterResult d = run_cluster(random_rados_cluster(seed));
    EXPECT_EQ(c.digest, d.digest) << "seed " << seed;
    EXPECT_GT(c.executions, 0u) << "seed " << seed;
  }
}

// What the model itself does, and what a store on it does at one moment.
class ModelClusterTest : public testing::Test {
 protected:
  void make(rados::ModelOptions options) {
    cluster_ = std::make_shared<rados::ModelCluster>(options, &osds_, &random_);
  }
  std::shared_ptr<rados::ModelSession> client(int32_t pid) {
    return cluster_->connect(node_, {"here", pid});
  }
  template <class T>
  T wait(Promised<T> done) {
    std::optional<T> value;
    TaskScope tasks;
    tasks.spawn(
        [](Promised<T> d, std::optional<T>& v) -> Task<void> { v = co_await d; }(done, value));
    while (!tasks.empty() && queue_.step()) {
    }
    return std::move(*value);
  }
  template <class T>
  T run(Task<T> task) {
    std::optional<T> value;
    TaskScope tasks;
    tasks.spawn([](Task<T> t, std::optional<T>& v) -> Task<void> { v = co_await t; }(
                                                       std::move(task), value));
    while (!tasks.empty() && queue_.step()) {
    }
    return std::move(*value);
  }
  static rados::WriteOp set(const std::string& key, const std::string& value) {
    rados::WriteOp op;
    op.create(false);
    op.omap_set({{key, rados::to_buffer(value)}});
    return op;
  }
  // One operation of a client that dies while it is on its way.
  void leave_behind(int32_t pid, rados::WriteOp op) {
    auto session = client(pid);
    (void)session->write("o", std::move(op));
    cluster_->kill({"here", pid});
    session->close();
  }
  std::string value(const std::string& key) { return cluster_->objects().at("o").keys.at(key); }

  EventQueue queue_{1};
  NodeExecutor& osds_ = queue_.add_node();
  NodeExecutor& node_ = queue_.add_node();
  SimRandom random_{3};
  std::shared_ptr<rados::ModelCluster> cluster_;
};

constexpr rados::ModelOptions kSlow = {.latency = kMillisecond, .late = kSecond};

TEST_F(ModelClusterTest, KeepsTheOrderOfOneClientOnAnObject) {
  make(kSlow);
  auto mine = client(1);
  for (int i = 0; i < 20; ++i) (void)mine->write("o", set("k", std::to_string(i)));
  EXPECT_EQ(wait(mine->write("o", set("last", "1"))), 0);
  EXPECT_EQ(value("k"), "19");
}

TEST_F(ModelClusterTest, WhatADeadClientHasSentComesLaterOrNever) {
  int late = 0, never = 0;
  for (int i = 0; i < 40; ++i) {
    make(kSlow);
    auto mine = client(1);
    EXPECT_EQ(wait(mine->write("o", set("k", "mine"))), 0);
    leave_behind(2, set("k", "late"));
    EXPECT_EQ(wait(mine->write("o", set("other", "x"))), 0);
    const bool already = value("k") == "late";
    while (queue_.step()) {
    }
    if (value("k") == "mine") ++never;
    if (value("k") == "late" && !already) ++late;
  }
  EXPECT_GT(late, 3);
  EXPECT_GT(never, 3);
}

TEST_F(ModelClusterTest, WhoIsShutOutIsRefusedWhereTheMapHasCome) {
  for (int i = 0; i < 40; ++i) {
    rados::ModelOptions options = kSlow;
    options.map_within = 100 * kSecond;
    make(options);
    auto mine = client(1);
    EXPECT_EQ(wait(mine->write("o", set("k", "mine"))), 0);
    auto dead = client(2);
    (void)dead->write("o", set("k", "late"));
    cluster_->kill({"here", 2});
    EXPECT_EQ(wait(mine->shut_out(dead->me().address)), 0);
    // It may have come until now; from here on it is refused.
    EXPECT_EQ(wait(mine->write("o", set("k", "mine"))), 0);
    while (queue_.step()) {
    }
    EXPECT_EQ(value("k"), "mine");
    dead->close();
  }
}

TEST_F(ModelClusterTest, AnOperationIsCarriedOutAsAWholeOrNotAtAll) {
  make({});
  auto mine = client(1);
  rados::WriteOp op = set("k", "1");
  op.setxattr("token", rados::to_buffer("7"));
  EXPECT_EQ(wait(mine->write("o", std::move(op))), 0);
  rados::WriteOp refused;
  refused.omap_set({{"k", rados::to_buffer("2")}});
  refused.cmpxattr("token", rados::Compare::greater, 7);
  EXPECT_EQ(wait(mine->write("o", std::move(refused))), -ECANCELED);
  EXPECT_EQ(value("k"), "1");
  rados::WriteOp absent;
  absent.assert_exists();
  EXPECT_EQ(wait(mine->write("p", std::move(absent))), -ENOENT);
  EXPECT_FALSE(cluster_->objects().contains("p"));
}

// What is written while a sync waits may go together with what it covers.
TEST_F(ModelClusterTest, ASyncOfAnEarlyJournalWaitsForAllThatItCovers) {
  make(kSlow);
  RadosOptions options;
  options.early_journal = true;
  RadosStore store(node_, client(1), options);
  JournalDevice& journal = **run(store.own_journal(RankId{0}));
  ASSERT_TRUE(run(journal.create(SegmentId{1})));
  uint64_t at = 0;
  auto write = [&] {
    std::string bytes(8, 'x');
    ASSERT_TRUE(run(journal.write(SegmentId{1}, at, bytes)));
    at += bytes.size();
  };
  for (int i = 0; i < 8; ++i) write();
  const uint64_t covered = at;
  bool synced = false;
  TaskScope tasks;
  tasks.spawn([](JournalDevice& j, bool& done) -> Task<void> {
    Result<void> result = co_await j.sync(SegmentId{1});
    done = result.has_value();
  }(journal, synced));
  write();
  while (!synced) ASSERT_TRUE(queue_.step());
  const auto& objects = cluster_->objects();
  EXPECT_GE(objects.at(rados::segment_object(RankId{0}, SegmentId{1})).bytes.size(), covered);
}

}  // namespace
}  // namespace graftfs::sim
