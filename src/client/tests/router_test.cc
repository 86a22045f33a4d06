// A client that finds its way between two ranks, over connections inside the process that break.
#include "routed.h"
#include "server/migrate.h"

namespace graftfs {
namespace {

TEST_F(Routed, OneTreeOfTwoRanks) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(a, "b");
  Ino file = me.create(b, "file");
  ranks.give(0, 1, b);
  // The client believes that it is all rank 0's.
  EXPECT_EQ(me.call(GetattrArgs{file}).stat.ino, file);
  Reply looked = me.call(LookupArgs{a, "b"});
  EXPECT_EQ(looked.err, 0);
  EXPECT_FALSE(looked.partial);
  EXPECT_EQ(looked.stat.mode, S_IFDIR | 0755u) << "its own rank was asked for the attributes";
  EXPECT_EQ(looked.home, RankId{1});
  EXPECT_EQ(me.call(LookupParentArgs{b}).stat.ino, a);
  const uint64_t redirects = me.router.redirects();
  for (int i = 0; i < 10; ++i) me.create(b, fmt::format("new-{}", i));
  EXPECT_EQ(me.router.redirects(), redirects) << "it knows by now";
  EXPECT_EQ(me.call(ReaddirArgs{b, 0, 100, true}).entries.size(), 11u);
  EXPECT_EQ(me.call(SyncArgs{}).err, 0);
  me.create(b, "last");
  EXPECT_LE(ranks.rank(1).state().sessions.at(me.session).completed.size(), 2u)
      << "what is answered and durable is forgotten";
  EXPECT_EQ(me.call(RenameArgs{b, "file", a, "file"}).err, 0);
}

TEST_F(Routed, WhatOnlyItsRankKnowsIsFound) {
  Ino a = me.mkdir(kRootIno, "a");
  ranks.give(0, 1, a);
  Ino fresh = me.create(a, "fresh");  // not in the store yet
  Way other(ranks, transport, SessionId{0x2002});
  EXPECT_EQ(other.call(GetattrArgs{fresh}).err, 0);
  EXPECT_EQ(other.call(GetattrArgs{Ino{0x7fffffff}}).err, ESTALE);
}

TEST_F(Routed, ASubtreeThatComesAndGoesIsFollowed) {
  Ino a = me.mkdir(kRootIno, "a");
  for (int i = 0; i < 6; ++i) {
    ranks.give(i % 2, 1 - i % 2, a);
    ranks.delivered.clear();
    std::string name = fmt::format("file-{}", i);
    me.create(a, name);
    EXPECT_EQ(me.call(LookupArgs{a, name}).home, Ranks::id(1 - i % 2));
  }
  EXPECT_EQ(me.call(ReaddirArgs{a, 0, 100}).entries.size(), 6u);
}

// Requests are under way when the connection breaks, some carried out and not answered.
TEST_F(Routed, NothingIsDoneTwiceWhenAConnectionBreaks) {
  Ino a = me.mkdir(kRootIno, "a");
  std::vector<std::optional<Reply>> replies(40);
  for (size_t i = 0; i < replies.size(); ++i) {
    me.begin(CreateArgs{a, fmt::format("file-{}", i), 0644, 0, true, 0}, replies[i]);
    if (i % 10 == 5) {
      // Carried out, and the answers on their way.
      ranks.executor.run_until([&, seen = ranks.rank(0).stats().requests] {
        return ranks.rank(0).stats().requests > seen;
      });
      cut(0);
    }
  }
  for (auto& reply : replies) ranks.executor.run_until([&] { return reply.has_value(); });
  for (auto& reply : replies) EXPECT_EQ(reply->err, 0) << "EEXIST: it was carried out twice";
  EXPECT_EQ(me.call(ReaddirArgs{a, 0, 100}).entries.size(), replies.size());
  EXPECT_EQ(endpoints[0]->connections(), 1u);
}

TEST_F(Routed, ADeathOfTheRankIsOnlyADelay) {
  Ino a = me.mkdir(kRootIno, "a");
  std::vector<std::optional<Reply>> replies(10);
  for (size_t i = 0; i < replies.size(); ++i)
    me.begin(MkdirArgs{a, fmt::format("dir-{}", i), 0755, 0}, replies[i]);
  ranks.executor.run_until([&] { return ranks.rank(0).stats().requests > 4; });
  kill(0);
  ranks.settle();
  revive(0);
  for (auto& reply : replies) ranks.executor.run_until([&] { return reply.has_value(); });
  for (auto& reply : replies) EXPECT_EQ(reply->err, 0);
  EXPECT_EQ(me.call(ReaddirArgs{a, 0, 100}).entries.size(), replies.size());
}

// A power cut takes what was answered and not synced; the client has kept it.
TEST_F(Routed, WhatWasAnsweredAndNotDurableIsDoneAgain) {
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  std::map<std::string, Stat> made;
  for (int i = 0; i < 20; ++i) {
    std::string name = fmt::format("dir-{}", i);
    made[name] = me.call(MkdirArgs{a, name, 0755, 0}).stat;
  }
  ASSERT_EQ(me.call(RenameArgs{a, "dir-3", a, "renamed"}).err, 0);
  made["renamed"] = made["dir-3"];
  made.erase("dir-3");
  ASSERT_TRUE(me.router.remote(RankId{0}).has_undurable());
  for (size_t i : {0, 1}) end(i);
  ranks.cut_power();
  for (size_t i : {0, 1}) revive(i);
  for (const auto& [name, stat] : made) {
    Reply reply = me.call(LookupArgs{a, name});
    EXPECT_EQ(reply.err, 0) << name;
    EXPECT_EQ(reply.stat.ino, stat.ino) << name << ": what the caller was told";
    EXPECT_EQ(reply.stat.btime, stat.btime) << name;
  }
  EXPECT_EQ(me.call(ReaddirArgs{a, 0, 100}).entries.size(), made.size());
  EXPECT_EQ(me.call(SyncArgs{}).err, 0);
  EXPECT_FALSE(me.router.remote(RankId{0}).has_undurable());
}

// After a recovery what is sent again goes first.
TEST_F(Routed, OthersWaitForTheWindow) {
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  kill(0);
  revive(0, 500 * kMillisecond);  // the sessions of the tests never come back
  ASSERT_TRUE(endpoints[0]->in_window());
  const Nanos before = ranks.executor.now();
  EXPECT_EQ(me.call(GetattrArgs{a}).err, 0);
  EXPECT_GE(ranks.executor.now() - before, 400 * kMillisecond);
  EXPECT_FALSE(endpoints[0]->in_window());
}

// What takes it so long is the store, and others would come before what it had been answered.
TEST_F(Routed, WhoDoesThingsAgainIsWaitedFor) {
  Way other(ranks, transport, SessionId{0x2002});
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  ASSERT_EQ(other.call(GetattrArgs{a}).err, 0);
  for (int i = 0; i < 4; ++i) me.mkdir(a, fmt::format("dir-{}", i));
  for (size_t i : {0, 1}) end(i);
  ranks.cut_power();
  for (size_t i : {0, 1}) revive(i, 500 * kMillisecond);
  Nanos& reading = ranks.disk->faults()[StoreCall::dirs_read].latency_min;
  reading = 200 * kMillisecond;
  EXPECT_EQ(other.call(MkdirArgs{a, "dir-3", 0755, 0}).err, EEXIST);
  EXPECT_EQ(me.call(SyncArgs{}).err, 0) << "it was all done again";
  reading = 0;
}

// Clients look in the store for where a rank is.
TEST_F(Routed, WhileTheStoreStandsStillTheWindowDoesNotEnd) {
  me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  kill(0);
  revive(0, 500 * kMillisecond);
  ranks.disk->faults()[StoreCall::state_get].latency_min = 200 * kMillisecond;
  ranks.settle(5 * kSecond);
  EXPECT_TRUE(endpoints[0]->in_window());
  ranks.disk->faults()[StoreCall::state_get].latency_min = 0;
  ranks.settle(800 * kMillisecond);
  EXPECT_FALSE(endpoints[0]->in_window());
}

TEST_F(Routed, NothingMovesAwayInTheWindow) {
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  kill(0);
  revive(0, 500 * kMillisecond);
  auto move = [&] {
    std::optional<Result<void>> moved;
    ranks.rank(0).migrations().start(a, Ranks::id(1), [&moved](Result<void> r) { moved = r; });
    ranks.executor.run_until([&] { return moved.has_value(); });
    return *moved;
  };
  ASSERT_TRUE(endpoints[0]->in_window());
  auto refused = move();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EBUSY);
  ranks.settle(600 * kMillisecond);
  EXPECT_TRUE(move());
}

