// Several clients that keep what they were told, and are told before it changes.
#include <gmock/gmock.h>

#include <random>

#include "routed.h"
#include "server/leases.h"
#include "server/migrate.h"

namespace graftfs {
namespace {

struct Leased : Routed {
  // Every answer from a cache is compared with what the ranks know at that moment.
  void judge(Way& way) {
    way.router.answered_from_cache = [this](const Request& request, const Reply& reply) {
      judged++;
      check(request.args, reply);
    };
  }
  const Stat* truth(Ino ino) {
    for (size_t i : {0, 1}) {
      if (!ranks.is_up(i)) continue;
      RankCore& core = ranks.rank(i).core();
      const Dir* dir = core.cache().find_dir(ino);
      if (dir && place_of(core.cache(), core.state(), ino).what == Place::ours)
        return &dir->inode();
      const Dentry* inode = core.cache().find_inode(ino);
      if (inode) return &inode->inode;
    }
    return nullptr;
  }
  void check(const Args& args, const Reply& reply) {
    Ino ino = reply.stat.ino;
    if (auto* lookup = std::get_if<LookupArgs>(&args)) {
      for (size_t i : {0, 1}) {
        RankCore& core = ranks.rank(i).core();
        const Dir* dir = core.cache().find_dir(lookup->dir);
        if (!dir || place_of(core.cache(), core.state(), lookup->dir).what != Place::ours) continue;
        const Dentry* e = core.cache().find_entry(*dir, lookup->name);
        const Ino there = e && e->kind != EntryKind::null ? e->ino : Ino{};
        EXPECT_EQ(there, reply.err == ENOENT ? Ino{} : ino)
            << lookup->name << " in " << lookup->dir.v;
      }
      if (reply.err) return;
    }
    const Stat* stat = truth(ino);
    ASSERT_NE(stat, nullptr) << ino.v;
    EXPECT_EQ(reply.stat.nlink, stat->nlink) << ino.v;
    EXPECT_EQ(reply.stat.mode, stat->mode) << ino.v;
    EXPECT_EQ(reply.stat.size, stat->size) << ino.v;
    EXPECT_EQ(reply.stat, *stat) << ino.v;
  }
  uint64_t requests() const {
    uint64_t n = 0;
    for (size_t i : {0, 1}) n += const_cast<Ranks&>(ranks).rank(i).stats().requests;
    return n;
  }
  // Whether it is answered without a message.
  bool is_kept(Way& way, Args args) {
    const uint64_t before = requests();
    way.call(std::move(args));
    return requests() == before;
  }
  // A name that both know of, and its attributes.
  Ino known_to_both(Ino dir, const std::string& name) {
    Ino ino;
    ranks.settle(2 * kSecond);  // what was recalled lately is not leased
    for (Way* way : {&me, &other})
      for (int i = 0; i < 2; ++i) ino = way->call(LookupArgs{dir, name}).stat.ino;
    EXPECT_TRUE(is_kept(me, LookupArgs{dir, name})) << name;
    EXPECT_TRUE(is_kept(other, LookupArgs{dir, name})) << name;
    return ino;
  }
  void SetUp() override {
    Routed::SetUp();
    judge(me);
    judge(other);
  }

