// Nodes on one volume, in one process: what they do when ranks come, go and die.

#include "node/node.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/wait.h"
#include "node/volume_key.h"
#include "store/local/local_store.h"
#include "types/request.h"

namespace graftfs::node {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
constexpr RankId kZero{0}, kOne{1};
constexpr Nanos kLease = 400 * kMillisecond;

struct TempVolume {
  TempVolume() {
    std::string pattern = (std::filesystem::temp_directory_path() / "graftfs-node-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
    EXPECT_TRUE(LocalStore::format(path));
  }
  ~TempVolume() { std::filesystem::remove_all(path); }
  std::string path;
};

class NodeTest : public ::testing::Test {
 protected:
  NodeTest() {
    LocalOptions options;
    options.dirs_map_size = 1 << 28;
    volume_ = *LocalVolume::open(dir_.path, options);
  }
  NodeOptions options(size_t ranks = 1, bool standby = false) {
    NodeOptions o;
    o.ranks = ranks;
    o.standby = standby;
    o.lease = kLease;
    o.rank.volume = 7;
    o.rank.volume_name = dir_.path;
    o.secret = *volume_key(*volume_);
    o.log = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      log_ += line + "\n";
    };
    return o;
  }
  std::unique_ptr<Node> start(NodeOptions o) {
    auto node = std::make_unique<Node>(loop_, pool_, volume_, std::move(o));
    Node* raw = node.get();
    raw->lost = [this](const std::string&) { ++losses_; };
    auto started = graftfs::wait_for(loop_, raw->start());
    EXPECT_TRUE(started) << describe(started.error());
    return node;
  }
  void stop(std::unique_ptr<Node>& node) {
    auto stopped = graftfs::wait_for(loop_, node->stop());
    EXPECT_TRUE(stopped) << describe(stopped.error());
    node.reset();
  }
  template <class F>
  bool until(F condition, Nanos limit = 20 * kSecond) {
    const Nanos end = loop_.now() + limit;
    while (!condition() && loop_.now() < end) {
      Task<int> pause = nap();
      graftfs::wait_for(loop_, std::move(pause));
    }
    return condition();
  }
  Task<int> nap() {
    co_await sleep_for(loop_, 10 * kMillisecond);
    co_return 0;
  }
  HostStatus status(Node& node, RankId rank) {
    for (HostStatus& s : graftfs::wait_for(loop_, node.status()))
      if (s.rank == rank) return s;
    return {};
  }
  // Makes a directory below / at rank 0, or looks it up; what the reply says.
  Reply ask(Node& node, Args args, RankId at = kZero) {
    Promised<Reply> answer(loop_);
    node.host(at)->with_rank([&](Rank& rank) {
      Request request;
      request.args = std::move(args);
      rank.submit(std::move(request), [this, answer](Reply reply) {
        auto held = std::make_shared<Reply>(std::move(reply));
        loop_.post([answer, held] { answer.set(std::move(*held)); });
      });
    });
    return graftfs::wait_for(loop_, take(answer));
  }
  Task<Reply> take(Promised<Reply> answer) { co_return co_await answer; }
  int mkdir(Node& node, const std::string& name) {
    MkdirArgs args;
    args.dir = kRootIno;
    args.name = name;
    args.mode = 0755;
    return ask(node, std::move(args)).err;
  }
  int lookup(Node& node, const std::string& name, RankId at = kZero) {
    LookupArgs args;
    args.dir = kRootIno;
    args.name = name;
    return ask(node, std::move(args), at).err;
  }
  std::string log() {
    std::lock_guard lock(mutex_);
    return log_;
  }

