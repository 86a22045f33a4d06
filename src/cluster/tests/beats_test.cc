// Nodes on one store, in virtual time; each may be stopped, and has a clock of its own.

#include "cluster/beats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "store/fence.h"
#include "store/memory/memory_store.h"

namespace graftfs::cluster {
namespace {

using ::testing::HasSubstr;
constexpr Nanos kLease = 2 * kSecond;
constexpr RankId kRank{0};

class World;

class NodeExec final : public Executor {
 public:
  explicit NodeExec(World& world) : world_(world) {}
  void post(Fn fn) override { post_after(0, std::move(fn)); }
  void post_after(Nanos delay, Fn fn) override;
  Nanos now() const override;
  Timespec wall_now() const override { return {}; }
  bool stopped = false;
  std::deque<Fn> held;

 private:
  World& world_;
};

class World {
 public:
  Nanos now = kSecond;
  std::multimap<Nanos, std::pair<NodeExec*, Fn>> events;

  void run_until(Nanos end) {
    while (!events.empty() && events.begin()->first <= end) {
      auto event = std::move(events.extract(events.begin()));
      now = event.key();
      auto& [node, fn] = event.mapped();
      if (node->stopped) {
        node->held.push_back(std::move(fn));
      } else {
        fn();
      }
    }
    now = end;
  }
  void run_for(Nanos time) { run_until(now + time); }
  void wake(NodeExec& node) {
    node.stopped = false;
    for (Fn& fn : node.held) events.emplace(now, std::pair(&node, std::move(fn)));
    node.held.clear();
  }
};

void NodeExec::post_after(Nanos delay, Fn fn) {
  world_.events.emplace(world_.now + std::max<Nanos>(delay, 1000), std::pair(this, std::move(fn)));
}
Nanos NodeExec::now() const { return world_.now; }

// A node with beats that takes ranks of the dead.
struct TestNode {
  TestNode(World& w, std::shared_ptr<MemoryDisk> disk, NodeId id, int rate_percent = 100)
      : world(w), exec(w), store(exec, std::move(disk), nullptr) {
    NodeRecord me;
    me.id = id;
    BeatOptions options;
    options.lease = kLease;
    clock = [&w, rate_percent, id] {
      return w.now * rate_percent / 100 + static_cast<Nanos>(id) * 12345 * kSecond;
    };
    options.clock = clock;
    beats.emplace(exec, store.state(), me, options);
    beats->lost = [this](const std::string& why) {
      ++losses;
      last_loss = why;
    };
    beats->looked = [this] { consider(); };
    tasks.spawn(beats->run());
  }
  void stop() { exec.stopped = true; }
  void wake() { world.wake(exec); }

  void consider() {
    if (!takes || taking) return;
    for (const auto& [rank, line] : beats->table().ranks) {
      if (line.node == beats->me().id || (line.node && beats->watch().is_alive(line.node)))
        continue;
      Orphan orphan{rank, beats->watch().dead_since(line.node)};
      if (!should_take(orphan, beats->me().id, beats->living(), clock(), kLease)) continue;
      taking = true;
      tasks.spawn(take(rank));
      return;
    }
  }
  Task<void> take(RankId rank) {
    auto options = co_await beats->take_from(rank);
    if (!options) {
      taking = false;
      co_return;
    }
    auto owned = co_await store.own_journal(rank, *options);
    if (owned) {
      Epoch any;
      auto epoch = co_await store.raise_epoch(rank, any);
      if (epoch) {
        std::vector<std::string> addresses{"local:x"};
        beats->own(rank, *epoch, addresses);
        NodeId me = beats->me().id;
        Epoch mine = *epoch;
        std::function<Result<bool>(Table&)> change = [=](Table& table) -> Result<bool> {
          return table.take(rank, mine, me);
        };
        auto changed = co_await beats->change_table(change);
        serves = changed.has_value();
      }
    }
    taking = false;
  }
  bool speaks() const { return serves && losses == 0 && beats->lease_valid(); }

