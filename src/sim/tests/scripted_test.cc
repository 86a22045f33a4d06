// The fixed script, crashed at every kill point and at every step that the time allows.
#include <gtest/gtest.h>

#include <chrono>

#include "sim/world.h"

namespace graftfs::sim {
namespace {

using Clock = std::chrono::steady_clock;

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
  return config;
}

class SimScriptedTest : public testing::TestWithParam<Case> {};

// Every kill point in turn, from a start that moves on where the time is not enough for all.
TEST_P(SimScriptedTest, CrashAtEveryKillPoint) {
  constexpr auto kLimit = std::chrono::seconds(8);
  SimConfig config = scripted(GetParam());
  RunResult whole = run_simulation(config);
  ASSERT_TRUE(whole.ok) << whole.failure;
  ASSERT_GT(whole.kill_points, 500u);
  auto began = Clock::now();
  uint64_t runs = 0;
  // A step that shares no factor with the number of points visits all of them.
  const uint64_t stride = whole.kill_points % 101 ? 101 : 103;
  for (uint64_t i = 0; i < whole.kill_points && Clock::now() - began < kLimit; ++i) {
    config.crash_at_kill_point = 1 + i * stride % whole.kill_points;
    RunResult result = run_simulation(config);
    ++runs;
    ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
    EXPECT_GE(result.crashes, 1u) << describe(config);
  }
  RecordProperty("kill_points", static_cast<int>(whole.kill_points));
  RecordProperty("runs", static_cast<int>(runs));
}

TEST_P(SimScriptedTest, CrashBetweenEvents) {
  constexpr auto kLimit = std::chrono::seconds(4);
  SimConfig config = scripted(GetParam());
  RunResult whole = run_simulation(config);
  ASSERT_TRUE(whole.ok) << whole.failure;
  auto began = Clock::now();
  const uint64_t stride = whole.steps % 211 ? 211 : 223;
  for (uint64_t i = 0; i < whole.steps && Clock::now() - began < kLimit; ++i) {
    config.crash_at_step = 1 + i * stride % whole.steps;
    RunResult result = run_simulation(config);
    ASSERT_TRUE(result.ok) << describe(config) << "\n" << result.failure;
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