  TempVolume dir_;
  EventLoop loop_;
  BlockingPool pool_{"node-test", 2};
  std::shared_ptr<LocalVolume> volume_;
  std::mutex mutex_;
  std::string log_;
  int losses_ = 0;
};

TEST_F(NodeTest, RanksOfANodeFindEachOther) {
  auto node = start(options(3));
  EXPECT_THAT(node->ranks(), ElementsAre(kZero, kOne, RankId{2}));
  EXPECT_TRUE(until([&] { return status(*node, kOne).peers_up.size() == 2; })) << log();
  EXPECT_EQ(mkdir(*node, "a"), 0);
  stop(node);
  auto again = start(options(1));
  EXPECT_EQ(lookup(*again, "a"), 0);
  // The others were given up in good order, and nobody else is there to run them.
  EXPECT_TRUE(until([&] { return again->ranks().size() == 3; })) << log();
  EXPECT_GT(status(*again, kZero).epoch, Epoch{1});
}

TEST_F(NodeTest, RanksOfTwoNodesFindEachOtherOverSockets) {
  NodeOptions a = options(), b = options();
  a.listen = {*net::parse_address("unix:" + dir_.path + "/a")};
  b.listen = {*net::parse_address("tcp:127.0.0.1:0")};
  auto first = start(std::move(a)), second = start(std::move(b));
  EXPECT_THAT(first->ranks(), ElementsAre(kZero));
  EXPECT_THAT(second->ranks(), ElementsAre(kOne));
  EXPECT_TRUE(until([&] { return status(*first, kZero).peers_up.size() == 1; })) << log();
  EXPECT_TRUE(until([&] { return status(*second, kOne).peers_up.size() == 1; })) << log();
  stop(first);
  EXPECT_TRUE(until([&] { return second->ranks().size() == 2; })) << log();
}

// The second ending of a takeover: what a node adopts beside its own becomes a part of that.
TEST_F(NodeTest, TheRanksOfADeadNodeAreHandedOverToThoseOfTheOneThatTakesThem) {
  auto first = start(options(2)), second = start(options(1));
  ASSERT_EQ(mkdir(*first, "kept"), 0);
  first.reset();
  ASSERT_TRUE(until([&] { return second->beats().table().ranks.size() == 1; }, 60 * kSecond))
      << log();
  EXPECT_THAT(second->ranks(), ElementsAre(RankId{2}));
  EXPECT_TRUE(until([&] { return second->beats().table().root == RankId{2}; })) << log();
  EXPECT_EQ(second->beats().table().heir_of(kZero), RankId{2});
  EXPECT_EQ(second->beats().table().heir_of(kOne), RankId{2});
  EXPECT_EQ(lookup(*second, "kept", RankId{2}), 0);
  // One that comes is another one.
  auto third = start(options(1));
  EXPECT_THAT(third->ranks(), ElementsAre(RankId{3}));
  stop(third);
  stop(second);
}

TEST_F(NodeTest, TheRanksOfADeadNodeAreTakenByTheOther) {
  NodeOptions keeps = options(1);
  keeps.retire_taken = false;
  auto first = start(options(2)), second = start(std::move(keeps));
  EXPECT_THAT(second->ranks(), ElementsAre(RankId{2}));
  ASSERT_EQ(mkdir(*first, "kept"), 0);
  const Nanos died = loop_.now();
  first.reset();
  ASSERT_TRUE(until([&] { return second->ranks().size() == 3; })) << log();
  EXPECT_LT(loop_.now() - died, 10 * kLease);
  EXPECT_EQ(lookup(*second, "kept"), 0);
  EXPECT_TRUE(until([&] { return status(*second, RankId{2}).peers_up.size() == 2; })) << log();
  EXPECT_EQ(losses_, 0);
}

TEST_F(NodeTest, AStandbyIsPreferred) {
  auto first = start(options(1)), busy = start(options(1)), waiting = start(options(1, true));
  EXPECT_TRUE(waiting->is_standby());
  ASSERT_TRUE(until([&] { return busy->beats().living().size() == 3; }));
  first.reset();
  ASSERT_TRUE(until([&] { return !waiting->ranks().empty() || busy->ranks().size() > 1; }))
      << log();
  EXPECT_THAT(waiting->ranks(), ElementsAre(kZero)) << log();
  EXPECT_FALSE(waiting->is_standby());
}

TEST_F(NodeTest, ANodeThatWasSilentForTooLongEndsItsRanks) {
  // Its beat stands still: the clock that it asks runs, its executor does not, so a copy of the
  // fence is raised by somebody else.
  auto first = start(options(1));
  EventLoop other_loop;
  auto other = *LocalStore::on(other_loop, pool_, volume_);
  OwnOptions own;
  own.mode = OwnMode::take;
  own.node = 99;
  ASSERT_TRUE(graftfs::wait_for(other_loop, other->own_journal(kZero, own)));
  ASSERT_TRUE(until([&] { return losses_ == 1; })) << log();
  EXPECT_TRUE(first->ranks().empty());
  EXPECT_THAT(log(), ::testing::HasSubstr("was taken by node 0000000000000063"));
}

TEST_F(NodeTest, ARankThatIsAddedIsTaken) {
  auto node = start(options(1));
  std::function<Result<bool>(cluster::Table&)> add = [](cluster::Table& table) -> Result<bool> {
    return table.add().has_value();
  };
  auto& beats = const_cast<cluster::Beats&>(node->beats());
  ASSERT_TRUE(graftfs::wait_for(loop_, beats.change_table(add)));
  EXPECT_TRUE(until([&] { return node->ranks().size() == 2; })) << log();
}

TEST_F(NodeTest, AddressesFollowFromTheRank) {
  auto unix_base = *net::parse_address("unix:/run/g");
  auto tcp_base = *net::parse_address("tcp:10.0.0.1:65530");
  EXPECT_EQ(net::show(*address_of(unix_base, RankId{3})), "unix:/run/g.3");
  EXPECT_EQ(net::show(*address_of(tcp_base, RankId{3})), "tcp:10.0.0.1:65533");
  EXPECT_EQ(address_of(tcp_base, RankId{6}).error().code, EINVAL);
}

TEST_F(NodeTest, TheVolumesKeyIsMadeOnceAndChecked) {
  std::string key = *volume_key(*volume_);
  EXPECT_EQ(key.size(), 32u);
  EXPECT_EQ(*volume_key(*volume_), key);
  std::filesystem::resize_file(dir_.path + "/key", 31);
  EXPECT_EQ(volume_key(*volume_).error().code, EUCLEAN);
}

// Only processes that are surely the one meant, and fenced, are ended.
TEST(Process, OnlyAFencedProcessOfThisMachineIsEnded) {
  pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  cluster::NodeRecord node;
  node.id = 5;
  node.machine = this_machine();
  node.pid = child;
  node.started = started_at(child);
  ASSERT_GT(node.started, 0u);
  node.addresses[kOne] = {};
  auto owned = [](RankId, cluster::NodeId) { return true; };
  auto fenced = [](RankId, cluster::NodeId) { return false; };
  EXPECT_EQ(end_fenced({node}, owned, node.machine), 0);
  EXPECT_EQ(end_fenced({node}, fenced, "another machine"), 0);
  cluster::NodeRecord later = node;
  later.started += 1;
  EXPECT_EQ(end_fenced({later}, fenced, node.machine), 0) << "the number was given again";
  cluster::NodeRecord idle = node;
  idle.addresses.clear();
  EXPECT_EQ(end_fenced({idle}, fenced, node.machine), 0);
  EXPECT_EQ(end_fenced({node}, fenced, node.machine), 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(started_at(child), 0u);
}

}  // namespace
}  // namespace graftfs::node