  Way other{ranks, transport, SessionId{0x2002}};
  uint64_t judged = 0;
};

TEST_F(Leased, WhatWasToldIsNotAskedAgain) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  EXPECT_EQ(me.call(LookupArgs{a, "none"}).err, ENOENT);
  EXPECT_TRUE(is_kept(me, LookupArgs{kRootIno, "a"})) << "with the attributes after its change";
  EXPECT_TRUE(is_kept(me, LookupArgs{a, "file"})) << "it made it";
  EXPECT_TRUE(is_kept(me, GetattrArgs{file}));
  EXPECT_TRUE(is_kept(me, LookupArgs{a, "none"})) << "that there is none was told, too";
  EXPECT_EQ(me.call(LookupArgs{a, "none"}).err, ENOENT);
  EXPECT_FALSE(is_kept(other, LookupArgs{a, "file"})) << "each client asks for itself";
  for (int i = 0; i < 2; ++i) {  // the first one may have to write the time of access
    ranks.settle(kSecond);
    other.call(ReaddirArgs{a, 0, 100, true});
  }
  EXPECT_TRUE(is_kept(other, LookupArgs{a, "file"}));
  EXPECT_GT(judged, 4u);
}

TEST_F(Leased, WhoMayNotSearchIsNotAnsweredFromWhatAnotherWasTold) {
  Ino a = me.mkdir(kRootIno, "a");
  me.create(a, "file");
  ASSERT_EQ(me.call(SetattrArgs{.ino = a, .valid = kSetMode, .mode = 0700}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{a, "file"}).err, 0);
  auto as_user = [&] {
    Request request;
    request.cred.uid = 1000;
    request.args = LookupArgs{a, "file"};
    std::optional<Reply> reply;
    me.router.submit(std::move(request), [&](Reply r) { reply = std::move(r); });
    ranks.executor.run_until([&] { return reply.has_value(); });
    return reply->err;
  };
  EXPECT_EQ(as_user(), EACCES);
  ASSERT_EQ(me.call(SetattrArgs{.ino = a, .valid = kSetMode, .mode = 0755}).err, 0);
  EXPECT_EQ(as_user(), 0);
  EXPECT_EQ(as_user(), 0);
  ASSERT_EQ(other.call(SetattrArgs{.ino = a, .valid = kSetMode, .mode = 0700}).err, 0);
  EXPECT_EQ(as_user(), EACCES);
}

TEST_F(Leased, WhatAnotherChangesIsSeenAtOnce) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b");
  Ino file = me.create(a, "file");
  known_to_both(a, "file");
  me.call(LookupArgs{a, "new"});
  const uint64_t links = me.call(GetattrArgs{a}).stat.nlink;

  ASSERT_EQ(other.call(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600}).err, 0);
  EXPECT_EQ(me.call(GetattrArgs{file}).stat.mode & 07777, 0600u);
  ASSERT_EQ(other.call(WroteArgs{file, 100, 8}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{a, "file"}).stat.size, 100u);
  other.mkdir(a, "new");
  EXPECT_EQ(me.call(LookupArgs{a, "new"}).err, 0) << "it knew that there was none";
  EXPECT_EQ(me.call(GetattrArgs{a}).stat.nlink, links + 1);
  ASSERT_EQ(other.call(RenameArgs{a, "file", b, "moved"}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{a, "file"}).err, ENOENT);
  EXPECT_EQ(me.call(LookupArgs{b, "moved"}).stat.ino, file);
  ASSERT_EQ(other.call(RmdirArgs{a, "new"}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{a, "new"}).err, ENOENT);
  ASSERT_EQ(other.call(UnlinkArgs{b, "moved"}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{b, "moved"}).err, ENOENT);
}

TEST_F(Leased, CountsOfLinksAreRightByEveryName) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b");
  Ino file = me.create(a, "one");
  known_to_both(a, "one");
  ASSERT_EQ(other.call(LinkArgs{file, b, "two"}).err, 0);
  EXPECT_EQ(me.call(LookupArgs{a, "one"}).stat.nlink, 2u);
  EXPECT_EQ(other.call(LookupArgs{a, "one"}).stat.nlink, 2u) << "its own change";
  known_to_both(a, "one");
  known_to_both(b, "two");
  ASSERT_EQ(me.call(LinkArgs{file, a, "three"}).err, 0);
  for (Way* way : {&me, &other}) {
    EXPECT_EQ(way->call(LookupArgs{a, "one"}).stat.nlink, 3u);
    EXPECT_EQ(way->call(LookupArgs{b, "two"}).stat.nlink, 3u);
    EXPECT_EQ(way->call(GetattrArgs{file}).stat.nlink, 3u);
  }
  known_to_both(b, "two");
  ASSERT_EQ(me.call(UnlinkArgs{a, "one"}).err, 0);
  for (Way* way : {&me, &other}) EXPECT_EQ(way->call(LookupArgs{b, "two"}).stat.nlink, 2u);
  Ino over = me.create(b, "over");
  known_to_both(a, "three");
  ASSERT_EQ(other.call(RenameArgs{b, "over", b, "two"}).err, 0) << "replaces a name of it";
  for (Way* way : {&me, &other}) {
    EXPECT_EQ(way->call(LookupArgs{a, "three"}).stat.nlink, 1u);
    EXPECT_EQ(way->call(LookupArgs{b, "two"}).stat.ino, over);
    EXPECT_EQ(way->call(LookupArgs{b, "over"}).err, ENOENT);
  }
}

