// Locks, and the right to write, between clients.
#include <fcntl.h>

#include "client/client.h"
#include "routed.h"
#include "server/locks.h"
#include "server/migrate.h"

namespace graftfs {
namespace {

struct Locked : Routed {
  void SetUp() override {
    Routed::SetUp();
    a = me.mkdir(kRootIno, "a");
    file = me.create(a, "file");
  }
  LockRange range(uint64_t start, uint64_t end, bool exclusive, uint64_t owner = 1) const {
    return {.ino = file, .owner = owner, .start = start, .end = end, .exclusive = exclusive};
  }
  LockRange whole(LockKind kind, bool exclusive = true) const {
    return {.ino = file, .owner = 1, .exclusive = exclusive, .kind = kind};
  }
  int set(Way& way, const LockRange& r) { return way.call(LockArgs{LockOp::set, r}).err; }
  int unlock(Way& way, const LockRange& r) { return way.call(LockArgs{LockOp::unlock, r}).err; }
  void begin_wait(Way& way, const LockRange& r, std::optional<Reply>& reply, uint64_t number = 1) {
    way.begin(LockArgs{LockOp::wait, r, number}, reply);
    ranks.settle(50 * kMillisecond);
  }

  Ino a, file;
  Way other{ranks, transport, SessionId{0x2002}};
};

TEST_F(Locked, OneClientKeepsAnotherOut) {
  EXPECT_EQ(set(me, range(0, 9, true)), 0);
  EXPECT_EQ(set(other, range(5, 20, false)), EAGAIN);
  EXPECT_EQ(set(other, range(10, 20, true)), 0);
  Reply asked = other.call(LockArgs{LockOp::test, range(0, 100, false)});
  ASSERT_TRUE(asked.lock);
  EXPECT_EQ(*asked.lock, range(0, 9, true));
  EXPECT_EQ(set(other, whole(LockKind::flock)), 0) << "apart from fcntl's";
  EXPECT_EQ(set(me, whole(LockKind::flock, false)), EAGAIN);
  EXPECT_EQ(unlock(me, range(0, UINT64_MAX, false)), 0);
  EXPECT_EQ(set(other, range(5, 20, false)), 0);
  EXPECT_EQ(set(me, range(9, 2, true)), EINVAL);
  EXPECT_EQ(me.call(LockArgs{LockOp::set, {.ino = Ino{0x7fffffff}}}).err, ESTALE);
}

TEST_F(Locked, WhoWaitsGetsItHoweverLongItTakes) {
  EXPECT_EQ(set(me, range(0, 9, true)), 0);
  std::optional<Reply> granted;
  begin_wait(other, range(0, 0, true), granted);
  ranks.settle(20 * kSecond);
  EXPECT_FALSE(granted);
  for (int i = 0; i < 50; ++i) other.mkdir(a, fmt::format("dir-{}", i));  // others go on
  EXPECT_EQ(unlock(me, range(0, 4, false)), 0);
  ranks.executor.run_until([&] { return granted.has_value(); });
  EXPECT_EQ(granted->err, 0);
  EXPECT_EQ(set(me, range(0, 0, false)), EAGAIN);
  EXPECT_EQ(set(me, range(1, 1, false)), 0);
}

TEST_F(Locked, AWaitIsInterrupted) {
  EXPECT_EQ(set(me, range(0, 9, true)), 0);
  std::optional<Reply> first, second;
  begin_wait(other, range(0, 0, true, 1), first, 1);
  begin_wait(other, range(0, 0, true, 2), second, 2);
  ranks.settle(5 * kSecond);
  EXPECT_EQ(other.call(LockArgs{LockOp::cancel, range(0, 0, true, 2), 2}).err, 0);
  ranks.settle(5 * kSecond);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->err, EINTR);
  EXPECT_FALSE(first);
  EXPECT_EQ(unlock(me, range(0, 9, false)), 0);
  ranks.executor.run_until([&] { return first.has_value(); });
  EXPECT_EQ(first->err, 0);
}

TEST_F(Locked, WhoWouldWaitForHimselfIsTold) {
  EXPECT_EQ(set(me, range(0, 0, true)), 0);
  EXPECT_EQ(set(other, range(1, 1, true)), 0);
  std::optional<Reply> waits;
  begin_wait(other, range(0, 0, true), waits);
  EXPECT_EQ(me.call(LockArgs{LockOp::wait, range(1, 1, true), 9}).err, EDEADLK);
  EXPECT_EQ(unlock(me, range(0, 0, true)), 0);
  ranks.executor.run_until([&] { return waits.has_value(); });
  EXPECT_EQ(waits->err, 0);
}

TEST_F(Locked, LocksEndWithTheirSession) {
  EXPECT_EQ(set(me, whole(LockKind::flock)), 0);
  std::optional<Reply> waits;
  begin_wait(other, whole(LockKind::flock), waits);
  endpoints[0]->evict(me.session, "for the test");
  ranks.executor.run_until([&] { return waits.has_value(); });
  EXPECT_EQ(waits->err, 0);
  ranks.settle(kSecond);
  EXPECT_FALSE(me.router.has_lock(file, 1, LockKind::flock)) << "it has learned of it";
  EXPECT_EQ(set(me, whole(LockKind::flock)), EAGAIN);
}

// It was away for longer than the window, and somebody else has got what it had.
TEST_F(Locked, WhoClaimsWhatAnotherOneHasByNowIsEvicted) {
  std::vector<Ino> told;
  me.router.evicted = [&](RankId rank, const std::vector<Ino>& locked) {
    EXPECT_EQ(rank, RankId{0});
    told = locked;
  };
  EXPECT_EQ(set(me, range(0, 9, true)), 0);
  ASSERT_EQ(me.call(SyncArgs{}).err, 0);
  unreachable = me.session;
  kill(0);
  ranks.settle();
  revive(0);
  ranks.settle(5 * kSecond);
  EXPECT_EQ(set(other, range(5, 5, true)), 0);
  EXPECT_TRUE(me.router.has_lock(file, 1, LockKind::posix)) << "it has not heard of anything";
  EXPECT_EQ(me.router.losses(file), 0u);
  unreachable.reset();
  ranks.settle(5 * kSecond);
  EXPECT_FALSE(me.router.has_lock(file, 1, LockKind::posix));
  EXPECT_EQ(me.router.losses(file), 1u);
  EXPECT_EQ(told, std::vector<Ino>{file});
  EXPECT_EQ(set(me, range(0, 9, true)), EAGAIN);
}

// An unlock is under way when the connection breaks: it is no claim any more.
TEST_F(Locked, WhatIsBeingUnlockedIsNotClaimed) {
  EXPECT_EQ(set(me, range(0, 9, true)), 0);
  std::optional<Reply> unlocked, waits;
  begin_wait(other, range(0, 9, true), waits);
  me.begin(LockArgs{LockOp::unlock, range(0, 9, false)}, unlocked);
  cut(0);
  ranks.executor.run_until([&] { return waits && unlocked; });
  EXPECT_EQ(waits->err, 0);
  EXPECT_EQ(unlocked->err, 0);
  ranks.settle(5 * kSecond);
  EXPECT_EQ(me.router.losses(file), 0u);
  EXPECT_TRUE(log.empty()) << log.front();
}

// A lock that is known to be at one rank, and comes to another one that forgets the session.
TEST_F(Locked, ALockIsLostWhereItIsByThen) {
  EXPECT_EQ(set(me, whole(LockKind::flock)), 0);
  std::optional<Result<void>> moved;
  ranks.rank(0).migrations().start(a, RankId{1}, [&](Result<void> r) { moved = std::move(r); });
  ranks.executor.run_until([&] { return moved.has_value(); });
  ASSERT_TRUE(*moved) << describe(moved->error());
  ranks.settle(kSecond);
  endpoints[0]->evict(me.session, "for the test");
  ranks.settle(kSecond);
  EXPECT_TRUE(me.router.has_lock(file, 1, LockKind::flock));
  EXPECT_EQ(me.router.losses(file), 0u);
  endpoints[1]->evict(me.session, "for the test");
  ranks.settle(kSecond);
  EXPECT_FALSE(me.router.has_lock(file, 1, LockKind::flock));
  EXPECT_EQ(me.router.losses(file), 1u);
}

TEST_F(Locked, LocksSurviveABrokenConnectionAndATakeover) {
  EXPECT_EQ(set(me, whole(LockKind::flock)), 0);
  EXPECT_EQ(set(me, range(5, 9, true)), 0);
  cut(0);
  EXPECT_EQ(set(other, whole(LockKind::flock)), EAGAIN);
  std::optional<Reply> waits;
  begin_wait(other, range(0, 100, true), waits);
  kill(0);
  ranks.settle();
  revive(0);
  ranks.settle(5 * kSecond);
  EXPECT_FALSE(waits) << "it was claimed before anybody got anything";
  EXPECT_EQ(set(other, whole(LockKind::flock)), EAGAIN);
  EXPECT_EQ(unlock(me, range(0, 100, false)), 0);
  ranks.executor.run_until([&] { return waits.has_value(); });
  EXPECT_EQ(waits->err, 0);
}

TEST_F(Locked, LocksGoWithASubtree) {
  EXPECT_EQ(set(me, range(5, 9, true)), 0);
  std::optional<Reply> waits;
  begin_wait(other, range(0, 100, true), waits);
  std::optional<Result<void>> moved;
  ranks.rank(0).migrations().start(a, RankId{1}, [&](Result<void> r) { moved = std::move(r); });
  ranks.executor.run_until([&] { return moved.has_value(); });
  ASSERT_TRUE(*moved) << describe(moved->error());
  ranks.settle(5 * kSecond);
  EXPECT_FALSE(waits);
  EXPECT_TRUE(ranks.rank(0).locks().table().empty());
  EXPECT_EQ(set(other, range(9, 9, true)), EAGAIN);
  EXPECT_EQ(unlock(me, range(0, 100, false)), 0);
  ranks.executor.run_until([&] { return waits.has_value(); });
  EXPECT_EQ(waits->err, 0);
}

// A client with its own view of the store, as a mount in another process has.
struct Writer {
  Writer(Ranks& r, net::Transport& t)
      : ranks(r),
        transport(t),
        store(r.executor, r.disk, nullptr),
        router(
            r.executor, [this](RankId rank, net::ConnectFn done) { dial(rank, std::move(done)); },
            [] { return RankMap{RankId{0}, {RankId{0}, RankId{1}}}; }),
        client(r.executor, router, store.data(), random(), ClientOptions{.locks = &router}) {
    router.wanted_back = [this](Ino ino) { client.give_back(ino); };
    router.is_idle = [this](Ino ino) { return client.is_idle(ino); };
  }
  void dial(RankId rank, net::ConnectFn done) {
    net::Identity identity{net::Role::client, 1, client.session().v, "", ""};
    transport.connect({net::Address::local, fmt::format("rank-{}", rank.v), 0}, identity,
                      std::move(done));
  }
  static Random& random() {
    static TestRandom shared;
    return shared;
  }
  void append(Ino ino, const std::string& bytes, int* left) {
    texts.push_back(std::make_unique<std::string>(bytes));
    client.write({}, ino, 0, *texts.back(), {.append = true}, [left](Result<uint64_t> n) {
      EXPECT_TRUE(n);
      --*left;
    });
  }
  int write(Ino ino, uint64_t offset, const std::string& bytes) {
    std::optional<Result<uint64_t>> result;
    client.write({}, ino, offset, bytes, {}, [&](Result<uint64_t> n) { result = std::move(n); });
    ranks.executor.run_until([&] { return result.has_value(); });
    return *result ? 0 : result->error().code;
  }
  Reply call(Args args) {
    std::optional<Reply> reply;
    client.call({}, std::move(args), [&](Reply r) { reply = std::move(r); });
    ranks.executor.run_until([&] { return reply.has_value(); });
    return std::move(*reply);
  }
  int truncate(Ino ino, uint64_t size) {
    return call(SetattrArgs{.ino = ino, .valid = kSetSize, .size = size}).err;
  }
  // Open for writing.
  Ino create(Ino dir, const std::string& name) {
    Reply made = call(CreateArgs{dir, name, 0644, 0, true, O_WRONLY});
    EXPECT_EQ(made.err, 0) << name;
    return made.stat.ino;
  }
  std::string read(Ino ino) {
    std::string out(1 << 16, 0);
    std::optional<Result<uint64_t>> result;
    client.read({}, ino, 0, out.data(), out.size(),
                [&](Result<uint64_t> n) { result = std::move(n); });
    ranks.executor.run_until([&] { return result.has_value(); });
    EXPECT_TRUE(*result);
    out.resize(*result ? **result : 0);
    return out;
  }

