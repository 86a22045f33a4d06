#include <gtest/gtest.h>

#include <set>
#include <string>

#include "harness/benchmark.h"
#include "harness/statistics.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

TEST(Statistics, MedianOfEvenAndOddCounts) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

TEST(Statistics, PercentileIsAValueThatWasMeasured) {
  EXPECT_EQ(percentile({10, 20, 30, 40}, 0.5), 20);
  EXPECT_EQ(percentile({10, 20, 30, 40}, 0.51), 30);
  EXPECT_EQ(percentile({10, 20, 30, 40}, 1), 40);
  EXPECT_EQ(percentile({7}, 0), 7);
}

// A machine that is twice as slow in one round does not change the ratio.
TEST(Statistics, RatioIsTakenRoundByRound) {
  EXPECT_DOUBLE_EQ(median_ratio({90, 45, 180}, {100, 50, 200}), 0.9);
}

TEST(Statistics, RoundingKeepsSignificantDigits) {
  EXPECT_EQ(rounded(123456), 123500);
  EXPECT_EQ(rounded(0.00123456, 3), 0.00123);
  EXPECT_EQ(rounded(0), 0);
  EXPECT_EQ(rounded(-98765, 2), -99000);
}

Report two_checks() {
  Report report;
  report.at_least("speed", 0.9, 0.8);
  report.at_most("pause", 60, 50);
  return report;
}

TEST(Report, HoldsOnlyWhenEveryCheckHolds) {
  EXPECT_FALSE(two_checks().holds());
  Report report;
  report.at_least("speed", 0.8, 0.8);
  report.at_most("pause", 50, 50);
  EXPECT_TRUE(report.holds());
}

TEST(Report, JsonHasExactlyThePromisedKeys) {
  Json object = to_json("fuse", two_checks(), "graftfs-bench fuse");
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.insert(key);
  }
  EXPECT_EQ(keys, (std::set<std::string>{"name", "figures", "reference", "ratio", "bar", "holds",
                                         "durability", "cache", "command"}));
}

TEST(Report, RatioAndBarAreThoseOfTheTightestCheck) {
  Json object = to_json("x", two_checks(), "");
  EXPECT_EQ(object["ratio"], 60);
  EXPECT_EQ(object["bar"], 50);
  EXPECT_EQ(object["holds"], false);
  EXPECT_EQ(object["figures"]["checks"].size(), 2U);
}

TEST(Report, ZeroAllowedAndZeroMeasuredHolds) {
  Report report;
  report.at_most("lost", 0, 0);
  EXPECT_TRUE(report.holds());
  report.at_most("lost", 1, 0);
  EXPECT_FALSE(report.holds());
}

TEST(Registry, IsSortedByName) {
  Registration second("b", "", nullptr);
  Registration first("a", "", nullptr);
  ASSERT_EQ(registry().size(), 2U);
  EXPECT_EQ(registry()[0].name, "a");
  EXPECT_EQ(registry()[1].name, "b");
}

TEST(TimedThreads, PassesOnWhatAThreadThrows) {
  EXPECT_THROW(timed_threads(3,
                             [](unsigned thread) {
                               if (thread == 1) {
                                 throw BenchmarkError("no");
                               }
                             }),
               BenchmarkError);
}

TEST(Files, EveryPhaseTouchesEveryFile) {
  std::string home = testing::TempDir() + "/graftfs-bench-files";
  std::filesystem::remove_all(home);
  {
    Files files(home, 2, 100);
    EXPECT_EQ(files.count(), 100U);
    EXPECT_GT(files.create(), 0);
    EXPECT_TRUE(std::filesystem::exists(home + "/t1/f00000000049"));
    EXPECT_THROW(files.create(), BenchmarkError);  // they exist
    EXPECT_GT(files.rename(), 0);
    EXPECT_TRUE(std::filesystem::exists(home + "/t0/r00000000000"));
    EXPECT_GT(files.stat(), 0);
    EXPECT_GT(files.unlink(), 0);
    EXPECT_TRUE(std::filesystem::is_empty(home + "/t0"));
    EXPECT_GT(files.mkdir(), 0);
    EXPECT_GT(files.rmdir(), 0);
    EXPECT_TRUE(std::filesystem::is_empty(home + "/t1"));
  }
  std::filesystem::remove_all(home);
}

}  // namespace
}  // namespace graftfs::bench