TEST_F(Leased, ChangesThatConcernTwoRanksAreSeenAtOnce) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b");
  Ino here = me.create(a, "here"), there = me.create(b, "there");
  ranks.give(0, 1, b);
  known_to_both(a, "here");
  known_to_both(b, "there");
  ASSERT_EQ(other.call(LinkArgs{there, a, "link"}).err, 0);
  for (Way* way : {&me, &other}) {
    EXPECT_EQ(way->call(LookupArgs{b, "there"}).stat.nlink, 2u);
    EXPECT_EQ(way->call(LookupArgs{a, "link"}).stat.nlink, 2u);
  }
  known_to_both(b, "there");
  ASSERT_EQ(other.call(RenameArgs{a, "here", b, "there"}).err, 0) << "replaces a name of it";
  for (Way* way : {&me, &other}) {
    EXPECT_EQ(way->call(LookupArgs{b, "there"}).stat.ino, here);
    EXPECT_EQ(way->call(LookupArgs{a, "here"}).err, ENOENT);
    EXPECT_EQ(way->call(LookupArgs{a, "link"}).stat.nlink, 1u);
  }
  Ino sub = me.mkdir(a, "sub");
  known_to_both(a, "sub");
  ASSERT_EQ(other.call(RenameArgs{a, "sub", b, "sub"}).err, 0);
  for (Way* way : {&me, &other}) {
    EXPECT_EQ(way->call(LookupArgs{a, "sub"}).err, ENOENT);
    EXPECT_EQ(way->call(LookupArgs{b, "sub"}).stat.ino, sub);
    EXPECT_EQ(way->call(GetattrArgs{a}).stat.nlink, 2u);
    EXPECT_EQ(way->call(GetattrArgs{b}).stat.nlink, 3u);
  }
}

// A connection that says only what a test says.
struct Puppet final : net::ConnectionEvents {
  void received(Message message) override { heard.push_back(std::move(message.body)); }
  void disconnected(const Error&) override { gone = true; }
  void say(Body body) { connection->send(Message{{}, RankId{0}, std::move(body)}); }
  template <class T>
  bool was_told() const {
    for (const Body& body : heard)
      if (std::holds_alternative<T>(body)) return true;
    return false;
  }
  std::unique_ptr<net::Connection> connection;
  std::vector<Body> heard;
  bool gone = false;
};

struct Stopped : Leased {
  // It has been told of an inode, and says nothing from now on.
  void attach(SessionId session, Ino knows) {
    net::Identity identity{net::Role::client, 1, session.v, "", ""};
    transport.connect({net::Address::local, "rank-0", 0}, identity,
                      [&](auto c) { puppet.connection = std::move(*c); });
    ranks.executor.run_until([&] { return puppet.connection != nullptr; });
    puppet.connection->set_events(&puppet);
    puppet.say(msg::Attach{});
    msg::Call call;
    call.number = 1;
    call.request.args = GetattrArgs{knows};
    puppet.say(call);
    ranks.executor.run_until([&] { return puppet.was_told<msg::Answer>(); });
  }
  void TearDown() override {
    if (puppet.connection) puppet.connection->set_events(nullptr);
    Leased::TearDown();
  }
  Puppet puppet;
};

