// Several ranks, random runs.
#include <gtest/gtest.h>

#include "sim/cluster/cluster.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kSeeds = 300;

struct Regression {
  uint64_t seed;
  const char* why;
};
constexpr Regression kRegressions[] = {
#include "sim/cluster/regressions.inc"
};

void run_seed(uint64_t seed) {
  ClusterConfig config = random_cluster(seed);
  ClusterResult result = run_cluster(config);
  EXPECT_TRUE(result.ok) << describe(config) << "\n"
                         << result.failure << "\nagain: graftfs-soak --cluster --seed " << seed;
}

class SimClusterTest : public testing::TestWithParam<int> {};
TEST_P(SimClusterTest, Seeds) {
  for (uint64_t i = 0; i < kSeeds / 3; ++i)
    run_seed(2'000'000 + static_cast<uint64_t>(GetParam()) * kSeeds / 3 + i);
}
INSTANTIATE_TEST_SUITE_P(Part, SimClusterTest, testing::Range(0, 3));

class SimClusterRegressionTest : public testing::TestWithParam<Regression> {};
TEST_P(SimClusterRegressionTest, Holds) { run_seed(GetParam().seed); }
INSTANTIATE_TEST_SUITE_P(Seed, SimClusterRegressionTest, testing::ValuesIn(kRegressions),
                         [](const auto& param) { return std::to_string(param.param.seed); });

TEST(SimClusterTest, TheSameSeedDoesTheSame) {
  uint64_t crashes = 0, redirects = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    ClusterResult a = run_cluster(random_cluster(seed));
    ClusterResult b = run_cluster(random_cluster(seed));
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    EXPECT_EQ(a.steps, b.steps) << "seed " << seed;
    EXPECT_GT(a.executions, 0u) << "seed " << seed;
    crashes += a.crashes;
    redirects += a.redirects;
  }
  EXPECT_GT(crashes, 0u);
  EXPECT_GT(redirects, 0u);
}

// An oracle that cannot fail proves nothing.
Request request_of(uint64_t seq, Args args) {
  Request request;
  request.session = SessionId{5};
  request.seq = seq;
  request.cred.pid = static_cast<int32_t>(seq);
  request.args = std::move(args);
  return request;
}

class ClusterOracleTest : public testing::Test {
 protected:
  Reply made(Ino ino) {
    Reply reply;
    Stat& s = reply.stat;
    s.ino = ino;
    s.mode = S_IFREG | 0644;
    s.nlink = 1;
    s.atime = s.mtime = s.ctime = s.btime = queue_.wall_now();
    return reply;
  }
  EventQueue queue_{1};
  ClusterOracle oracle_{queue_};
};

TEST_F(ClusterOracleTest, NoticesAPromiseThatALaterRecoveryDoesNotKeep) {
  oracle_.executed(RankId{1}, request_of(1, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0}),
                   made(Ino{0x100001}), Lsn{10});
  oracle_.answered(1);
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.recovered(RankId{2}, Lsn{3});
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.recovered(RankId{1}, Lsn{9});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesARequestThatIsCarriedOutTwice) {
  Request request = request_of(1, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0});
  oracle_.executed(RankId{1}, request, made(Ino{0x100001}), Lsn{10});
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.executed(RankId{1}, request, made(Ino{0x100002}), Lsn{11});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, ForgetsWhatNobodyWasToldOf) {
  oracle_.executed(RankId{1}, request_of(1, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0}),
                   made(Ino{0x100001}), Lsn{10});
  oracle_.recovered(RankId{1}, Lsn{9});
  EXPECT_EQ(oracle_.failure(), "");
  EXPECT_FALSE(oracle_.model().find(Ino{0x100001}));
  Reply none;
  none.err = ENOENT;
  oracle_.executed(RankId{1}, request_of(0, LookupArgs{kRootIno, "a"}), none, Lsn{});
  EXPECT_EQ(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesAnAnswerThatIsNotOfThisTree) {
  Reply none;
  none.err = ENOENT;
  oracle_.executed(RankId{1}, request_of(1, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0}),
                   made(Ino{0x100001}), Lsn{10});
  oracle_.executed(RankId{2}, request_of(0, LookupArgs{kRootIno, "a"}), none, Lsn{});
  EXPECT_NE(oracle_.failure(), "");
}

}  // namespace
}  // namespace graftfs::sim
