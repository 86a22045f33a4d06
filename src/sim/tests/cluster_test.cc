// Several ranks, random runs.
#include <gtest/gtest.h>

#include "sim/cluster/cluster.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kSeeds = 512;

struct Regression {
  uint64_t seed;
  const char* why;
  bool plain = false;
};
constexpr Regression kRegressions[] = {
#include "sim/cluster/regressions.inc"
};

void run_seed(uint64_t seed, bool plain = false) {
  ClusterConfig config = plain ? plain_cluster(seed) : random_cluster(seed);
  ClusterResult result = run_cluster(config);
  EXPECT_TRUE(result.ok) << describe(config) << "\n"
                         << result.failure << "\nagain: graftfs-soak --cluster"
                         << (plain ? " --plain" : "") << " --seed " << seed;
}

class SimClusterTest : public testing::TestWithParam<int> {};
TEST_P(SimClusterTest, Seeds) {
  for (uint64_t i = 0; i < kSeeds / 4; ++i) {
    run_seed(2'000'000 + static_cast<uint64_t>(GetParam()) * kSeeds / 4 + i);
  }
}
INSTANTIATE_TEST_SUITE_P(Part, SimClusterTest, testing::Range(0, 4));

class SimClusterRegressionTest : public testing::TestWithParam<Regression> {};
TEST_P(SimClusterRegressionTest, Holds) { run_seed(GetParam().seed, GetParam().plain); }
INSTANTIATE_TEST_SUITE_P(Seed, SimClusterRegressionTest, testing::ValuesIn(kRegressions),
                         [](const auto& param) { return std::to_string(param.param.seed); });

TEST(SimClusterTest, TheSameSeedDoesTheSame) {
  ClusterResult all;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    ClusterResult a = run_cluster(random_cluster(seed));
    ClusterResult b = run_cluster(random_cluster(seed));
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    EXPECT_EQ(a.steps, b.steps) << "seed " << seed;
    EXPECT_GT(a.executions, 0u) << "seed " << seed;
    all.crashes += a.crashes;
    all.redirects += a.redirects;
    all.moves += a.moves;
    all.across += a.across;
    all.takeovers += a.takeovers;
    all.stalls += a.stalls;
    all.cached += a.cached;
  }
  // What is drawn comes about.
  EXPECT_GT(all.crashes, 0u);
  EXPECT_GT(all.redirects, 0u);
  EXPECT_GT(all.moves, 0u);
  EXPECT_GT(all.across, 0u);
  EXPECT_GT(all.takeovers, 0u);
  EXPECT_GT(all.stalls, 0u);
  EXPECT_GT(all.cached, 0u);
}

// An oracle that cannot fail proves nothing.
class ClusterOracleTest : public testing::Test {
 protected:
  Request request_of(uint64_t seq, Args args, int32_t call = 0) {
    Request request;
    request.session = SessionId{5};
    request.seq = seq;
    request.cred.pid = call ? call : static_cast<int32_t>(seq);
    request.args = std::move(args);
    return request;
  }
  Reply made(Ino ino) {
    Reply reply;
    Stat& s = reply.stat;
    s.ino = ino;
    s.mode = S_IFREG | 0644;
    s.nlink = 1;
    s.atime = s.mtime = s.ctime = s.btime = queue_.wall_now();
    return reply;
  }
  Reply failed(int err) {
    Reply reply;
    reply.err = err;
    return reply;
  }
  void execute(Owner owner, const Request& request, const Reply& reply, Lsn lsn,
               bool asked_others = false) {
    oracle_.executed(owner, Executed{.request = request,
                                     .reply = reply,
                                     .lsn = lsn,
                                     .now = queue_.wall_now(),
                                     .asked_others = asked_others});
  }
  void make_a(Owner owner, uint64_t seq, uint64_t ino, uint64_t lsn) {
    oracle_.asked(static_cast<int32_t>(seq), SessionId{5}, false);
    execute(owner, request_of(seq, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0}), made(Ino{ino}),
            Lsn{lsn});
  }
  EventQueue queue_{1};
  ClusterOracle oracle_{queue_, Durability::posix};
  const Owner one_{RankId{1}, Epoch{1}}, two_{RankId{2}, Epoch{1}};
};

TEST_F(ClusterOracleTest, NoticesAPromiseThatALaterRecoveryDoesNotKeep) {
  make_a(one_, 1, 0x100001, 10);
  oracle_.answered(1, 0);
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.recovered(two_, Lsn{3});
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{9});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, WhatAMachineHasLostIsOwedUntilItIsSentAgain) {
  make_a(one_, 1, 0x100001, 10);
  oracle_.answered(1, 0);
  oracle_.power_cut(RankId{1});
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{9});
  EXPECT_EQ(oracle_.failure(), "");
  make_a({RankId{1}, Epoch{2}}, 1, 0x100001, 10);
  oracle_.check_owed();
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.power_cut(RankId{1});
  oracle_.recovered({RankId{1}, Epoch{3}}, Lsn{9});
  oracle_.check_owed();
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesThatAMachineLostWhatWasSynced) {
  make_a(one_, 1, 0x100001, 10);
  oracle_.answered(1, 0);
  oracle_.asked(2, SessionId{5}, true);
  oracle_.answered(2, 0);
  oracle_.power_cut(RankId{1});
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{9});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, WhoLosesTheRankWhileItTakesItRecoversNothing) {
  make_a(one_, 1, 0x100001, 10);
  oracle_.answered(1, 0);
  oracle_.recovered({RankId{1}, Epoch{3}}, Lsn{10});
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{3});
  EXPECT_EQ(oracle_.failure(), "");
  EXPECT_TRUE(oracle_.model().find(Ino{0x100001}));
}