TEST_F(Stopped, AStoppedClientDelaysOthersByItsLeaseAndIsEvicted) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  attach(SessionId{9}, file);
  const Nanos before = ranks.executor.now();
  std::optional<Reply> changed;
  me.begin(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600}, changed);
  // What does not concern it goes on meanwhile.
  Ino b = me.mkdir(kRootIno, "b");
  EXPECT_EQ(me.call(GetattrArgs{b}).err, 0);
  EXPECT_FALSE(changed);
  ranks.executor.run_until([&] { return changed.has_value(); });
  EXPECT_EQ(changed->err, 0);
  const Nanos waited = ranks.executor.now() - before;
  EXPECT_GE(waited, 2 * kSecond) << "it may go by what it was told for so long";
  EXPECT_LE(waited, 3 * kSecond);
  EXPECT_TRUE(puppet.was_told<msg::Recall>());
  EXPECT_TRUE(puppet.gone);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("session 9 was evicted: others wait for what it was leased"),
            std::string::npos)
      << log[0];
  EXPECT_FALSE(ranks.rank(0).state().sessions.contains(SessionId{9}));
}

// It answers beats, so that its lease never ends.
TEST_F(Stopped, WhoSpeaksAndDoesNotAnswerARecallIsDisconnected) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  attach(SessionId{9}, file);
  std::optional<Reply> changed;
  me.begin(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600}, changed);
  for (uint64_t beat = 1; !changed && beat < 100; ++beat) {
    if (!puppet.gone) puppet.say(msg::Beat{beat});
    ranks.settle(500 * kMillisecond);
  }
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->err, 0);
  ASSERT_EQ(log.size(), 2u);
  EXPECT_NE(log[0].find("has not answered a recall in time"), std::string::npos) << log[0];
  EXPECT_NE(log[1].find("was evicted"), std::string::npos) << log[1];
}

// An answer that says what was not asked.
TEST_F(Stopped, OnlyWhoWasAskedCanAnswerARecall) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  attach(SessionId{9}, file);
  std::optional<Reply> changed;
  me.begin(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600}, changed);
  ranks.executor.run_until([&] { return puppet.was_told<msg::Recall>(); });
  uint64_t number = 0;
  for (const Body& body : puppet.heard)
    if (auto* recall = std::get_if<msg::Recall>(&body)) number = recall->number;
  for (uint64_t n = 0; n < number + 10; ++n)
    if (n != number) puppet.say(msg::Recalled{n});
  other.router.remote(RankId{0}).say(msg::Recalled{number});
  ranks.settle(100 * kMillisecond);
  EXPECT_FALSE(changed);
  puppet.say(msg::Recalled{number});
  ranks.settle(100 * kMillisecond);
  EXPECT_TRUE(changed);
}

TEST_F(Leased, ALeaseEndsWithItsConnectionAndItsSession) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  known_to_both(a, "file");
  Request stat;
  stat.args = GetattrArgs{file};
  ASSERT_TRUE(me.router.cache().answer({}, stat.args));
  end(0);
  ranks.settle(kMillisecond);
  EXPECT_FALSE(me.router.cache().answer({}, stat.args)) << "it is not connected";
  serve(0);
  ranks.executor.run_until([&] { return me.router.remote(RankId{0}).is_up(); });
  EXPECT_FALSE(me.router.cache().answer({}, stat.args)) << "others may have been told otherwise";
  EXPECT_EQ(me.router.cache().names(), 0u);
  EXPECT_FALSE(is_kept(me, GetattrArgs{file}));
  EXPECT_TRUE(is_kept(me, GetattrArgs{file}));
  endpoints[0]->evict(me.session, "for the test");
  ranks.settle();
  EXPECT_FALSE(is_kept(me, GetattrArgs{file}));
  EXPECT_EQ(ranks.rank(0).leases().leased(me.session), 1u);
}

TEST_F(Leased, ASessionHasAtMostSoManyLeases) {
  ranks.rank(0).leases().set_most(10);
  std::vector<Ino> dirs;
  for (int i = 0; i < 30; ++i) dirs.push_back(me.mkdir(kRootIno, fmt::format("dir-{}", i)));
  ranks.settle(kSecond);
  for (Ino dir : dirs) {
    me.call(GetattrArgs{dir});
    ranks.settle(300 * kMillisecond);
    EXPECT_LE(ranks.rank(0).leases().leased(me.session), 11u);
  }
  EXPECT_FALSE(is_kept(me, GetattrArgs{dirs.front()})) << "the oldest was recalled";
  EXPECT_TRUE(is_kept(me, GetattrArgs{dirs.back()}));
}