// Whichever of the two carries it out.
TEST_F(Routed, NothingIsPromisedToAnotherRankInTheWindow) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b");
  ranks.give(0, 1, b);
  me.create(a, "x");
  me.create(b, "y");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  kill(0);
  revive(0, 500 * kMillisecond);
  std::optional<Reply> there, back;
  me.begin(RenameArgs{a, "x", b, "x"}, there);
  me.begin(RenameArgs{b, "y", a, "y"}, back);
  ranks.settle(400 * kMillisecond);
  ASSERT_TRUE(endpoints[0]->in_window());
  EXPECT_FALSE(there || back);
  EXPECT_EQ(ranks.call(0, LookupArgs{a, "x"}).err, 0) << "it is as it was recovered";
  EXPECT_EQ(ranks.call(0, LookupArgs{a, "y"}).err, ENOENT);
  ranks.executor.run_until([&] { return there && back; });
  EXPECT_EQ(there->err, 0);
  EXPECT_EQ(back->err, 0);
}

// A request that nobody was answered, and which comes first, does not take what another client had
// been answered.
TEST_F(Routed, WhatWasAnsweredIsDoneAgainBeforeWhatWasNot) {
  Ino a = me.mkdir(kRootIno, "a"), b = me.mkdir(kRootIno, "b");
  ranks.give(0, 1, b);
  Ino file = me.create(b, "file");
  Way other(ranks, transport, SessionId{0x2002});
  ASSERT_EQ(other.call(GetattrArgs{a}).err, 0);
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  ranks.cut(0, 1);
  std::optional<Reply> link;
  other.begin(LinkArgs{file, a, "name"}, link);
  ranks.settle(20 * kMillisecond);
  ASSERT_FALSE(link) << "rank 0 waits for the other one";
  ranks.settle(200 * kMillisecond);  // all else is durable
  const Ino mine = me.call(MkdirArgs{a, "name", 0755, 0}).stat.ino;
  ASSERT_TRUE(me.router.remote(RankId{0}).has_undurable());
  for (size_t i : {0, 1}) end(i);
  ranks.cut_power();
  ranks.heal(0, 1);
  unreachable = me.session;
  revive(0, 3 * kSecond);
  revive(1, 0);  // it promises at once
  ranks.settle(600 * kMillisecond);
  unreachable.reset();
  EXPECT_EQ(me.call(LookupArgs{a, "name"}).stat.ino, mine);
  EXPECT_EQ(me.call(SyncArgs{}).err, 0) << "nothing is lost";
  ranks.executor.run_until([&] { return link.has_value(); });
  EXPECT_EQ(link->err, EEXIST);
}

