// Random runs, and those that once failed.
#include <gtest/gtest.h>

#include "sim/world.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kSeeds = 500;

struct Regression {
  uint64_t seed;
  const char* why;
};
constexpr Regression kRegressions[] = {
#include "sim/regressions.inc"
};

void run_seed(uint64_t seed) {
  SimConfig config = random_config(seed);
  RunResult result = run_simulation(config);
  EXPECT_TRUE(result.ok) << describe(config) << "\n"
                         << result.failure << "\nagain: graftfs-soak --seed " << seed;
}

class SimRandomTest : public testing::TestWithParam<int> {};

// In ten parts, so that they can run beside each other.
TEST_P(SimRandomTest, Seeds) {
  for (uint64_t i = 0; i < kSeeds / 10; ++i)
    run_seed(1'000'000 + static_cast<uint64_t>(GetParam()) * kSeeds / 10 + i);
}
INSTANTIATE_TEST_SUITE_P(Part, SimRandomTest, testing::Range(0, 10));

class SimRegressionTest : public testing::TestWithParam<Regression> {};

TEST_P(SimRegressionTest, Holds) { run_seed(GetParam().seed); }
INSTANTIATE_TEST_SUITE_P(Seed, SimRegressionTest, testing::ValuesIn(kRegressions),
                         [](const auto& param) { return std::to_string(param.param.seed); });

TEST(SimTest, TheSameSeedDoesTheSame) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    RunResult a = run_simulation(random_config(seed));
    RunResult b = run_simulation(random_config(seed));
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    EXPECT_EQ(a.steps, b.steps) << "seed " << seed;
    EXPECT_GT(a.executions, 0u) << "seed " << seed;
  }
}

// An oracle that cannot fail proves nothing.
TEST(SimTest, TheOracleNoticesALostPromise) {
  SimConfig config;
  config.trouble = DiskTrouble::none;
  config.crashes = 0;
  config.operations = 40;
  World world(config);
  Oracle& oracle = world.oracle();
  RunResult result = world.run();
  ASSERT_TRUE(result.ok) << result.failure;
  // The journal and the directories vanish.
  DiskMedium empty(std::make_shared<MemoryDisk>(MemoryDiskOptions{config.segment_capacity}),
                   nullptr);
  oracle.crashed(CrashKind::process_death);
  oracle.recovered(empty, Recovered{});
  EXPECT_NE(oracle.failure(), "");
}

}  // namespace
}  // namespace graftfs::sim