// Where two clients take turns, keeping costs more than it saves.
TEST_F(Leased, WhatIsRecalledAllTheTimeIsNotLeasedForAWhile) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  uint64_t recalls = 0;
  ranks.executor.advance(kSecond);
  for (int i = 0; i < 100; ++i) {
    me.call(GetattrArgs{file});
    other.call(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600u + i % 2});
    EXPECT_EQ(me.call(GetattrArgs{file}).stat.mode & 07777, 0600u + i % 2);
    ranks.settle(11 * kMillisecond);
    recalls += ranks.rank(0).leases().leased(me.session) > 0;
  }
  ranks.settle(2 * kSecond);
  me.call(GetattrArgs{file});
  EXPECT_TRUE(is_kept(me, GetattrArgs{file})) << "when it is calm again, it is";
}

TEST_F(Leased, AMigrationRecallsEverythingBelowAndClientsFollow) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(a, "b");
  Ino file = me.create(b, "file");
  known_to_both(b, "file");
  std::optional<Result<void>> moved;
  ranks.rank(0).migrations().start(a, RankId{1}, [&](Result<void> r) { moved = std::move(r); });
  int reads = 0;
  while (!moved) {
    // Clients go on asking, and are answered rightly at every moment.
    EXPECT_EQ(me.call(GetattrArgs{file}).err, 0);
    EXPECT_EQ(other.call(LookupArgs{b, "file"}).stat.ino, file);
    ranks.settle(kMillisecond);
    ASSERT_LT(++reads, 10'000);
  }
  ASSERT_TRUE(*moved) << describe(moved->error());
  EXPECT_EQ(me.call(LookupArgs{b, "file"}).home, RankId{1});
  ASSERT_EQ(other.call(SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0600}).err, 0);
  EXPECT_EQ(me.call(GetattrArgs{file}).stat.mode & 07777, 0600u);
}

// The kernel of one mount refers to a file that another one removes; nothing says that it is open.
TEST_F(Leased, WhatIsInUseAnywhereIsNotPurged) {
  Ino a = me.mkdir(kRootIno, "a");
  Ino used = me.call(MknodArgs{a, "used", S_IFREG | 0644}).stat.ino;
  Ino unused = me.call(MknodArgs{a, "unused", S_IFREG | 0644}).stat.ino;
  std::set<Ino> asked;
  me.router.refers_to = [&](Ino ino) {
    asked.insert(ino);
    return ino == used;
  };
  for (const char* name : {"used", "unused"}) {
    Reply removed = other.call(UnlinkArgs{a, name});
    ASSERT_TRUE(removed.orphaned);
    EXPECT_EQ(other.call(ReleaseArgs{removed.stat.ino, 1}).err, 0);
  }
  ranks.settle(30 * kSecond);  // the sessions of the tests have no connection, and are waited for
  EXPECT_EQ(asked, (std::set<Ino>{used, unused}));
  EXPECT_EQ(me.call(GetattrArgs{used}).err, 0);
  EXPECT_EQ(me.call(GetattrArgs{used}).stat.nlink, 0u);
  EXPECT_EQ(other.call(GetattrArgs{unused}).err, ESTALE);
  // A new connection: it claims what it has said that it uses.
  cut(0);
  EXPECT_EQ(me.call(GetattrArgs{used}).err, 0);
  ranks.settle(30 * kSecond);
  EXPECT_EQ(me.call(GetattrArgs{used}).err, 0);
  // Its kernel has forgotten it.
  me.router.refers_to = [](Ino) { return false; };
  EXPECT_EQ(me.call(ReleaseArgs{used, 1}).err, 0);
  ranks.settle(30 * kSecond);
  EXPECT_EQ(me.call(GetattrArgs{used}).err, ESTALE);
}

// Three clients, several requests under way from each, in a small tree of two ranks: whatever is
// answered from a cache is what the ranks know at that moment.
struct Anything : Leased {
  struct Player {
    Way* way;
    uint32_t seed;
    std::vector<Ino>* dirs;
    Leased* test;
    std::mt19937 random{seed};
    int left = 0;
    int under_way = 0;