  Ranks& ranks;
  net::Transport& transport;
  MemoryStore store;
  Router router;
  Client client;
  std::vector<std::unique_ptr<std::string>> texts;
};

struct Written : Locked {
  Writer one{ranks, transport}, two{ranks, transport};
};

TEST_F(Written, EachSeesWhatTheOtherHasWritten) {
  EXPECT_EQ(one.write(file, 0, "first"), 0);
  EXPECT_EQ(two.read(file), "first");
  EXPECT_EQ(two.write(file, 5, " second"), 0);
  EXPECT_EQ(one.read(file), "first second");
  EXPECT_EQ(one.write(file, 12, " third"), 0) << "what it knew of the size was old";
  EXPECT_EQ(two.read(file), "first second third");
  EXPECT_EQ(two.truncate(file, 6), 0);
  EXPECT_EQ(one.read(file), "first ");
  EXPECT_EQ(one.write(file, 10, "x"), 0);
  EXPECT_EQ(two.read(file), std::string("first \0\0\0\0x", 11));
}

TEST_F(Written, AppendsOfTwoClientsDoNotTear) {
  std::multiset<std::string> written;
  int left = 0;
  for (int i = 0; i < 100; ++i) {
    for (Writer* writer : {&one, &two}) {
      std::string line = fmt::format("{}-{:*<{}}\n", writer == &one ? "one" : "two", i, 3 + i % 40);
      ++left;
      writer->append(file, line, &left);
      written.insert(line);
    }
    if (i % 7 == 0) ranks.settle(kMillisecond);
  }
  ranks.executor.run_until([&] { return left == 0; });
  std::multiset<std::string> found;
  std::string text = one.read(file);
  EXPECT_EQ(two.read(file), text);
  for (size_t at = 0, end; at < text.size(); at = end) {
    end = text.find('\n', at);
    end = end == std::string::npos ? text.size() : end + 1;
    found.insert(text.substr(at, end - at));
  }
  EXPECT_EQ(found, written);
}

TEST_F(Written, WhoIsAloneOnAFileAsksOnce) {
  EXPECT_EQ(one.write(file, 0, "x"), 0);
  for (int i = 0; i < 3; ++i) {  // what others were told of it is recalled, and then not any more
    ranks.settle(kSecond);
    EXPECT_EQ(one.write(file, 1, "x"), 0);
  }
  const uint64_t before = ranks.rank(0).stats().requests;
  for (uint64_t i = 2; i < 12; ++i) EXPECT_EQ(one.write(file, i, "x"), 0);
  // Each has its event; and the size is what the answer to that has told.
  EXPECT_LE(ranks.rank(0).stats().requests - before, 10u);
}

// What was called under a lock that is gone by the time it could be done is not done.
TEST_F(Written, AWriteThatWaitedWhileItsLockWasLostFails) {
  EXPECT_EQ(one.write(file, 0, "first"), 0);
  std::optional<Reply> locked;
  one.client.call({}, LockArgs{LockOp::set, range(0, 9, true)},
                  [&](Reply reply) { locked = std::move(reply); });
  ranks.executor.run_until([&] { return locked.has_value(); });
  ASSERT_EQ(locked->err, 0);
  EXPECT_EQ(two.write(file, 0, "other"), 0);  // the right to write is the other one's
  std::optional<Result<uint64_t>> written;
  end(0);
  ranks.settle(kMillisecond);
  one.client.write({}, file, 0, "lost!", {}, [&](Result<uint64_t> n) { written = std::move(n); });
  ranks.settle(kMillisecond);
  serve(0);
  endpoints[0]->evict(one.client.session(), "for the test");
  ranks.executor.run_until([&] { return written.has_value(); });
  ASSERT_FALSE(*written);
  EXPECT_EQ(written->error().code, EIO);
  EXPECT_EQ(two.read(file), "other");
  EXPECT_EQ(one.write(file, 0, "again"), 0) << "by who has not called it under a lock";
  EXPECT_EQ(two.read(file), "again");
}

TEST_F(Written, WhoMakesAFileMayWriteToItAtOnce) {
  const Ino made = one.create(a, "made");
  const Ino node = one.call(MknodArgs{a, "node", 0644, 0, 0}).stat.ino;
  const uint64_t before = ranks.rank(0).stats().requests;
  for (Ino ino : {made, node})
    for (uint64_t at : {0, 1, 2}) EXPECT_EQ(one.write(ino, at, "x"), 0);
  EXPECT_EQ(ranks.rank(0).stats().requests - before, 6u) << "Wrote, and nothing else";
  EXPECT_EQ(two.write(made, 3, "y"), 0);
  EXPECT_FALSE(one.router.may_write(made));
  EXPECT_EQ(one.write(made, 4, "z"), 0) << "it knows the size by then";
  for (Writer* writer : {&one, &two}) EXPECT_EQ(writer->read(made), "xxxyz");
}

// Somebody else has asked for something before the answer was here: perhaps for this.
TEST_F(Written, AGrantThatIsOlderThanARecallDoesNotCount) {
  one.create(a, "first");
  endpoints[0]->send(one.client.session(), msg::DataRecall{.order = 1'000'000, .ino = file});
  ranks.settle(kMillisecond);
  const Ino made = one.create(a, "made");
  EXPECT_FALSE(one.router.may_write(made));
  EXPECT_EQ(one.write(made, 0, "x"), 0);
  EXPECT_TRUE(one.router.may_write(made)) << "it was asked for";
  EXPECT_EQ(two.write(made, 1, "y"), 0);
  EXPECT_EQ(one.read(made), "xy");
}

TEST_F(Written, NorDoesOneThatIsOlderThanAMove) {
  const Ino sub = one.call(MkdirArgs{a, "sub", 0755, 0}).stat.ino;
  endpoints[0]->send(one.client.session(),
                     msg::SessionMoved{.order = 1'000'000, .root = sub, .to = RankId{1}});
  ranks.settle(kMillisecond);
  EXPECT_FALSE(one.router.may_write(one.create(a, "made")));
}

TEST_F(Written, OfVeryManyFilesTheOldestRightsGoBack) {
  std::vector<Ino> made;
  for (int i = 0; i < 1500; ++i) made.push_back(one.create(a, fmt::format("file-{}", i)));
  EXPECT_LE(ranks.rank(0).locks().table().inos().size(), Router::kMostRights + 1);
  EXPECT_FALSE(one.router.may_write(made.front()));
  EXPECT_TRUE(one.router.may_write(made.back()));
  EXPECT_EQ(two.write(made.front(), 0, "two"), 0);
  for (Ino ino : {made.front(), made.back()}) {
    EXPECT_EQ(one.write(ino, 3, "one"), 0);
    EXPECT_EQ(two.write(ino, 6, "two"), 0);
  }
  EXPECT_EQ(one.read(made.front()), "twoonetwo");
  EXPECT_EQ(one.read(made.back()), std::string("\0\0\0onetwo", 9));
}

// The rank cuts the file by itself; who may write to it must not go by the size that it knew.
TEST_F(Written, WhoCutsByOpeningHasTheRightFirst) {
  const Ino made = one.create(a, "made");
  EXPECT_EQ(one.write(made, 0, "something"), 0);
  EXPECT_EQ(two.call(OpenArgs{made, O_WRONLY | O_TRUNC}).err, 0);
  EXPECT_TRUE(two.router.may_write(made));
  EXPECT_FALSE(one.router.may_write(made));
  int left = 1;
  one.append(made, "one", &left);
  ranks.executor.run_until([&] { return left == 0; });
  EXPECT_EQ(two.read(made), "one");
  EXPECT_EQ(one.call(CreateArgs{a, "made", 0644, 0, false, O_WRONLY | O_TRUNC}).err, 0);
  left = 2;
  one.append(made, "1", &left);
  one.append(made, "2", &left);
  ranks.executor.run_until([&] { return left == 0; });
  EXPECT_EQ(two.read(made), "12");
}

TEST_F(Written, RightsOfNewFilesSurviveATakeover) {
  const Ino made = one.create(a, "made");
  EXPECT_EQ(one.write(made, 0, "one"), 0);
  kill(0);
  ranks.settle();
  revive(0);
  ranks.settle(5 * kSecond);
  EXPECT_TRUE(one.router.may_write(made));
  EXPECT_EQ(two.write(made, 3, "two"), 0);
  EXPECT_EQ(one.write(made, 6, "one"), 0);
  EXPECT_EQ(two.read(made), "onetwoone");
}

TEST_F(Written, AWriterThatHasStoppedIsEvictedAndTheNextOneWrites) {
  EXPECT_EQ(one.write(file, 0, "first"), 0);
  // Nothing of it gets through any more, and it does not notice.
  one.router.wanted_back = [](Ino) {};
  EXPECT_EQ(one.router.may_write(file), true);
  bool written = false;
  two.client.write({}, file, 5, "second", {}, [&](Result<uint64_t> n) {
    EXPECT_TRUE(n);
    written = true;
  });
  ranks.settle(10 * kSecond);
  EXPECT_FALSE(written) << "it speaks, so it is waited for";
  endpoints[0]->evict(one.client.session(), "for the test");
  ranks.executor.run_until([&] { return written; });
  EXPECT_EQ(two.read(file), "firstsecond");
  ranks.settle(kSecond);
  EXPECT_FALSE(one.router.may_write(file));
  EXPECT_EQ(one.read(file), "firstsecond");
}

}  // namespace
}  // namespace graftfs
