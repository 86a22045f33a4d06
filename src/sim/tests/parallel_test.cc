// Nodes that work at the same time, and a cluster of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/parallel/cluster.h"

namespace graftfs::sim {
namespace {

using testing::ElementsAre;

class ParallelQueueTest : public testing::Test {
 protected:
  NodeExecutor& node(int machine) {
    NodeExecutor& node = queue.add_node();
    queue.place(node, machine);
    return node;
  }
  // Work that takes so long, and says when it was done.
  void give(NodeExecutor& node, Nanos cost, Nanos after = 0) {
    node.post_after(after, [this, cost] {
      queue.charge(cost);
      ends.push_back(queue.now() - kSecond);
      turns.push_back(queue.turn());
    });
  }
  void run() {
    while (queue.step()) {
    }
  }

  ParallelQueue queue;
  std::vector<Nanos> ends;
  std::vector<uint64_t> turns;
};

TEST_F(ParallelQueueTest, MachinesWorkAtTheSameTime) {
  NodeExecutor& a = node(queue.add_machine(1));
  NodeExecutor& b = node(queue.add_machine(1));
  for (NodeExecutor* n : {&a, &b}) give(*n, 10), give(*n, 10);
  run();
  EXPECT_THAT(ends, ElementsAre(10, 10, 20, 20));
}

TEST_F(ParallelQueueTest, NodesOfOneMachineShareItsCores) {
  const int machine = queue.add_machine(2);
  for (int i = 0; i < 3; ++i) give(node(machine), 10);
  run();
  EXPECT_THAT(ends, ElementsAre(10, 10, 20));
  EXPECT_EQ(queue.used(machine), 30);
}

TEST_F(ParallelQueueTest, ANodeDoesOneThingAtATimeHoweverManyCoresThereAre) {
  NodeExecutor& a = node(queue.add_machine(4));
  for (int i = 0; i < 3; ++i) give(a, 10);
  run();
  EXPECT_THAT(ends, ElementsAre(10, 20, 30));
}

TEST_F(ParallelQueueTest, WhoWaitsForACoreGetsItInTheOrderOfWaiting) {
  const int machine = queue.add_machine(1);
  NodeExecutor &a = node(machine), &b = node(machine);
  for (int i = 0; i < 3; ++i) give(a, 10);
  give(b, 1, 5);   // behind what a was given before
  give(a, 10, 6);  // and in front of what it was given later
  run();
  EXPECT_THAT(ends, ElementsAre(10, 20, 30, 31, 41));
}

TEST_F(ParallelQueueTest, WhatArrivesWhileANodeIsBusyIsOneBatch) {
  NodeExecutor& a = node(queue.add_machine(1));
  give(a, 10);
  for (Nanos after : {2, 4, 6}) give(a, 10, after);
  give(a, 10, 25);  // while the second batch is worked on
  run();
  EXPECT_THAT(turns, ElementsAre(1, 2, 2, 2, 3));
}

TEST_F(ParallelQueueTest, WhatIsPostedWhileItWorksComesBehindWhatHasArrived) {
  NodeExecutor& a = node(queue.add_machine(1));
  std::vector<int> order;
  a.post([&] {
    queue.charge(10);
    a.post([&] { order.push_back(2); });
  });
  a.post_after(5, [&] { order.push_back(1); });
  run();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST_F(ParallelQueueTest, ACrashDropsWhatANodeWasGiven) {
  NodeExecutor& a = node(queue.add_machine(1));
  NodeExecutor& b = node(queue.add_machine(1));
  give(a, 10), give(a, 10, 100), give(b, 10);
  a.crash();
  run();
  EXPECT_THAT(ends, ElementsAre(10));
}

// -- a cluster ------------------------------------------------------------------------------------

Costs some_costs() {
  Costs c;
  c.lookup = c.getattr = {1 * kMicrosecond, 0};
  c.mknod = c.mkdir = {4 * kMicrosecond, 1 * kMicrosecond};
  c.redirect = c.protocol = c.message = kMicrosecond / 2;
  c.batch = 2 * kMicrosecond;
  c.network = 20 * kMicrosecond;
  c.sync = 100 * kMicrosecond;
  return c;
}

struct Outcome {
  Nanos took = 0;
  Nanos used_by_rank_1 = 0;
  uint32_t digest = 0;
  ParallelCluster::Counts counts;
};

// One client for each rank, with files to make in a directory that its rank was given.
Outcome make_files(int ranks, int files) {
  ParallelCluster cluster({.ranks = ranks, .clients = ranks, .costs = some_costs()});
  Outcome outcome;
  int left = 0;
  auto client = [&](size_t number, Ino dir) -> Task<void> {
    for (int i = 0; i < files; ++i) {
      MknodArgs args{dir, std::to_string(i), S_IFREG | 0644, 0, 0};
      auto asked = cluster.ask(number, args);
      Reply made = co_await asked;
      EXPECT_EQ(made.err, 0);
    }
    --left;
  };
  auto play = [&]() -> Task<void> {
    co_await cluster.start();
    std::vector<Ino> dirs;
    for (int r = 0; r < ranks; ++r) {
      MkdirArgs args{kRootIno, std::to_string(r), 0755, 0};
      Reply made = co_await cluster.call(RankId{0}, args);
      EXPECT_EQ(made.err, 0);
      dirs.push_back(made.stat.ino);
      if (r == 0) continue;
      auto moved = co_await cluster.move(dirs.back(), RankId{0}, RankId{static_cast<uint16_t>(r)});
      EXPECT_TRUE(moved.has_value());
    }
    const auto before = cluster.counts();
    const Nanos began = cluster.queue().now();
    const Nanos used = ranks > 1 ? cluster.used(RankId{1}) : 0;
    for (size_t c = 0; c < dirs.size(); ++c) {
      ++left;
      cluster.begin(c, [&client, c, dir = dirs[c]] { return client(c, dir); });
    }
    while (left > 0) co_await sleep_for(cluster.world(), 10 * kMicrosecond);
    outcome.took = cluster.queue().now() - began;
    if (ranks > 1) outcome.used_by_rank_1 = cluster.used(RankId{1}) - used;
    outcome.counts = cluster.counts() - before;
  };
  cluster.run(play());
  outcome.digest = cluster.queue().digest();
  return outcome;
}

TEST(ParallelClusterTest, RanksDoNotWaitForEachOther) {
  constexpr int kFiles = 100;
  const Outcome one = make_files(1, kFiles), four = make_files(4, kFiles);
  EXPECT_LT(four.took, one.took * 5 / 4);
  // There and back, to the store and back, and its sync.
  EXPECT_GT(one.took, kFiles * (4 * 20 + 100) * kMicrosecond);
  EXPECT_EQ(four.counts.executed, 4u * kFiles);
  // Who is sent on to another rank: each of three clients, by the root's.
  EXPECT_EQ(four.counts.redirects, 3u);
  EXPECT_EQ(four.counts.kinds.at("Call"), 4u * kFiles + 3);
  EXPECT_EQ(four.counts.between_ranks, 0u);
}

TEST(ParallelClusterTest, WhatAnOperationCostsIsWhatItsMachineWorks) {
  const Outcome few = make_files(2, 100), more = make_files(2, 300);
  // A create and its other threads; a message in and one out, each a batch of its own.
  const Nanos each = (4 + 1) * kMicrosecond + 2 * (kMicrosecond / 2 + 2 * kMicrosecond);
  const Nanos used = (more.used_by_rank_1 - few.used_by_rank_1) / 200;
  EXPECT_GE(used, each * 98 / 100);
  EXPECT_LE(used, each * 110 / 100);
}

TEST(ParallelClusterTest, TheSameDoesTheSame) {
  const Outcome a = make_files(3, 50), b = make_files(3, 50);
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_EQ(a.took, b.took);
}

}  // namespace
}  // namespace graftfs::sim
