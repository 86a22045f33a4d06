#include "node/balancer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace graftfs::node {
namespace {

using ::testing::HasSubstr;
constexpr RankId kZero{0}, kOne{1}, kTwo{2};

SubtreeLoad subtree(uint64_t ino, double load) {
  SubtreeLoad s;
  s.root = Ino{ino};
  s.path = "/d" + std::to_string(ino);
  s.load = load;
  return s;
}
RankLoad rank(RankId id, std::vector<SubtreeLoad> subtrees, double own = 0) {
  RankLoad r{id, own, true, std::move(subtrees)};
  for (const SubtreeLoad& s : r.subtrees) r.load += s.load;
  return r;
}
BalanceDecision after_all_windows(const std::vector<RankLoad>& ranks, BalanceOptions options = {}) {
  BalanceState state;
  for (int i = 1; i < options.windows; ++i) EXPECT_FALSE(decide(ranks, options, state).move);
  return decide(ranks, options, state);
}

TEST(Balancer, MovesTheSubtreeThatClosesTheGap) {
  auto decision = after_all_windows(
      {rank(kZero, {subtree(1, 900), subtree(2, 480), subtree(3, 100), subtree(4, 30)}),
       rank(kOne, {subtree(9, 500)})});
  ASSERT_TRUE(decision.move);
  EXPECT_EQ(decision.move->root, Ino{2}) << "the gap is 1010";
  EXPECT_EQ(decision.move->from, kZero);
  EXPECT_EQ(decision.move->to, kOne);
  EXPECT_THAT(decision.reasons.back(), HasSubstr("/d2 has 480 accesses a second"));
}

TEST(Balancer, SaysWhyItDoesNothing) {
  auto why = [](const std::vector<RankLoad>& ranks) {
    auto decision = after_all_windows(ranks);
    EXPECT_FALSE(decision.move);
    return decision.reasons.back();
  };
  EXPECT_THAT(why({rank(kZero, {subtree(1, 9000)})}), HasSubstr("one rank"));
  EXPECT_THAT(why({rank(kZero, {subtree(1, 100)}), rank(kOne, {})}), HasSubstr("less than 200"));
  EXPECT_THAT(why({rank(kZero, {subtree(1, 1000)}), rank(kOne, {subtree(2, 800)})}),
              HasSubstr("within 30 %"));
  EXPECT_THAT(why({rank(kZero, {subtree(1, 1000)}), rank(kOne, {})}), HasSubstr("1 would make"));
  EXPECT_THAT(why({rank(kZero, {subtree(1, 9)}, 1000), rank(kOne, {})}),
              HasSubstr("1 would close"));
  auto pinned = subtree(1, 500), young = subtree(2, 500);
  pinned.pinned = true;
  young.here_for_s = 30;
  EXPECT_THAT(why({rank(kZero, {pinned, young}), rank(kOne, {})}),
              HasSubstr("1 came a moment ago and rest, 1 are pinned"));
  auto going = rank(kOne, {});
  going.takes = false;
  EXPECT_THAT(why({rank(kZero, {subtree(1, 500), subtree(2, 500)}), going}),
              HasSubstr("No other rank"));
}

TEST(Balancer, OneCalmWindowBeginsTheCountAnew) {
  BalanceOptions options;
  const std::vector<RankLoad> uneven = {rank(kZero, {subtree(1, 500), subtree(2, 500)}),
                                        rank(kOne, {})};
  const std::vector<RankLoad> even = {rank(kZero, {subtree(1, 500)}),
                                      rank(kOne, {subtree(2, 500)})};
  const std::vector<RankLoad> other = {rank(kZero, {}),
                                       rank(kOne, {subtree(1, 500), subtree(2, 500)})};
  BalanceState state;
  for (int i = 1; i < options.windows; ++i) decide(uneven, options, state);
  decide(even, options, state);
  EXPECT_FALSE(decide(uneven, options, state).move);
  decide(uneven, options, state);
  EXPECT_FALSE(decide(other, options, state).move) << "it is another rank's turn";
}

// A model: subtrees with loads, placed at ranks, moved as is decided.
struct Model {
  explicit Model(uint32_t seed) : random(seed) {}
  std::vector<RankLoad> measure(double noise) {
    std::map<RankId, RankLoad> ranks;
    for (RankId r : {kZero, kOne, kTwo}) ranks[r].rank = r;
    std::uniform_real_distribution<double> factor(1 - noise, 1 + noise);
    for (size_t i = 0; i < at.size(); ++i) {
      SubtreeLoad s = subtree(i + 1, loads[i] * factor(random));
      if (moved_at[i] >= 0) s.here_for_s = now - moved_at[i];
      ranks[at[i]].load += s.load;
      ranks[at[i]].subtrees.push_back(s);
    }
    std::vector<RankLoad> out;
    for (auto& [id, r] : ranks) out.push_back(std::move(r));
    return out;
  }
  // One window of 10 s; the subtree that moved, or -1.
  int step(double noise) {
    now += 10;
    auto decision = decide(measure(noise), options, state);
    if (!decision.move) return -1;
    size_t i = decision.move->root.v - 1;
    EXPECT_EQ(at[i], decision.move->from);
    EXPECT_TRUE(moved_at[i] < 0 || now - moved_at[i] >= options.rest_s) << "it rests";
    at[i] = decision.move->to;
    moved_at[i] = now;
    return static_cast<int>(i);
  }
  std::mt19937 random;
  BalanceOptions options;
  BalanceState state;
  double now = 0;
  std::vector<double> loads, moved_at;
  std::vector<RankId> at;
};

TEST(Balancer, UnderConstantLoadsItComesToRestAndNothingEverGoesBack) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    Model model(seed);
    std::uniform_real_distribution<double> load(0, 3000);
    for (int i = 0; i < 12; ++i) {
      model.loads.push_back(load(model.random));
      model.moved_at.push_back(-1);
      model.at.push_back(RankId{static_cast<uint16_t>(model.random() % 3)});
    }
    std::map<int, std::vector<RankId>> been;
    int last_move = 0;
    for (int window = 1; window <= 2000; ++window) {
      const std::vector<RankId> before = model.at;
      int moved = model.step(0);
      if (moved < 0) continue;
      last_move = window;
      auto& path = been[moved];
      path.push_back(before[static_cast<size_t>(moved)]);
      if (path.size() < 2) continue;
      EXPECT_NE(path[path.size() - 2], model.at[static_cast<size_t>(moved)])
          << "seed " << seed << ": back to where it has just been";
    }
    EXPECT_LT(last_move, 200) << "seed " << seed;
  }
}

TEST(Balancer, UnderRandomLoadsNothingMovesTwiceWithinItsRest) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    Model model(seed);
    for (int i = 0; i < 10; ++i) {
      model.loads.push_back(0);
      model.moved_at.push_back(-1);
      model.at.push_back(kZero);
    }
    int moves = 0;
    const int windows = 1000;
    for (int window = 0; window < windows; ++window) {
      // Every load jumps about, all the time; step() checks the rests.
      for (double& load : model.loads) load = static_cast<double>(model.random() % 4000);
      moves += model.step(0.5) >= 0;
    }
    EXPECT_LE(moves, windows / model.options.windows) << "seed " << seed;
  }
}

TEST(Balancer, NoiseAroundABalanceMovesNothing) {
  Model model(7);
  for (int i = 0; i < 9; ++i) {
    model.loads.push_back(1000);
    model.moved_at.push_back(-1);
    model.at.push_back(RankId{static_cast<uint16_t>(i % 3)});
  }
  for (int window = 0; window < 5000; ++window) EXPECT_EQ(model.step(0.2), -1);
}

}  // namespace
}  // namespace graftfs::node