  World& world;
  std::function<Nanos()> clock;
  NodeExec exec;
  MemoryStore store;
  std::optional<Beats> beats;
  bool takes = true, taking = false, serves = false;
  int losses = 0;
  std::string last_loss;
  TaskScope tasks;
};

class BeatsTest : public ::testing::Test {
 protected:
  TestNode& node(NodeId id, int rate = 100) {
    nodes_.push_back(std::make_unique<TestNode>(world_, disk_, id, rate));
    return *nodes_.back();
  }
  template <class T>
  T run(Task<T> task) {
    std::optional<T> out;
    TaskScope scope;
    scope.spawn([](Task<T> t, std::optional<T>& o) -> Task<void> {
      o.emplace(co_await std::move(t));
    }(std::move(task), out));
    for (int i = 0; i < 10000 && !out; ++i) world_.run_for(kMillisecond);
    EXPECT_TRUE(out);
    return std::move(*out);
  }
  void one_rank(TestNode& first) {
    std::function<Result<bool>(Table&)> add = [](Table& table) -> Result<bool> {
      return table.add().has_value();
    };
    ASSERT_TRUE(run(first.beats->change_table(add)));
    first.taking = true;
    first.tasks.spawn(first.take(kRank));
    world_.run_for(kSecond);
    ASSERT_TRUE(first.speaks());
  }
  World world_;
  std::vector<std::unique_ptr<TestNode>> retired_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::vector<std::unique_ptr<TestNode>> nodes_;
};

TEST_F(BeatsTest, NodesSeeEachOtherAndOneThatLeavesIsGone) {
  TestNode &a = node(1), &b = node(2);
  world_.run_for(kLease);
  EXPECT_TRUE(a.beats->lease_valid());
  EXPECT_TRUE(a.beats->takes_requests());
  EXPECT_EQ(a.beats->living().size(), 2u);
  EXPECT_TRUE(run(b.beats->leave()));
  EXPECT_FALSE(b.beats->lease_valid());
  world_.run_for(kLease);
  EXPECT_EQ(a.beats->living().size(), 1u);
  world_.run_for(5 * kLease);
  EXPECT_EQ(a.losses, 0);
}

TEST_F(BeatsTest, AStoppedOwnerIsReplacedAndKnowsItWhenItWakesUp) {
  TestNode &a = node(1), &b = node(2);
  one_rank(a);
  EXPECT_EQ(b.beats->node_of(kRank)->id, 1u);
  a.stop();
  Nanos stopped = world_.now;
  while (!b.speaks() && world_.now < stopped + 20 * kLease) {
    world_.run_for(10 * kMillisecond);
    ASSERT_FALSE(a.speaks() && b.speaks());
  }
  EXPECT_LE(world_.now - stopped, 5 * kLease / 4 + kLease);
  EXPECT_FALSE(a.speaks());
  a.wake();
  world_.run_for(kMillisecond);
  EXPECT_FALSE(a.speaks());
  world_.run_for(kLease);
  EXPECT_EQ(a.losses, 1);
  EXPECT_THAT(a.last_loss, HasSubstr("taken by node 0000000000000002"));
  EXPECT_EQ(b.losses, 0);
  EXPECT_EQ(b.beats->table().find(kRank)->node, 2u);
}

// The table says that the first one has it, the fence that the second one does, which has died of
// it.
TEST_F(BeatsTest, WhoDiesWhileTakingIsFollowedByAnother) {
  TestNode &a = node(1), &b = node(2);
  one_rank(a);
  a.stop();
  b.takes = false;
  Nanos stopped = world_.now;
  world_.run_for(3 * kLease);
  OwnOptions own = *run(b.beats->take_from(kRank));
  ASSERT_TRUE(run(b.store.own_journal(kRank, own)));
  TestNode& c = node(3);
  c.takes = false;
  world_.run_for(kLease);
  auto taken = run(c.beats->take_from(kRank));
  ASSERT_FALSE(taken);  // b lives, and is about to say so
  EXPECT_EQ(taken.error().code, ESTALE);
  b.stop();
  c.takes = true;
  while (!c.speaks() && world_.now < stopped + 30 * kLease) world_.run_for(10 * kMillisecond);
  EXPECT_TRUE(c.speaks());
}

TEST_F(BeatsTest, AStopThatNobodyMindsIsForgotten) {
  TestNode &a = node(1), &b = node(2);
  b.takes = false;
  one_rank(a);
  a.stop();
  world_.run_for(3 * kLease);
  EXPECT_FALSE(a.speaks());
  EXPECT_TRUE(b.beats->watch().is_dead(1));
  a.wake();
  world_.run_for(kLease);
  EXPECT_TRUE(a.speaks());
  EXPECT_TRUE(b.beats->watch().is_alive(1));
}

TEST_F(BeatsTest, AStoreThatFailsEndsTheLeaseAndNothingElse) {
  TestNode& a = node(1);
  one_rank(a);
  std::vector<MemoryFaults::Scripted> faults;
  for (uint64_t i = 1; i <= 20; ++i) faults.push_back({StoreCall::state_set, i, FaultKind::eio});
  disk_->script(faults);
  world_.run_for(3 * kLease);
  EXPECT_FALSE(a.speaks());
  EXPECT_EQ(a.losses, 0);
  world_.run_for(5 * kLease);
  EXPECT_TRUE(a.speaks());
}

TEST_F(BeatsTest, ChangesOfTheTableFollowOneAnother) {
  std::vector<TestNode*> nodes{&node(1), &node(2), &node(3)};
  std::function<Result<bool>(Table&)> add = [](Table& table) -> Result<bool> {
    return table.add().has_value();
  };
  int done = 0;
  TaskScope tasks;
  for (TestNode* n : nodes) {
    n->takes = false;
    for (int i = 0; i < 5; ++i) {
      tasks.spawn(
          [](TestNode& n, std::function<Result<bool>(Table&)> add, int& done) -> Task<void> {
            auto changed = co_await n.beats->change_table(add);
            done += changed.has_value();
          }(*n, add, done));
    }
  }
  world_.run_for(kLease);
  EXPECT_EQ(done, 15);
  EXPECT_EQ(nodes[0]->beats->table().ranks.size(), 15u);
  std::function<Result<bool>(Table&)> bad = [](Table& table) -> Result<bool> {
    TRY(table.leave(RankId{99}));
    return true;
  };
  EXPECT_EQ(run(nodes[0]->beats->change_table(bad)).error().code, ENOENT);
}

TEST_F(BeatsTest, RecordsOfTheDeadAreRemovedInTheEnd) {
  TestNode& a = node(1);
  node(2);
  world_.run_for(kLease);
  nodes_.back()->stop();
  world_.run_for(40 * kLease);
  EXPECT_FALSE(a.beats->nodes().contains(2));
}

// Stops of random length, of every node, for a long time: never do two speak for the rank, and in
// the end one does.
TEST_F(BeatsTest, TwoNeverSpeakForOneRank) {
  const int rates[] = {100, 95, 104};
  uint64_t seed = 0x1234567;
  auto random = [&](uint64_t bound) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % bound;
  };
  for (NodeId id = 1; id <= 3; ++id) node(id, rates[id - 1]);
  one_rank(*nodes_[0]);
  int changes = 0;
  TestNode* last = nullptr;
  for (int i = 0; i < 3000; ++i) {
    size_t pick = random(nodes_.size());
    if (random(8) == 0) {
      TestNode& n = *nodes_[pick];
      if (n.exec.stopped)
        n.wake();
      else
        n.stop();
    }
    world_.run_for(static_cast<Nanos>(random(700)) * kMillisecond);
    int speaking = 0;
    for (auto& n : nodes_) {
      if (!n->speaks()) continue;
      ++speaking;
      if (n.get() != last) ++changes;
      last = n.get();
    }
    ASSERT_LE(speaking, 1) << "step " << i;
    // One that was fenced goes, and comes back as another one.
    for (size_t at = 0; at < nodes_.size(); ++at) {
      if (nodes_[at]->losses == 0 || nodes_[at]->exec.stopped) continue;
      nodes_[at]->exec.stopped = true;
      retired_.push_back(std::move(nodes_[at]));
      nodes_.erase(nodes_.begin() + static_cast<long>(at));
      node(100 + static_cast<NodeId>(i), rates[i % 3]);
      break;
    }
  }
  EXPECT_GT(changes, 20);
  for (auto& n : nodes_) n->wake();
  world_.run_for(10 * kLease);
  int speaking = 0;
  for (auto& n : nodes_) speaking += n->speaks();
  EXPECT_EQ(speaking, 1);
}

}  // namespace
}  // namespace graftfs::cluster
