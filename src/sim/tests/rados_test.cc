// The store on Ceph, on a modelled cluster of objects: random runs, those that once failed, and what
// the model itself promises.
#include <gtest/gtest.h>

#include "sim/world.h"

namespace graftfs::sim {
namespace {

constexpr uint64_t kSeeds = 120;

struct Regression {
  uint64_t seed;
  const char* why;
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

class SimRadosTest : public testing::TestWithParam<int> {};

TEST_P(SimRadosTest, Seeds) {
  for (uint64_t i = 0; i < kSeeds / 4; ++i)
    run_seed(5'000'000 + static_cast<uint64_t>(GetParam()) * kSeeds / 4 + i);
}
INSTANTIATE_TEST_SUITE_P(Part, SimRadosTest, testing::Range(0, 4));

class SimRadosRegressionTest : public testing::TestWithParam<Regression> {};
TEST_P(SimRadosRegressionTest, Holds) { run_seed(GetParam().seed); }
INSTANTIATE_TEST_SUITE_P(Seed, SimRadosRegressionTest, testing::ValuesIn(kRegressions),
                         [](const auto& param) { return std::to_string(param.param.seed); });

TEST(SimRadosTest, TheSameSeedDoesTheSame) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    RunResult a = run_simulation(random_rados_config(seed));
    RunResult b = run_simulation(random_rados_config(seed));
    EXPECT_EQ(a.digest, b.digest) << "seed " << seed;
    EXPECT_GT(a.executions, 0u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace graftfs::sim