TEST_F(ClusterOracleTest, NoticesARequestThatIsCarriedOutTwice) {
  make_a(one_, 1, 0x100001, 10);
  EXPECT_EQ(oracle_.failure(), "");
  make_a(one_, 1, 0x100002, 11);
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesARequestThatIsCarriedOutWhenItHasFailed) {
  oracle_.asked(1, SessionId{5}, false);
  execute(one_, request_of(1, MkdirArgs{Ino{0x100009}, "a", 0755, 0}), failed(ESTALE), Lsn{});
  oracle_.answered(1, ESTALE);
  EXPECT_EQ(oracle_.failure(), "");
  execute(one_, request_of(1, MknodArgs{kRootIno, "a", S_IFREG | 0644, 0, 0}), made(Ino{0x100001}),
          Lsn{10});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesAnAnswerOfWhoHasLostTheRank) {
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{9});
  make_a(one_, 1, 0x100001, 10);
  EXPECT_EQ(oracle_.failure(), "");
  EXPECT_FALSE(oracle_.model().find(Ino{0x100001}));
  oracle_.answered(1, 0);
  EXPECT_NE(oracle_.failure(), "");
}

// Both have carried it out: what counts is who answers.
TEST_F(ClusterOracleTest, ToldApartAreTheAnswersOfTwoOwners) {
  const Owner before{RankId{1}, Epoch{1}, 7}, behind{RankId{1}, Epoch{2}, 8};
  oracle_.recovered(behind, Lsn{9});
  make_a(behind, 1, 0x100001, 10);
  make_a(before, 1, 0x100002, 10);
  oracle_.answered(1, 0, ClusterOracle::Speaker{8, RankId{1}});
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.answered(1, 0, ClusterOracle::Speaker{7, RankId{1}});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, ForgetsWhatNobodyWasToldOf) {
  make_a(one_, 1, 0x100001, 10);
  oracle_.recovered({RankId{1}, Epoch{2}}, Lsn{9});
  EXPECT_EQ(oracle_.failure(), "");
  EXPECT_FALSE(oracle_.model().find(Ino{0x100001}));
  execute({RankId{1}, Epoch{2}}, request_of(0, LookupArgs{kRootIno, "a"}), failed(ENOENT), Lsn{});
  EXPECT_EQ(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesAnAnswerThatIsNotOfThisTree) {
  make_a(one_, 1, 0x100001, 10);
  execute(two_, request_of(0, LookupArgs{kRootIno, "a"}), failed(ENOENT), Lsn{});
  EXPECT_NE(oracle_.failure(), "");
}

// It was answered as if it had been done already.
TEST_F(ClusterOracleTest, NoticesARenameThatIsRefusedForNothing) {
  make_a(one_, 1, 0x100001, 10);
  execute(one_, request_of(2, RenameArgs{kRootIno, "a", kRootIno, "b", 0}), failed(ENOENT), Lsn{});
  EXPECT_NE(oracle_.failure(), "");
}

TEST_F(ClusterOracleTest, NoticesAnAnswerFromACacheThatIsOld) {
  oracle_.from_cache(request_of(0, LookupArgs{kRootIno, "a"}), failed(ENOENT));
  EXPECT_EQ(oracle_.failure(), "");
  make_a(one_, 1, 0x100001, 10);
  oracle_.from_cache(request_of(0, GetattrArgs{Ino{0x100001}}), made(Ino{0x100001}));
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.from_cache(request_of(0, LookupArgs{kRootIno, "a"}), failed(ENOENT));
  EXPECT_NE(oracle_.failure(), "");
}

// A participant has said what was so when it looked; but not what was so before the call.
TEST_F(ClusterOracleTest, WhatFailsBecauseOfOthersMustHaveBeenSoSinceTheCall) {
  oracle_.asked(7, SessionId{5}, false);
  make_a(one_, 1, 0x100001, 10);
  execute(two_, request_of(7, UnlinkArgs{kRootIno, "a"}), failed(ENOENT), Lsn{}, true);
  EXPECT_EQ(oracle_.failure(), "");
  oracle_.asked(8, SessionId{5}, false);
  execute(two_, request_of(8, UnlinkArgs{kRootIno, "a"}), failed(ENOENT), Lsn{}, true);
  EXPECT_NE(oracle_.failure(), "");
}

}  // namespace
}  // namespace graftfs::sim
