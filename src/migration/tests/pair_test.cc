// Exporter and importer against each other: every order of what can happen to a small migration,
// with a few faults, and long random walks with many. In every world that is reached exactly one
// (or, in between, none) is the owner; and with the faults off, each comes to rest.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/fault.h"
#include "migration/tests/pair_model.h"

namespace graftfs::migration::testing {
namespace {

std::string describe(const World& w) {
  return fmt::format(
      "exporter {} phase {} journal '{}' ({} durable); importer {} phase {} journal "
      "'{}' ({} durable)",
      w.e_up ? "up" : "down", w.e ? static_cast<int>(w.e->phase) : -1, w.e_log.events,
      w.e_log.durable, w.i_up ? "up" : "down", w.i ? static_cast<int>(w.i->phase) : -1,
      w.i_log.events, w.i_log.durable);
}

// Checks a world; returns whether all is well.
bool check(const World& world, const std::string& how) {
  std::string wrong = broken(world);
  if (!wrong.empty()) {
    ADD_FAILURE() << wrong << " after: " << how << "\n" << describe(world);
    return false;
  }
  World rest = world;
  if (!settle(rest)) {
    ADD_FAILURE() << "never comes to rest after: " << how << "\n" << describe(rest);
    return false;
  }
  wrong = broken(rest);
  if (wrong.empty()) wrong = not_at_rest(rest);
  if (wrong.empty()) return true;
  ADD_FAILURE() << "at rest: " << wrong << " after: " << how << "\n" << describe(rest);
  return false;
}

std::string said(const Way& way, Death death) {
  if (death.point == 0) return ", " + way.name;
  return fmt::format(", {} (dies at {}{})", way.name, death.point, death.loses ? "" : ", durably");
}

struct Explored {
  size_t worlds = 0, ways = 0;
  bool exported = false, aborted = false;
};

// Every world that can be reached from `start`.
Explored explore(const World& start) {
  Explored result;
  std::set<World> seen{start};
  std::vector<std::pair<World, std::string>> todo{{start, ""}};
  while (!todo.empty()) {
    auto [world, how] = std::move(todo.back());
    todo.pop_back();
    if (!check(world, how)) return result;
    result.worlds++;
    if (not_at_rest(world).empty() && world.e_began) {
      result.exported |= world.i_serves;
      result.aborted |= world.e_serves();
    }
    for (const Way& way : ways(world)) {
      const int deaths = world.left.crashes > 0 ? way.points : 0;
      for (int k = 0; k <= 2 * deaths; ++k) {
        const Death death{(k + 1) / 2, k % 2 == 0};
        World next = world;
        if (death.point > 0) next.left.crashes--;
        way.go(next, death);
        result.ways++;
        if (seen.insert(next).second) todo.emplace_back(std::move(next), how + said(way, death));
      }
    }
  }
  return result;
}

void explore_and_print(const char* what, World start) {
  for (bool tell_parent : {false, true}) {
    start.tell_parent = tell_parent;
    Explored explored = explore(start);
    std::printf("%s: %zu worlds, %zu ways\n", what, explored.worlds, explored.ways);
    EXPECT_GT(explored.worlds, 50u);
    EXPECT_TRUE(explored.exported) << "no way leads to a migration that is done";
    const Budget& b = start.left;
    EXPECT_EQ(explored.aborted, b.crashes + b.cuts + b.timeouts + b.cancels > 0);
  }
}

TEST(Pair, WithoutFaultsInEveryOrder) {
  World start;
  start.left.changes = 2;
  explore_and_print("no fault", start);
}

TEST(Pair, OneOfEach) {
  for (int k = 0; k < 4; ++k) {
    World start;
    start.left = {.crashes = uint8_t(k == 0),
                  .cuts = uint8_t(k == 1),
                  .timeouts = uint8_t(k == 2),
                  .cancels = uint8_t(k == 3)};
    const char* names[] = {"one crash", "one cut", "one timeout", "one cancel"};
    explore_and_print(names[k], start);
  }
}

TEST(Pair, TwoCrashesAnywhere) {
  World start;
  start.leases = false;
  start.unsent = 1;
  start.left = {.crashes = 2};
  explore_and_print("two crashes", start);
}

TEST(Pair, ACrashAndACut) {
  World start;
  start.leases = false;
  start.left = {.crashes = 1, .cuts = 1};
  explore_and_print("a crash and a cut", start);
}

TEST(Pair, ThreeCrashesAndTwoCuts) {
  World start;
  start.leases = false;
  start.left = {.crashes = 3, .cuts = 2};
  explore_and_print("three crashes and two cuts", start);
}

TEST(Pair, ATimeoutAndACut) {
  World start;
  start.leases = false;
  start.left = {.cuts = 1, .timeouts = 1};
  explore_and_print("a timeout and a cut", start);
}

// Longer migrations, more faults, at random; what a seed does is the same every time.
TEST(Pair, RandomWalks) {
  fault::reset_hits();
  size_t exported = 0, kept = 0;
  for (uint32_t seed = 1; seed <= 3000; ++seed) {
    std::mt19937 random(seed);
    auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    World world;
    world.tell_parent = below(2);
    world.leases = below(2);
    world.unsent = static_cast<uint8_t>(1 + below(8));
    world.left = {.crashes = uint8_t(below(4)),
                  .cuts = uint8_t(below(4)),
                  .timeouts = uint8_t(below(3)),
                  .cancels = uint8_t(below(2)),
                  .changes = uint8_t(below(6))};
    std::string how = fmt::format("seed {}", seed);
    for (int step = 0; step < 300; ++step) {
      std::vector<Way> next = ways(world);
      // Faults are rarer than what happens by itself.
      if (below(40) != 0) {
        std::vector<Way> calm;
        for (Way& way : next)
          if (!way.fault) calm.push_back(std::move(way));
        next = calm.empty() ? ways(world) : std::move(calm);
      }
      if (next.empty()) break;
      const Way& way = next[below(static_cast<uint32_t>(next.size()))];
      Death death;
      if (world.left.crashes > 0 && way.points > 0 && below(25) == 0) {
        death = {1 + static_cast<int>(below(static_cast<uint32_t>(way.points))), below(2) == 0};
        world.left.crashes--;
      }
      way.go(world, death);
      how += said(way, death);
      ASSERT_EQ(broken(world), "") << how << "\n" << describe(world);
    }
    ASSERT_TRUE(check(world, how));
    World rest = world;
    settle(rest);
    (rest.i_serves ? exported : kept)++;
  }
  std::printf("%zu migrations done, %zu not\n", exported, kept);
  EXPECT_GT(exported, 500u);
  EXPECT_GT(kept, 300u);
}

TEST(Pair, EveryKillPointIsReached) {
  fault::reset_hits();
  World start;
  start.left = {.crashes = 1, .cuts = 1, .timeouts = 1, .cancels = 1};
  explore(start);
  for (fault::Site* site : fault::sites()) {
    if (!std::string(site->name).starts_with("migration.")) continue;
    EXPECT_GT(site->hits.load(), 0u) << site->name << " (marks too: each rare branch)";
  }
}

}  // namespace
}  // namespace graftfs::migration::testing