    // Mostly; and then there are many changes at once.
    bool is_calm() const { return left / 50 % 4 != 0; }
    Args pick() {
      auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
      auto dir = [&] { return (*dirs)[below(static_cast<uint32_t>(dirs->size()))]; };
      auto name = [&] { return fmt::format("n{}", below(6)); };
      const Ino d = dir(), e = dir();
      const std::string n = name(), m = name();
      const Ino known = seen.empty() ? d : seen[below(static_cast<uint32_t>(seen.size()))];
      switch (below(is_calm() ? 120 : 18)) {
        case 0:
          return CreateArgs{d, n, 0644, 0, true, 0};
        case 1:
          return MkdirArgs{d, n, 0755, 0};
        case 2:
          return UnlinkArgs{d, n};
        case 3:
          return RmdirArgs{d, n};
        case 4:
        case 5:
          return RenameArgs{d, n, e, m, below(4) == 0 ? 2u : 0u};
        case 6:
          return LinkArgs{known, e, m};
        case 7:
          return SetattrArgs{.ino = known, .valid = kSetMode, .mode = 0600 + below(8)};
        case 8:
          return SetattrArgs{.ino = d, .valid = kSetMode, .mode = 0700 + below(8)};
        case 9:
          return ReaddirArgs{d, 0, 100, true};
        case 10:
          return WroteArgs{known, below(1000), 8};
        case 11:
          return ReadArgs{known};
        case 12:
        case 13:
          return GetattrArgs{known};
        case 14:
          return GetattrArgs{d};
        default:
          return below(3) ? Args{LookupArgs{d, n}} : Args{GetattrArgs{below(4) ? known : d}};
      }
    }
    void go() {
      if (left == 0) return;
      --left;
      ++under_way;
      Request request;
      request.args = pick();
      way->router.submit(std::move(request), [this](Reply reply) {
        --under_way;
        if (reply.err == 0 && reply.stat.ino && seen.size() < 50) seen.push_back(reply.stat.ino);
        const Nanos pause = static_cast<Nanos>(random() % (is_calm() ? 200 : 20)) * kMillisecond;
        // The ranks outlive it.
        test->ranks.executor.post_after(pause, [this, here = std::weak_ptr(alive)] {
          if (!here.expired()) go();
        });
      });
    }
    std::vector<Ino> seen;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
};

struct AnythingSeeded : Anything, ::testing::WithParamInterface<uint32_t> {};

TEST_P(AnythingSeeded, IsAnsweredFromACacheOnlyAsTheRankWould) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b"), c = me.mkdir(b, "c");
  ranks.give(0, 1, b);
  Way third(ranks, transport, SessionId{0x3003});
  judge(third);
  std::vector<Ino> dirs{a, b, c};
  std::vector<std::unique_ptr<Player>> players;
  uint32_t seed = GetParam() * 10;
  for (Way* way : {&me, &other, &third}) {
    players.push_back(std::make_unique<Player>(Player{way, seed++, &dirs, this}));
    players.back()->left = 3000;
  }
  for (auto& player : players)
    for (int i = 0; i < 3; ++i) player->go();
  int breaks = 0;
  ranks.executor.run_until([&] {
    if (HasFatalFailure()) return true;
    for (auto& player : players)
      if (player->left || player->under_way) {
        if (breaks < 6 && player->left < 400 * (6 - breaks)) {
          ++breaks;
          cut(static_cast<size_t>(breaks % 2));
        }
        return false;
      }
    return true;
  });
  EXPECT_GT(judged, 300u);
  std::erase_if(log, [](const std::string& line) {  // of the tests, without a connection
    return line.find("session 4d") != std::string::npos;
  });
  EXPECT_THAT(log, ::testing::IsEmpty()) << "nobody was evicted";
}

INSTANTIATE_TEST_SUITE_P(Seeds, AnythingSeeded, ::testing::Range(1u, 6u));

}  // namespace
}  // namespace graftfs