TEST_F(Routed, HoldsAreClaimedAgain) {
  Ino a = me.mkdir(kRootIno, "a"), file = me.create(a, "file");
  ASSERT_EQ(me.call(UnlinkArgs{a, "file"}).err, 0);
  kill(0);
  revive(0);
  EXPECT_EQ(me.call(GetattrArgs{file}).stat.nlink, 0u) << "it is open here";
  cut(0);
  EXPECT_EQ(me.call(GetattrArgs{file}).stat.nlink, 0u);
  EXPECT_EQ(me.call(ReleaseArgs{file, 2}).err, 0);  // of the create, of the unlink
  ranks.settle(30 * kSecond);  // the sessions of the tests have no connection, and are waited for
  EXPECT_EQ(me.call(GetattrArgs{file}).err, ESTALE);
}

TEST_F(Routed, TheEvictedLearnOfIt) {
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_TRUE(me.router.remote(RankId{0}).has_undurable());
  endpoints[0]->evict(me.session, "for the test");
  ASSERT_FALSE(log.empty());
  EXPECT_NE(log.back().find("evicted"), std::string::npos);
  ranks.settle();
  EXPECT_EQ(me.call(GetattrArgs{a}).err, 0) << "with a new session";
  EXPECT_EQ(me.call(SyncArgs{}).err, EIO) << "once";
  EXPECT_EQ(me.call(SyncArgs{}).err, 0);
}

