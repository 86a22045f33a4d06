// What clients may do with the keys that they have, and what becomes of those that break the rules.
#include "server/endpoint.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include "server/locks.h"
#include "server/migrate.h"
#include "two_ranks.h"

namespace graftfs {
namespace {

using ::testing::HasSubstr;

// A client's connection, as the endpoint has it.
struct Wire {
  net::Peer peer;
  net::ConnectionEvents* events = nullptr;
  std::vector<Message> said;  // by the rank
  bool closed = false;
};
class Connected final : public net::Connection {
 public:
  Connected(std::shared_ptr<Wire> wire, Executor& executor)
      : wire_(std::move(wire)), executor_(executor) {}
  void send(Message message) override {
    if (wire_->closed) return;
    // It keeps nothing, so it has nothing to forget.
    if (auto* recall = std::get_if<msg::Recall>(&message.body))
      executor_.post([wire = wire_, number = recall->number] {
        if (wire->events)
          wire->events->received(Message{{}, RankId{0}, msg::Recalled{.number = number}});
      });
    wire_->said.push_back(std::move(message));
  }
  bool writable() const override { return true; }
  void set_reading(bool) override {}
  void close() override { wire_->closed = true; }
  const net::Peer& peer() const override { return wire_->peer; }
  void set_events(net::ConnectionEvents* events) override { wire_->events = events; }

 private:
  std::shared_ptr<Wire> wire_;
  Executor& executor_;
};

struct Endpoints : ::testing::Test {
  Endpoints() { serve(); }
  ~Endpoints() override { endpoint.reset(); }
  void serve(Nanos window = 0) {
    EndpointOptions options;
    options.window = window;
    options.log = [this](const std::string& line) { log += line + "\n"; };
    endpoint = std::make_unique<Endpoint>(ranks.rank(0), options);
  }
  std::shared_ptr<Wire> connect(uint64_t session, net::KeyLimits limits = {},
                                std::vector<HoldCount> holds = {}) {
    auto wire = std::make_shared<Wire>();
    wire->peer.id = session;
    wire->peer.limits = std::move(limits);
    wire->peer.name = "test";
    endpoint->add(std::make_unique<Connected>(wire, ranks.executor));
    say(*wire, msg::Attach{{}, std::move(holds), {}});
    ranks.executor.run_until([&] { return wire->closed || !wire->said.empty(); });
    return wire;
  }
  void say(Wire& wire, Body body) {
    if (wire.events) wire.events->received(Message{{}, RankId{0}, std::move(body)});
  }
  // A session comes again, from an owner that it names.
  std::pair<std::shared_ptr<Wire>, msg::Attached> come_again(uint64_t session, Epoch known,
                                                             std::vector<HoldCount> holds = {},
                                                             std::vector<LockRange> locks = {}) {
    auto wire = std::make_shared<Wire>();
    wire->peer.id = session;
    wire->peer.name = "test";
    endpoint->add(std::make_unique<Connected>(wire, ranks.executor));
    say(*wire, msg::Attach{known, std::move(holds), std::move(locks)});
    ranks.executor.run_until([&] { return wire->closed || !wire->said.empty(); });
    return {wire, std::get<msg::Attached>(wire->said.at(0).body)};
  }
  void take_over() {
    endpoint.reset();
    ranks.kill(0);
    ranks.start(0);
    serve();
  }
  Reply ask(Wire& wire, Args args, uint32_t uid = 0) {
    const uint64_t number = ++numbers;
    msg::Call call;
    call.number = number;
    call.request.seq = number;
    call.request.oldest = number;
    call.request.cred.uid = call.request.cred.gid = uid;
    call.request.args = std::move(args);
    say(wire, std::move(call));
    std::optional<Reply> reply;
    ranks.executor.run_until([&] {
      for (Message& m : wire.said)
        if (auto* answer = std::get_if<msg::Answer>(&m.body); answer && answer->number == number)
          reply = answer->reply;
      return reply || wire.closed;
    });
    return reply ? *reply : Reply{.err = ECONNRESET};
  }
  int err(Wire& wire, Args args) { return ask(wire, std::move(args)).err; }
  Ino root_call(Args args) {
    Reply reply = ranks.call(0, std::move(args));
    EXPECT_EQ(reply.err, 0);
    return reply.stat.ino;
  }

