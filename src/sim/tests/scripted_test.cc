// The fixed script, crashed at every kill point and at every step, in recovery too.
#include <gtest/gtest.h>

#include "sim/world.h"

namespace graftfs::sim {
namespace {

struct Case {
  Durability durability;
  TracePolicy trace;
  CrashKind kind;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::string(c.durability == Durability::strict ? "Strict" : "Posix") +
         (c.trace == TracePolicy::full ? "Full" : "Chunked") +
         (c.kind == CrashKind::power_cut ? "PowerCut" : "Death");
}

SimConfig scripted(const Case& c) {
  SimConfig config = script_config();
  config.durability = c.durability;
  config.trace = c.trace;
  config.crash_kind = c.kind;
  config.script_once = true;
  return config;
}

class SimScriptedTest : public testing::TestWithParam<Case> {};

// Where a run of everything takes too long: the sanitizers' builds, which look at every place of
// the code and not at every moment of the script.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kEvery = 23;
#else
constexpr uint64_t kEvery = 1;
#endif

// Runs the script once without a crash, to count where there could be one.
RunResult whole_run(const SimConfig& config) {
  RunResult whole = run_simulation(config);
  EXPECT_TRUE(whole.ok) << whole.failure;
  return whole;
}

// Every kill point of the whole script.
TEST_P(SimScriptedTest, CrashAtEveryKillPoint) {
  SimConfig config = scripted(GetParam());
  RunResult whole = whole_run(config);
  ASSERT_GT(whole.kill_points, 500u);
  for (uint64_t at = 1; at <= whole.kill_points; at += kEvery) {
    config.crash_at_kill_point = at;
    RunResult result = run_simulation(config);
    ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
    ASSERT_GE(result.crashes, 1u) << describe(config);
  }
}

// Every step of the executor, so every point where anything of the rank, of its store or of a
// client awaits something.
TEST_P(SimScriptedTest, CrashAtEveryStep) {
  SimConfig config = scripted(GetParam());
  RunResult whole = whole_run(config);
  ASSERT_GT(whole.steps, 2000u);
  for (uint64_t at = 1; at < whole.steps; at += kEvery) {
    config.crash_at_step = at;
    RunResult result = run_simulation(config);
    ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
    ASSERT_GE(result.crashes, 1u) << describe(config);
  }
}

// A crash, and in the recovery from it another at every kill point and every step; the two of the
// same kind and of different kinds.
TEST_P(SimScriptedTest, CrashAtEveryStepOfRecovery) {
  constexpr uint64_t kPlaces = 4;
  SimConfig config = scripted(GetParam());
  RunResult whole = whole_run(config);
  for (uint64_t place = 1; place <= kPlaces; place += kEvery > 1 ? 3 : 1) {
    config.crash_at_step = whole.steps * place / (kPlaces + 1);
    config.recovery_step = config.recovery_kill_point = 0;
    RunResult once = run_simulation(config);
    ASSERT_TRUE(once.ok) << describe(config) << "\n" << once.failure;
    ASSERT_GT(once.recovery_steps, 10u);
    ASSERT_GT(once.recovery_kill_points, 10u);
    config.recovery_crash_kind = place % 2 ? CrashKind::power_cut : CrashKind::process_death;
    for (uint64_t at = 1; at <= once.recovery_steps; at += kEvery) {
      config.recovery_step = at;
      RunResult result = run_simulation(config);
      ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
      ASSERT_GE(result.crashes, 2u) << describe(config);
    }
    config.recovery_step = 0;
    for (uint64_t at = 1; at <= once.recovery_kill_points; at += kEvery) {
      config.recovery_kill_point = at;
      RunResult result = run_simulation(config);
      ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
      ASSERT_GE(result.crashes, 2u) << describe(config);
    }
  }
}

// Nothing dies, and every few steps the oracle looks at what would be left if it did.
TEST_P(SimScriptedTest, WhatIf) {
  SimConfig config = scripted(GetParam());
  config.checks_inside = true;
  RunResult result = run_simulation(config);
  EXPECT_TRUE(result.ok) << result.failure;
}

constexpr Case kCases[] = {
    {Durability::strict, TracePolicy::chunked, CrashKind::process_death},
    {Durability::strict, TracePolicy::full, CrashKind::power_cut},
    {Durability::posix, TracePolicy::chunked, CrashKind::power_cut},
    {Durability::posix, TracePolicy::full, CrashKind::process_death},
};
INSTANTIATE_TEST_SUITE_P(Mode, SimScriptedTest, testing::ValuesIn(kCases), name_of);

}  // namespace
}  // namespace graftfs::sim