// Questions are asked again, and so is what it was never sent; what may have been done is EIO.
TEST_F(Routed, OnlyWhatMayHaveBeenDoneFailsWithAnEviction) {
  Ino a = me.mkdir(kRootIno, "a");
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  std::optional<Reply> made, looked, later;
  // Its connection is open, and nothing of it is read any more.
  endpoints[0]->evict(me.session, "for the test");
  me.begin(MkdirArgs{a, "under-way", 0755, 0}, made);
  me.begin(LookupArgs{kRootIno, "a"}, looked);
  ranks.settle();
  ASSERT_TRUE(made && looked);
  EXPECT_EQ(made->err, EIO);
  EXPECT_EQ(looked->err, 0);
  EXPECT_EQ(looked->stat.ino, a);
  EXPECT_EQ(me.call(LookupArgs{a, "under-way"}).err, ENOENT);
  // It was stopped for longer than its lease, and calls something before it has heard of anything.
  end(0);
  kill(0);
  ranks.settle(10 * kSecond);
  me.begin(MkdirArgs{a, "later", 0755, 0}, later);
  revive(0);
  ranks.executor.run_until([&] { return later.has_value(); });
  EXPECT_EQ(later->err, 0);
}

// A peer that is no client of ours says what it likes.
struct Stranger final : net::ConnectionEvents {
  void received(Message) override {}
  void disconnected(const Error&) override { gone = true; }
  bool gone = false;
};

TEST_F(Routed, WhoBreaksTheRulesIsClosedAndNobodyElseNotices) {
  Ino a = me.mkdir(kRootIno, "a");
  auto connect = [&](SessionId session, std::vector<Body> says) {
    Stranger stranger;
    std::unique_ptr<net::Connection> connection;
    net::Identity identity{net::Role::client, 1, session.v, "", ""};
    transport.connect({net::Address::local, "rank-0", 0}, identity,
                      [&](auto c) { connection = std::move(*c); });
    ranks.executor.run_until([&] { return connection != nullptr; });
    connection->set_events(&stranger);
    for (Body& body : says) connection->send(Message{{}, RankId{0}, std::move(body)});
    ranks.settle();
    connection->set_events(nullptr);
    return stranger.gone;
  };
  msg::Call call;
  call.request.args = GetattrArgs{a};
  EXPECT_TRUE(connect(SessionId{5}, {call})) << "a call before Attach";
  EXPECT_TRUE(connect(SessionId{}, {msg::Attach{}})) << "no session";
  EXPECT_TRUE(connect(SessionId{6}, {msg::Attach{}, msg::Attach{}}));
  EXPECT_TRUE(connect(SessionId{6}, {msg::Attach{}, msg::Hail{}})) << "not a client's to say";
  std::vector<Body> flood{msg::Attach{}};
  for (int i = 0; i < 5000; ++i) {
    call.request.args = MkdirArgs{a, fmt::format("dir-{}", i), 0755, 0};
    flood.push_back(call);
  }
  call.request.args = GetattrArgs{a};
  EXPECT_TRUE(connect(SessionId{7}, std::move(flood)));
  EXPECT_FALSE(connect(SessionId{8}, {msg::Attach{}, call}));
  EXPECT_GE(log.size(), 5u);
  EXPECT_EQ(me.call(GetattrArgs{a}).err, 0);
}

// The newest connection of a session is the one that counts.
TEST_F(Routed, AnOlderConnectionOfTheSessionIsClosed) {
  me.mkdir(kRootIno, "a");
  EXPECT_EQ(endpoints[0]->connections(), 1u);
  {
    Way again(ranks, transport, me.session);
    EXPECT_EQ(again.call(GetattrArgs{kRootIno}).err, 0);
    EXPECT_EQ(endpoints[0]->connections(), 1u);
  }
  EXPECT_EQ(me.call(GetattrArgs{kRootIno}).err, 0) << "it comes back";
}

}  // namespace
}  // namespace graftfs