  Ranks ranks{2};
  std::unique_ptr<Endpoint> endpoint;
  std::string log;
  uint64_t numbers = 0;
};

struct Confined : Endpoints {
  Confined() {
    in = ranks.mkdir(0, kRootIno, "in");
    sub = ranks.mkdir(0, in, "sub");
    out = ranks.mkdir(0, kRootIno, "out");
    ranks.mkdir(0, kRootIno, "inside-not");
    file = ranks.create(0, sub, "file");
    secret = ranks.create(0, out, "secret");
    twice = ranks.create(0, in, "twice");
    root_call(LinkArgs{twice, out, "again"});
    other = ranks.create(0, out, "other");
    root_call(LinkArgs{other, out, "other-again"});
  }
  net::KeyLimits limits() {
    net::KeyLimits l;
    l.path = "/in";
    return l;
  }
  // What such a client may and may not do.
  void expect_confined(Wire& c) {
    EXPECT_EQ(err(c, GetattrArgs{kRootIno}), 0) << "the way down";
    EXPECT_EQ(err(c, LookupArgs{kRootIno, "in"}), 0);
    EXPECT_EQ(err(c, LookupArgs{in, "sub"}), 0);
    EXPECT_EQ(err(c, GetattrArgs{file}), 0);
    EXPECT_EQ(err(c, OpenArgs{file, O_RDWR}), 0);
    EXPECT_EQ(ask(c, ReaddirArgs{in, 0, 100, true}).entries.size(), 2u);
    EXPECT_EQ(err(c, CreateArgs{sub, "new", 0644, 0, true, 0}), 0);
    EXPECT_EQ(err(c, RenameArgs{sub, "new", in, "new", 0}), 0);
    EXPECT_EQ(err(c, UnlinkArgs{in, "new"}), 0);
    EXPECT_EQ(err(c, LookupParentArgs{sub}), 0);
    EXPECT_EQ(err(c, StatfsArgs{}), 0);
    EXPECT_EQ(err(c, SyncArgs{}), 0);
    // Of several names, one within is enough, once it was looked up.
    EXPECT_EQ(err(c, LookupArgs{in, "twice"}), 0);
    EXPECT_EQ(err(c, GetattrArgs{twice}), 0);
    EXPECT_EQ(err(c, SetattrArgs{.ino = twice, .valid = kSetMode, .mode = 0600}), 0);

    EXPECT_EQ(err(c, LookupArgs{kRootIno, "out"}), EACCES);
    EXPECT_EQ(err(c, LookupArgs{kRootIno, "inside-not"}), EACCES) << "a name that begins like it";
    EXPECT_EQ(err(c, LookupArgs{kRootIno, "nothing"}), EACCES) << "not even whether it is there";
    EXPECT_EQ(err(c, ReaddirArgs{kRootIno, 0, 100, false}), EACCES);
    EXPECT_EQ(err(c, SetattrArgs{.ino = kRootIno, .valid = kSetMode, .mode = 0777}), EACCES);
    EXPECT_EQ(err(c, LookupParentArgs{in}), EACCES) << "..";
    for (Ino ino : {out, secret, other}) {
      EXPECT_EQ(err(c, GetattrArgs{ino}), EACCES) << "by number";
      EXPECT_EQ(err(c, OpenArgs{ino, O_RDONLY}), EACCES);
      EXPECT_EQ(err(c, GetxattrArgs{ino, "user.x"}), EACCES);
      EXPECT_EQ(err(c, SetattrArgs{.ino = ino, .valid = kSetMode, .mode = 0777}), EACCES);
    }
    EXPECT_EQ(err(c, LookupArgs{out, "secret"}), EACCES);
    EXPECT_EQ(err(c, CreateArgs{out, "mine", 0644, 0, true, 0}), EACCES);
    EXPECT_EQ(err(c, LinkArgs{secret, in, "stolen"}), EACCES);
    EXPECT_EQ(err(c, LinkArgs{other, in, "stolen"}), EACCES);
    EXPECT_EQ(err(c, LinkArgs{file, out, "leaked"}), EACCES);
    EXPECT_EQ(err(c, RenameArgs{out, "secret", in, "stolen", 0}), EACCES);
    EXPECT_EQ(err(c, RenameArgs{sub, "file", out, "leaked", 0}), EACCES);
    EXPECT_EQ(err(c, GetattrArgs{orphans_dir_ino(RankId{0})}), EACCES);
    EXPECT_EQ(err(c, SetxattrArgs{in, kPinName, "1", 0}), EPERM);
    EXPECT_FALSE(c.closed);
  }
  Ino in, sub, out, file, secret, twice, other;
};

TEST_F(Confined, AClientOfAPathReachesNothingElse) {
  auto c = connect(0x1001, limits());
  EXPECT_EQ(err(*c, GetattrArgs{twice}), EACCES) << "it has not been led there";
  expect_confined(*c);
}

TEST_F(Confined, AlsoWhenNothingIsInMemory) {
  for (Ino cold : {file, secret}) {
    endpoint.reset();
    ranks.stop(0);
    ranks.start(0);
    serve();
    auto c = connect(0x1002 + cold.v, limits());
    EXPECT_EQ(err(*c, GetattrArgs{cold}), cold == file ? 0 : EACCES);
    expect_confined(*c);
  }
}

TEST_F(Confined, ItsPlaceIsWhereThePathLeadsNow) {
  auto c = connect(0x1001, limits());
  EXPECT_EQ(err(*c, GetattrArgs{file}), 0);
  root_call(RenameArgs{in, "sub", out, "sub", 0});
  EXPECT_EQ(err(*c, GetattrArgs{file}), EACCES);
  root_call(RenameArgs{out, "sub", in, "sub", 0});
  EXPECT_EQ(err(*c, GetattrArgs{file}), 0);
}

TEST_F(Confined, WhatAnotherRankWouldHaveToJudgeIsNotDone) {
  const Ino deep = ranks.mkdir(0, in, "deep"), far = ranks.create(0, deep, "far");
  ranks.give(0, 1, deep);
  auto c = connect(0x1001, limits());
  EXPECT_EQ(err(*c, GetattrArgs{deep}), kAskRank);
  EXPECT_EQ(err(*c, GetattrArgs{far}), kAskRank);
  EXPECT_EQ(err(*c, LinkArgs{far, in, "here"}), EXDEV);
  EXPECT_EQ(err(*c, RenameArgs{deep, "far", in, "here", 0}), EXDEV);
}

// Whoever claims to have something open keeps it alive, and may not look at it for that.
TEST_F(Confined, ALieAboutWhatItHoldsOpensNothing) {
  auto owner = connect(0x2001);
  ASSERT_EQ(err(*owner, OpenArgs{secret, O_RDWR}), 0);
  ASSERT_EQ(err(*owner, UnlinkArgs{out, "secret"}), 0);
  auto liar = connect(0x1001, limits(), {{secret, 7}, {Ino{0xdeadbeef}, 1}, {kRootIno, 1}});
  EXPECT_EQ(err(*liar, GetattrArgs{secret}), EACCES);
  EXPECT_EQ(err(*liar, ReleaseArgs{secret, 7}), EACCES);
  EXPECT_EQ(err(*owner, GetattrArgs{secret}), 0) << "undisturbed";
}

struct Limited : Endpoints {};

TEST_F(Limited, AReadOnlyKeyChangesNothing) {
  const Ino dir = ranks.mkdir(0, kRootIno, "dir"), file = ranks.create(0, dir, "file");
  net::KeyLimits limits;
  limits.read_only = true;
  auto c = connect(0x1001, limits);
  EXPECT_EQ(err(*c, OpenArgs{file, O_RDONLY}), 0);
  EXPECT_EQ(err(*c, ReaddirArgs{dir, 0, 10, true}), 0);
  for (Args args : std::initializer_list<Args>{
           OpenArgs{file, O_RDWR}, OpenArgs{file, O_WRONLY}, OpenArgs{file, O_RDONLY | O_TRUNC},
           CreateArgs{dir, "new", 0644, 0, true, 0}, MkdirArgs{dir, "new", 0755, 0},
           UnlinkArgs{dir, "file"}, RenameArgs{dir, "file", dir, "new", 0},
           LinkArgs{file, dir, "new"}, SetattrArgs{.ino = file, .valid = kSetMode, .mode = 0},
           SetxattrArgs{file, "user.x", "y", 0}, SymlinkArgs{dir, "new", "x"},
           MknodArgs{dir, "new", S_IFREG | 0644, 0, 0}, RmdirArgs{kRootIno, "dir"},
           RemovexattrArgs{file, "user.x"}, WroteArgs{file, 1, 1, false}})
    EXPECT_EQ(err(*c, args), EROFS) << op_name(args);
}

TEST_F(Limited, RootIsNobodyWhereItIsSquashed) {
  const Ino open = ranks.mkdir(0, kRootIno, "open"), shut = ranks.mkdir(0, kRootIno, "shut");
  root_call(SetattrArgs{.ino = open, .valid = kSetMode, .mode = 0777});
  net::KeyLimits limits;
  limits.squash_root = true;
  auto c = connect(0x1001, limits);
  Reply made = ask(*c, CreateArgs{open, "file", 0644, 0, true, 0});
  ASSERT_EQ(made.err, 0);
  EXPECT_EQ(made.stat.uid, 65534u);
  EXPECT_EQ(made.stat.gid, 65534u);
  EXPECT_EQ(err(*c, CreateArgs{shut, "file", 0644, 0, true, 0}), EACCES);
  EXPECT_EQ(err(*c, SetxattrArgs{open, kPinName, "1", 0}), EPERM);
}

TEST_F(Endpoints, AKeyThatIsRevokedDisconnectsItsClientsAndNobodyElse) {
  auto mine = connect(0x1001), other = connect(0x1002);
  mine->peer.key_id = "mine";
  endpoint->drop_if([](const net::Peer& peer) { return peer.key_id == "mine"; },
                    "has a key that was revoked");
  EXPECT_TRUE(mine->closed);
  EXPECT_FALSE(other->closed);
  EXPECT_EQ(err(*other, GetattrArgs{kRootIno}), 0);
  EXPECT_THAT(log, HasSubstr("test has a key that was revoked"));
}

TEST_F(Endpoints, WhoeverSaysWhatIsNotItsToSayIsDisconnectedAndNobodyElse) {
  auto good = connect(0x1001);
  for (Body body : std::initializer_list<Body>{msg::Hail{Epoch{9}}, msg::MigrateOffer{},
                                               msg::Decide{}, msg::Attached{}, msg::Attach{},
                                               msg::SessionMoved{}, msg::Control{1, "{}"}}) {
    auto bad = connect(0x1002);
    say(*bad, body);
    EXPECT_TRUE(bad->closed) << message_name(body);
  }
  auto silent = std::make_shared<Wire>();
  silent->peer.id = 0x1003;
  endpoint->add(std::make_unique<Connected>(silent, ranks.executor));
  say(*silent, msg::Call{});
  EXPECT_TRUE(silent->closed) << "before Attach";
  auto nobody = std::make_shared<Wire>();
  endpoint->add(std::make_unique<Connected>(nobody, ranks.executor));
  EXPECT_TRUE(nobody->closed) << "no session";
  EXPECT_EQ(err(*good, GetattrArgs{kRootIno}), 0);
  EXPECT_FALSE(good->closed);
}

// The numbers of events that one owner has lost are used again by the next one.
TEST_F(Endpoints, WhoHasMissedAnOwnerIsNotToldThatAnythingWasKept) {
  connect(5);
  const Epoch first = ranks.rank(0).epoch();
  EXPECT_EQ(come_again(5, first).second.kept, ranks.rank(0).journal().appended());
  take_over();
  EXPECT_EQ(come_again(5, first).second.kept, ranks.rank(0).recovered().last);
  const Epoch second = ranks.rank(0).epoch();
  take_over();
  EXPECT_EQ(come_again(5, first).second.kept, Lsn{});
  EXPECT_EQ(come_again(5, second).second.kept, ranks.rank(0).recovered().last);
}

// An owner has lost two new files, whose data is there. One is made again by its client, which may
// still write to it. While anybody may come and make the other one again, its data stays.
TEST_F(Endpoints, DataOfALostFileGoesOnceNobodyCanMakeThatAgain) {
  connect(5), connect(6);
  const Epoch epoch = ranks.rank(0).epoch();
  const Ino made_again{ranks.rank(0).state().inos.front().next};
  const Ino lost = made_again.next();
  DataStore& data = ranks.rank(0).core().store().data();
  std::string bytes = "written";
  for (Ino ino : {made_again, lost}) {
    bool written = false;
    auto write = [](DataStore& to, Ino at, std::string& what, bool& done) -> Task<Result<void>> {
      auto wrote = co_await to.write(at, 0, what, 0);
      done = wrote.has_value();
      co_return Result<void>{};
    };
    ranks.finish(write(data, ino, bytes, written));
    ASSERT_TRUE(written);
  }
  endpoint.reset();
  ranks.kill(0);
  ranks.start(0);
  serve(kSecond);
  endpoint->evict(Ranks::kSession, "it is not a client");
  auto left = [&] {
    std::vector<Ino> inos;
    auto list = [](DataStore& from, std::vector<Ino>& to) -> Task<Result<void>> {
      CO_TRY_ASSIGN(to, co_await from.list(kRootIno, 100));
      co_return Result<void>{};
    };
    ranks.finish(list(ranks.rank(0).core().store().data(), inos));
    return inos;
  };
  const LockRange right = LockRange::to_write(made_again);
  auto wire = come_again(5, epoch, {}, {right}).first;
  msg::Call again;
  again.number = ++numbers;
  again.resent = true;
  again.request.seq = again.request.oldest = 1;
  again.request.args = CreateArgs{kRootIno, "file", 0644, 0, true, O_RDWR};
  again.request.redo = Redo{made_again, {1, 2}};
  say(*wire, std::move(again));
  ranks.settle();
  say(*wire, msg::Resent{});
  EXPECT_TRUE(ranks.rank(0).locks().table().has(SessionId{5}, made_again, 0, LockKind::data));
  ranks.settle(2 * kSecond);  // the window is over
  EXPECT_FALSE(endpoint->in_window());
  EXPECT_EQ(left(), (std::vector<Ino>{made_again, lost}));
  auto other = come_again(6, epoch).first;
  say(*other, msg::Resent{});
  ranks.settle();
  EXPECT_EQ(left(), std::vector<Ino>{made_again});
}

TEST_F(Endpoints, ThatALastNameIsGoneIsHeldOnceHoweverOftenItIsSaid) {
  auto client = connect(5);
  const Epoch epoch = ranks.rank(0).epoch();
  const Ino ino = ask(*client, MknodArgs{kRootIno, "file", S_IFREG | 0644, 0, 0}).stat.ino;
  EXPECT_TRUE(ask(*client, UnlinkArgs{kRootIno, "file"}).orphaned);
  // It has not heard of that.
  client = come_again(5, epoch).first;
  EXPECT_EQ(ranks.rank(0).core().held(), std::vector<Ino>{ino});
  // Now it has.
  client = come_again(5, epoch, {{ino, 0}}).first;
  EXPECT_EQ(ranks.rank(0).core().held(), std::vector<Ino>{ino});
  EXPECT_EQ(err(*client, ReleaseArgs{ino, 1}), 0);
  EXPECT_TRUE(ranks.rank(0).core().held().empty());
}

TEST_F(Endpoints, WhatAClientHasOpenedCountsAsItSays) {
  auto client = connect(5);
  const Epoch epoch = ranks.rank(0).epoch();
  const Ino ino = ranks.create(0, kRootIno, "file");
  EXPECT_EQ(err(*client, OpenArgs{ino, O_RDWR}), 0);
  EXPECT_EQ(err(*client, OpenArgs{ino, O_RDWR}), 0);
  client = come_again(5, epoch, {{ino, 1}}).first;  // one of the answers was lost
  EXPECT_EQ(err(*client, ReleaseArgs{ino, 1}), 0);
  EXPECT_TRUE(ranks.rank(0).core().held().empty());
}

TEST_F(Endpoints, ARequestWhoseSessionHasEndedIsNotCarriedOut) {
  Request late;
  late.session = SessionId{999};
  late.seq = 1;
  late.args = MkdirArgs{kRootIno, "late", 0755, 0};
  EXPECT_EQ(ranks.submit(0, std::move(late)).err, EIO);
  EXPECT_EQ(ranks.call(0, LookupArgs{kRootIno, "late"}).err, ENOENT);
}

// Were it carried out twice, the second time could do what the client was told had failed.
TEST_F(Endpoints, ARequestThatComesAgainWhileItIsCarriedOutIsOne) {
  const Ino a = ranks.mkdir(0, kRootIno, "a");
  const Ino d = ranks.mkdir(0, a, "d");
  ranks.create(0, d, "in-d");
  ranks.give(0, 1, d);
  auto client = connect(5);
  const Epoch epoch = std::get<msg::Attached>(client->said.at(0).body).epoch;
  const uint64_t requests = ranks.rank(0).stats().requests;
  msg::Call call;
  call.number = 1;
  call.request.seq = call.request.oldest = 1;
  call.request.args = RmdirArgs{a, "d"};
  // Until they are connected again the other rank says neither yes nor no.
  ranks.cut(0, 1);
  say(*client, call);
  auto again = come_again(5, epoch).first;
  call.resent = true;
  say(*again, call);
  say(*again, msg::Resent{});
  ranks.settle(100 * kMillisecond);
  ranks.heal(0, 1);
  auto answers = [](const Wire& wire) {
    std::vector<int> errs;
    for (const Message& m : wire.said)
      if (auto* answer = std::get_if<msg::Answer>(&m.body)) errs.push_back(answer->reply.err);
    return errs;
  };
  ranks.settle(10 * kSecond);
  EXPECT_EQ(ranks.rank(0).stats().requests, requests + 1);
  EXPECT_EQ(answers(*client), std::vector<int>{});
  EXPECT_EQ(answers(*again), std::vector<int>{ENOTEMPTY});
  EXPECT_EQ(ranks.call(1, UnlinkArgs{d, "in-d"}).err, 0);
  ranks.settle(10 * kSecond);
  EXPECT_EQ(answers(*again), std::vector<int>{ENOTEMPTY});
  EXPECT_EQ(ranks.call(0, LookupArgs{a, "d"}).err, 0) << "it was told that it has failed";
}

TEST_F(Endpoints, AFencedRankHangsUpInsteadOfAnswering) {
  auto c = connect(0x1001);
  ranks.rank(0).core().fail(Error{ESTALE, "another owner has taken over this journal"});
  EXPECT_EQ(err(*c, GetattrArgs{kRootIno}), ECONNRESET);
  EXPECT_TRUE(c->closed);
  auto later = connect(0x1002);
  EXPECT_TRUE(later->closed);
  endpoint.reset();
  ranks.kill(0);
}

TEST_F(Endpoints, ARankThatEndsWaitsForItsSessionsAndEvictsThoseThatDoNotGo) {
  auto polite = connect(0x1001), stuck = connect(0x1002);
  bool done = false;
  const Nanos began = ranks.executor.now();
  ranks.rank(0).close_session(Ranks::kSession);
  endpoint->retire(RankId{1}, [&done] { done = true; });
  auto* told = std::get_if<msg::SessionMoved>(&polite->said.back().body);
  ASSERT_NE(told, nullptr);
  EXPECT_EQ(told->root, Ino{});
  EXPECT_EQ(told->to, RankId{1});
  say(*polite, msg::Detach{});
  ranks.settle(kSecond);
  EXPECT_FALSE(done);
  ranks.executor.run_until([&] { return done; });
  EXPECT_GE(ranks.executor.now() - began, 5 * 2 * kSecond);
  EXPECT_TRUE(stuck->closed);
  EXPECT_TRUE(ranks.rank(0).state().sessions.empty());
}

}  // namespace
}  // namespace graftfs
