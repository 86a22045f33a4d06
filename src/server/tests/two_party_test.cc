// Operations on two authorities: what they do, and that a death anywhere leaves them done on both
// ranks or on none.
#include "two_ranks.h"

#include <linux/fs.h>

#include "base/fault.h"
#include "server/migrate.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

constexpr const char* kC = "two_party.coordinator.";
constexpr const char* kP = "two_party.participant.";

// Ends the first run through a kill point.
struct Killer {
  explicit Killer(std::string name) : site(std::move(name)) {
    fault::set_handler(
        [](void* self, const fault::Site& s) {
          auto& killer = *static_cast<Killer*>(self);
          if (killer.fired || killer.site != s.name) return;
          killer.fired = true;
          throw fault::Killed{};
        },
        this);
  }
  ~Killer() { fault::set_handler(nullptr, nullptr); }
  Killer(const Killer&) = delete;
  Killer& operator=(const Killer&) = delete;
  std::string site;
  bool fired = false;
};

// /a (rank 0), /a/b and all below it (rank 1): /a/b/c/file, /a/near, /a/dir/.
struct Tree {
  explicit Tree(size_t ranks_count = 2) : ranks(ranks_count), count(ranks_count) {
    a = ranks.mkdir(0, kRootIno, "a");
    b = ranks.mkdir(0, a, "b");
    c = ranks.mkdir(0, b, "c");
    file = ranks.create(0, c, "file");
    near = ranks.create(0, a, "near");
    dir = ranks.mkdir(0, a, "dir");
    ranks.give(0, 1, b);
  }
  // The reply's error, where it was answered; nothing, where the rank died first.
  std::optional<Reply> run(size_t at, const Request& request) {
    ranks.executor.advance(kMillisecond);
    std::shared_ptr<std::optional<Reply>> reply = std::make_shared<std::optional<Reply>>();
    Request copy = request;
    ranks.rank(at).submit(std::move(copy), [reply](Reply r) { *reply = std::move(r); });
    ranks.executor.run_until([&] { return reply->has_value(); });
    return *reply;
  }
  Request request(Args args, Credentials cred = {}) {
    Request r;
    r.session = Ranks::kSession;
    r.seq = ++seq;
    r.oldest = 1;
    r.cred = cred;
    r.args = std::move(args);
    return r;
  }
  bool exists(size_t at, Ino in, const std::string& name) {
    return ranks.call(at, LookupArgs{in, name}).err == 0;
  }
  uint32_t links(size_t at, Ino ino) { return ranks.call(at, GetattrArgs{ino}).stat.nlink; }
  void expect_rest() {
    for (size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(ranks.rank(i).two_party().idle()) << "rank " << i;
      EXPECT_TRUE(ranks.rank(i).state().prepared.empty()) << "rank " << i;
      EXPECT_TRUE(ranks.rank(i).state().committed.empty()) << "rank " << i;
    }
  }

  Ranks ranks;
  size_t count;
  Ino a, b, c, file, near, dir;
  uint64_t seq = 1000;
};

// An operation of both ranks: one coordinates it, the other one takes part.
struct Operation {
  const char* name;
  void (*prepare)(Tree&);
  Args (*args)(Tree&);
  int err;  // what it is answered in the end
  // -1: not done, 1: done, 0: neither one nor the other.
  int (*state)(Tree&);
  Credentials cred;
  size_t coordinator = 0;
};

void make_link(Tree& t) { ASSERT_EQ(t.ranks.call(0, LinkArgs{t.file, t.a, "link"}).err, 0); }
// `there`: each of these is so before the operation, and not after it.
int all_or_none(std::initializer_list<bool> before) {
  size_t n = static_cast<size_t>(std::count(before.begin(), before.end(), true));
  return n == before.size() ? -1 : n == 0 ? 1 : 0;
}

const Operation kOperations[] = {
    {"link",
     [](Tree&) {},
     [](Tree& t) -> Args { return LinkArgs{t.file, t.a, "link"}; },
     0,
     [](Tree& t) { return all_or_none({!t.exists(0, t.a, "link"), t.links(1, t.file) == 1}); },
     {}},
    {"unlink",
     make_link,
     [](Tree& t) -> Args { return UnlinkArgs{t.a, "link"}; },
     0,
     [](Tree& t) { return all_or_none({t.exists(0, t.a, "link"), t.links(1, t.file) == 2}); },
     {}},
    {"unlink_last",
     [](Tree& t) {
       make_link(t);
       ASSERT_EQ(t.ranks.call(1, UnlinkArgs{t.c, "file"}).err, 0);
     },
     [](Tree& t) -> Args { return UnlinkArgs{t.a, "link"}; },
     0,
     [](Tree& t) {
       Reply attr = t.ranks.call(1, GetattrArgs{t.file});
       return all_or_none({t.exists(0, t.a, "link"), attr.err == 0 && attr.stat.nlink == 1});
     },
     {}},
    {"rmdir",
     [](Tree& t) {
       ASSERT_EQ(t.ranks.call(1, UnlinkArgs{t.c, "file"}).err, 0);
       ASSERT_EQ(t.ranks.call(1, RmdirArgs{t.b, "c"}).err, 0);
     },
     [](Tree& t) -> Args { return RmdirArgs{t.a, "b"}; },
     0,
     [](Tree& t) {
       Reply attr = t.ranks.call(1, GetattrArgs{t.b});
       return all_or_none({t.exists(0, t.a, "b"), attr.err == 0 && attr.stat.nlink == 2,
                           t.ranks.call(0, GetattrArgs{t.a}).stat.nlink == 4,
                           t.ranks.rank(0).state().find_bound(t.b) != nullptr,
                           t.ranks.rank(1).state().is_root(t.b)});
     },
     {}},
    // Only when the inode's rank has told its owner it is seen that this may not be.
    {"unlink_sticky",
     [](Tree& t) {
       make_link(t);
       SetattrArgs sticky{.ino = t.a, .valid = kSetMode, .mode = 01777};
       ASSERT_EQ(t.ranks.call(0, sticky).err, 0);
     },
     [](Tree& t) -> Args { return UnlinkArgs{t.a, "link"}; },
     EPERM,
     [](Tree& t) { return all_or_none({t.exists(0, t.a, "link"), t.links(1, t.file) == 2}); },
     {.uid = 5, .gid = 5}},
    {"rename_over_remote_link",
     make_link,
     [](Tree& t) -> Args { return RenameArgs{t.a, "near", t.a, "link"}; },
     0,
     [](Tree& t) { return all_or_none({t.exists(0, t.a, "near"), t.links(1, t.file) == 2}); },
     {}},
    {"rename_file",
     [](Tree&) {},
     [](Tree& t) -> Args { return RenameArgs{t.c, "file", t.a, "moved"}; },
     0,
     [](Tree& t) {
       if (t.links(1, t.file) != 1) return 0;
       return all_or_none({t.exists(1, t.c, "file"), !t.exists(0, t.a, "moved")});
     },
     {}},
    {"rename_file_over_file",
     [](Tree&) {},
     [](Tree& t) -> Args { return RenameArgs{t.a, "near", t.c, "file"}; },
     0,
     [](Tree& t) {
       Reply there = t.ranks.call(1, LookupArgs{t.c, "file"});
       if (there.err != 0 || t.links(0, t.near) != 1) return 0;
       return all_or_none({t.exists(0, t.a, "near"), there.stat.ino == t.file});
     },
     {},
     1},
    {"rename_bound",
     [](Tree&) {},
     [](Tree& t) -> Args { return RenameArgs{t.a, "b", kRootIno, "b2"}; },
     0,
     [](Tree& t) {
       return all_or_none({t.exists(0, t.a, "b"), !t.exists(0, kRootIno, "b2"),
                           t.ranks.call(1, LookupParentArgs{t.b}).stat.ino == t.a,
                           t.ranks.rank(1).state().imports.at(t.b).parent == t.a,
                           t.ranks.rank(0).state().find_bound(t.b)->parent == t.a});
     },
     {}},
    {"rename_dir_here",
     [](Tree&) {},
     [](Tree& t) -> Args { return RenameArgs{t.b, "c", t.dir, "moved"}; },
     0,
     [](Tree& t) {
       if (t.ranks.call(1, LookupArgs{t.c, "file"}).stat.ino != t.file) return 0;
       return all_or_none({t.exists(1, t.b, "c"), !t.exists(0, t.dir, "moved"),
                           t.links(0, t.dir) == 2, t.links(1, t.b) == 3,
                           !t.ranks.rank(1).state().is_root(t.c),
                           !t.ranks.rank(0).state().find_bound(t.c)});
     },
     {}},
    {"rename_dir_there",
     [](Tree& t) { t.ranks.create(0, t.dir, "in"); },
     [](Tree& t) -> Args { return RenameArgs{t.a, "dir", t.c, "moved"}; },
     0,
     [](Tree& t) {
       if (!t.exists(0, t.dir, "in")) return 0;
       return all_or_none({t.exists(0, t.a, "dir"), !t.exists(1, t.c, "moved"),
                           t.links(0, t.a) == 4, t.links(1, t.c) == 2,
                           !t.ranks.rank(0).state().is_root(t.dir)});
     },
     {},
     1},
    {"exchange_files",
     [](Tree&) {},
     [](Tree& t) -> Args { return RenameArgs{t.c, "file", t.a, "near", RENAME_EXCHANGE}; },
     0,
     [](Tree& t) {
       if (t.links(1, t.file) != 1 || t.links(0, t.near) != 1) return 0;
       return all_or_none({t.ranks.call(1, LookupArgs{t.c, "file"}).stat.ino == t.file,
                           t.ranks.call(0, LookupArgs{t.a, "near"}).stat.ino == t.near});
     },
     {}},
    {"exchange_dirs",
     [](Tree& t) { t.ranks.create(0, t.dir, "in"); },
     [](Tree& t) -> Args { return RenameArgs{t.b, "c", t.a, "dir", RENAME_EXCHANGE}; },
     0,
     [](Tree& t) {
       if (!t.exists(0, t.dir, "in") || !t.exists(1, t.c, "file")) return 0;
       if (t.links(0, t.a) != 4 || t.links(1, t.b) != 3) return 0;
       return all_or_none({t.ranks.call(1, LookupArgs{t.b, "c"}).stat.ino == t.c,
                           t.ranks.call(0, LookupArgs{t.a, "dir"}).stat.ino == t.dir,
                           !t.ranks.rank(1).state().is_root(t.c),
                           !t.ranks.rank(0).state().is_root(t.dir)});
     },
     {}},
};

class TwoPartyKill
    : public ::testing::TestWithParam<std::tuple<Operation, std::pair<size_t, const char*>>> {};

TEST_P(TwoPartyKill, IsDoneOnBothOrOnNone) {
  const Operation& op = std::get<0>(GetParam());
  const auto& [role, site] = std::get<1>(GetParam());
  const size_t at = op.coordinator;
  const size_t victim = role == 0 ? at : 1 - at;
  Tree t;
  op.prepare(t);
  t.ranks.settle(kSecond);
  t.expect_rest();
  const Request request = t.request(op.args(t), op.cred);
  std::optional<Reply> reply;
  bool fired = false;
  {
    Killer killer((role == 0 ? kC : kP) + std::string(site));
    auto answer = std::make_shared<std::optional<Reply>>();
    try {
      Request copy = request;
      t.ranks.rank(at).submit(std::move(copy), [answer](Reply r) { *answer = std::move(r); });
      auto over = std::make_shared<bool>(false);  // it may fire behind a kill
      t.ranks.executor.post_after(10 * kSecond, [over] { *over = true; });
      t.ranks.executor.run_until([over] { return *over; });
    } catch (const fault::Killed&) {
    }
    fired = killer.fired;
    if (fired) {
      t.ranks.kill(victim);
      t.ranks.start(victim);
      t.ranks.settle(10 * kSecond);
    }
    reply = *answer;
  }
  if (!fired) {
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->err, op.err);
    EXPECT_EQ(op.state(t), op.err ? -1 : 1);
    return;  // the point is not on this operation's way
  }
  const int state = op.state(t);
  EXPECT_NE(state, 0) << "it is half done";
  if (reply && reply->err == 0) {
    EXPECT_EQ(state, 1) << "it was answered and is not done";
  }
  t.expect_rest();
  if (!reply) reply = t.run(at, request);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->err, op.err);
  t.ranks.settle(kSecond);
  EXPECT_EQ(op.state(t), op.err ? -1 : 1);
  t.expect_rest();
  if (op.err == 0) {
    Reply again = *t.run(at, request);
    EXPECT_EQ(again.err, 0) << "it is answered from its result";
    EXPECT_EQ(again.orphaned, reply->orphaned);
  }
  for (size_t i : {0, 1}) {
    t.ranks.kill(i);
    t.ranks.start(i);
  }
  t.ranks.settle(kSecond);
  EXPECT_EQ(op.state(t), op.err ? -1 : 1);
  t.expect_rest();
}

std::vector<std::pair<size_t, const char*>> all_sites() {
  std::vector<std::pair<size_t, const char*>> sites;
  for (const char* site :
       {"begun", "token_granted", "marked", "prepares_sent", "all_prepared", "loop_checked",
        "commit_logged", "commit_durable", "replied", "decide_sent", "some_done", "all_done",
        "close_logged", "abort_decided", "abort_sent"})
    sites.emplace_back(0, site);
  for (const char* site : {"received", "recalled", "marked", "prepare_logged", "prepare_durable",
                           "prepared_sent", "decide_received", "commit_logged", "commit_durable",
                           "done_sent", "abort_received", "abort_logged"})
    sites.emplace_back(1, site);
  return sites;
}

std::string name_of(const ::testing::TestParamInfo<TwoPartyKill::ParamType>& info) {
  const auto& [role, site] = std::get<1>(info.param);
  return std::string(std::get<0>(info.param).name) +
         (role == 0 ? "_coordinator_" : "_participant_") + site;
}

INSTANTIATE_TEST_SUITE_P(All, TwoPartyKill,
                         ::testing::Combine(::testing::ValuesIn(kOperations),
                                            ::testing::ValuesIn(all_sites())),
                         name_of);

// A participant that has promised, and whose coordinator died, asks; and dies while it does.
TEST(TwoParty, AParticipantDiesWhileItAsks) {
  for (const char* site : {"all_prepared", "commit_durable"}) {
    Tree t;
    Request request = t.request(LinkArgs{t.file, t.a, "link"});
    {
      Killer killer(std::string(kC) + site);
      EXPECT_THROW(
          {
            t.run(0, request);
            t.ranks.settle(kSecond);
          },
          fault::Killed);
      t.ranks.kill(0);
    }
    ASSERT_EQ(t.ranks.rank(1).state().prepared.size(), 1u);
    {
      Killer killer(std::string(kP) + "asked");
      EXPECT_THROW(t.ranks.settle(5 * kSecond), fault::Killed);
      t.ranks.kill(1);
    }
    t.ranks.start(1);
    t.ranks.start(0);
    t.ranks.settle(5 * kSecond);
    t.expect_rest();
    EXPECT_EQ(t.run(0, request)->err, 0);
    t.ranks.settle(kSecond);
    EXPECT_TRUE(t.exists(0, t.a, "link"));
    EXPECT_EQ(t.links(1, t.file), 2u);
  }
}

TEST(TwoParty, WhatIsPromisedWaits) {
  Tree t;
  Request request = t.request(LinkArgs{t.file, t.a, "link"});
  {
    Killer killer(std::string(kC) + "all_prepared");
    EXPECT_THROW(t.run(0, request), fault::Killed);
    t.ranks.kill(0);
  }
  // Its link count is about to change, or not.
  std::optional<Reply> attr;
  Request getattr = t.request(GetattrArgs{t.file});
  t.ranks.rank(1).submit(std::move(getattr), [&](Reply r) { attr = std::move(r); });
  t.ranks.settle(3 * kSecond);
  EXPECT_FALSE(attr.has_value());
  EXPECT_EQ(t.ranks.call(1, GetattrArgs{t.c}).err, 0) << "the others go on";
  t.ranks.start(0);
  t.ranks.settle(3 * kSecond);
  ASSERT_TRUE(attr.has_value());
  EXPECT_EQ(attr->stat.nlink, 1u);
  t.expect_rest();
}

TEST(TwoParty, RefusalsComeFromWhoKnows) {
  Tree t;
  EXPECT_EQ(t.ranks.call(0, LinkArgs{t.c, t.a, "link"}).err, EPERM) << "a directory";
  EXPECT_EQ(t.ranks.call(0, LinkArgs{t.file, t.a, "near"}).err, EEXIST);
  EXPECT_EQ(t.ranks.call(0, LinkArgs{Ino{0x7fffffff}, t.a, "x"}).err, ESTALE);
  EXPECT_EQ(t.ranks.call(0, RmdirArgs{t.a, "b"}).err, ENOTEMPTY);
  EXPECT_EQ(t.ranks.call(0, UnlinkArgs{t.a, "b"}).err, EISDIR);
  make_link(t);
  EXPECT_EQ(t.ranks.call(0, RmdirArgs{t.a, "link"}).err, ENOTDIR);
  t.ranks.settle(kSecond);
  t.expect_rest();
}

TEST(TwoParty, ACutConnectionOnlyDelays) {
  Tree t;
  t.ranks.cut(0, 1);
  std::optional<Reply> reply;
  Request request = t.request(LinkArgs{t.file, t.a, "link"});
  t.ranks.rank(0).submit(std::move(request), [&](Reply r) { reply = std::move(r); });
  t.ranks.settle(3 * kSecond);
  EXPECT_FALSE(reply.has_value());
  t.ranks.heal(0, 1);
  t.ranks.settle(10 * kSecond);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->err, 0);
  EXPECT_EQ(t.links(1, t.file), 2u);
  t.ranks.settle(kSecond);
  t.expect_rest();
}

// Coordinator, source and the rank that gives the token are three.
TEST(TwoParty, ADirectoryMovesAmongThreeRanks) {
  for (const char* site :
       {"token_granted", "loop_checked", "commit_durable", "some_done", "all_done"}) {
    SCOPED_TRACE(site);
    Tree t(3);
    Ino sub = t.ranks.mkdir(0, t.dir, "sub");
    Ino in = t.ranks.create(0, sub, "in");
    t.ranks.give(0, 2, t.dir);
    Request request = t.request(RenameArgs{t.dir, "sub", t.b, "moved"});
    {
      Killer killer(std::string(kC) + site);
      EXPECT_THROW(
          {
            t.run(1, request);
            t.ranks.settle(kSecond);
          },
          fault::Killed);
      t.ranks.kill(1);
    }
    t.ranks.settle(kSecond);
    t.ranks.start(1);
    t.ranks.settle(10 * kSecond);
    t.expect_rest();
    EXPECT_EQ(t.exists(2, t.dir, "sub"), !t.exists(1, t.b, "moved"));
    EXPECT_EQ(t.run(1, request)->err, 0);
    t.ranks.settle(kSecond);
    t.expect_rest();
    EXPECT_FALSE(t.exists(2, t.dir, "sub"));
    EXPECT_EQ(t.ranks.call(1, LookupArgs{t.b, "moved"}).stat.ino, sub);
    EXPECT_EQ(t.ranks.call(2, LookupArgs{sub, "in"}).stat.ino, in);
    EXPECT_EQ(t.links(2, t.dir), 2u);
    EXPECT_EQ(t.links(1, t.b), 4u);
  }
}

// Each of two directories is moved below the other one, at the same time, by different ranks.
TEST(TwoParty, TwoRanksThatRaceMakeNoLoop) {
  Tree t(3);
  Ino x = t.ranks.mkdir(0, kRootIno, "x"), y = t.ranks.mkdir(0, kRootIno, "y");
  Ino inner = t.ranks.mkdir(0, x, "inner");
  t.ranks.give(0, 1, x);
  t.ranks.give(0, 2, y);
  std::vector<int> results;
  auto submit = [&](size_t at, Args args) {
    Request request = t.request(std::move(args));
    t.ranks.rank(at).submit(std::move(request), [&](Reply r) { results.push_back(r.err); });
  };
  submit(2, RenameArgs{kRootIno, "x", y, "x"});
  submit(1, RenameArgs{kRootIno, "y", inner, "y"});
  t.ranks.settle(20 * kSecond);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(std::count(results.begin(), results.end(), 0), 1) << results[0] << " " << results[1];
  EXPECT_EQ(std::count(results.begin(), results.end(), EINVAL), 1)
      << results[0] << " " << results[1];
  t.expect_rest();
  // Afterwards it is seen without a race, too.
  const bool y_is_above = t.exists(0, kRootIno, "y");
  EXPECT_NE(y_is_above, t.exists(0, kRootIno, "x"));
  t.ranks.call(y_is_above ? 1 : 2, y_is_above ? Args(RenameArgs{kRootIno, "y", inner, "y"})
                                              : Args(RenameArgs{kRootIno, "x", y, "x"}));
  EXPECT_NE(t.exists(0, kRootIno, "y"), t.exists(0, kRootIno, "x"));
}

Args with_mode(Ino ino, uint32_t mode) {
  SetattrArgs set;
  set.ino = ino;
  set.valid = kSetMode;
  set.mode = mode;
  return set;
}

// The sticky bit is one rank's, the inode another one's.
TEST(TwoParty, TheStickyBitCountsAcrossRanks) {
  for (bool from_another : {false, true}) {
    SCOPED_TRACE(from_another);
    Tree t(3);
    Ino p = t.ranks.mkdir(0, kRootIno, "p");
    t.ranks.give(0, 2, p);
    SetattrArgs own;
    own.ino = t.file;
    own.valid = kSetUid;
    own.uid = 1000;
    EXPECT_EQ(t.ranks.call(1, own).err, 0);
    EXPECT_EQ(t.ranks.call(0, with_mode(t.a, 0777)).err, 0);
    EXPECT_EQ(t.ranks.call(2, LinkArgs{t.file, p, "link"}).err, 0);
    EXPECT_EQ(t.ranks.call(2, with_mode(p, 01777)).err, 0);
    // From /p by its own rank, or into /a by that one's.
    const size_t at = from_another ? 0 : 2;
    const Ino to = from_another ? t.a : p;
    const Timespec before = t.ranks.call(1, GetattrArgs{t.file}).stat.ctime;
    Credentials owner{.uid = 1000, .gid = 1000}, other{.uid = 2000, .gid = 2000};
    EXPECT_EQ(t.run(at, t.request(RenameArgs{p, "link", to, "new"}, other))->err, EPERM);
    EXPECT_TRUE(t.exists(2, p, "link"));
    EXPECT_EQ(t.run(at, t.request(RenameArgs{p, "link", to, "new"}, owner))->err, 0);
    EXPECT_FALSE(t.exists(2, p, "link"));
    EXPECT_TRUE(t.exists(at, to, "new"));
    EXPECT_GT(t.ranks.call(1, GetattrArgs{t.file}).stat.ctime, before);
    EXPECT_EQ(t.ranks.call(2, with_mode(p, 0777)).err, 0);
    EXPECT_EQ(t.run(2, t.request(RenameArgs{to, "new", p, "again"}, other))->err, 0);
    t.ranks.settle(kSecond);
    t.expect_rest();
  }
}

// It may have lost the rank, and what it knows may be old: it does not say no, either.
TEST(TwoParty, ARankWhoseLeaseIsOverRefusesNothing) {
  Tree t;
  msg::Prepare prepare{.op = {RankId{1}, t.ranks.rank(1).epoch(), 99}, .session = Ranks::kSession};
  prepare.intents.push_back({.kind = msg::IntentKind::drop_dir, .ino = t.a});
  auto refused = [&] {
    return std::count_if(t.ranks.delivered.begin(), t.ranks.delivered.end(), [](const Message& m) {
      return std::holds_alternative<msg::Refused>(m.body);
    });
  };
  t.ranks.set_lease_valid(false);
  t.ranks.rank(0).receive(RankId{1}, Message{RankId{1}, RankId{0}, prepare});
  t.ranks.settle();
  EXPECT_EQ(refused(), 0);
  t.ranks.set_lease_valid(true);
  t.ranks.settle();
  EXPECT_EQ(refused(), 1);
}

// What has come into a subtree is still a part of another one where the other rank has not heard of
// the decision: the subtree stays until it has.
TEST(TwoParty, WhatOthersAreStillCarryingOutIsNotGivenAway) {
  Tree t(3);
  fault::set_handler(
      [](void* tree, const fault::Site& site) {
        if (site.name == std::string(kC) + "commit_logged")
          static_cast<Tree*>(tree)->ranks.cut(0, 1);
      },
      &t);
  auto reply = t.run(1, t.request(RenameArgs{t.a, "dir", t.c, "dir", 0}));
  fault::set_handler(nullptr, nullptr);
  ASSERT_TRUE(reply);
  ASSERT_EQ(reply->err, 0);
  EXPECT_TRUE(t.ranks.rank(1).state().imports.at(t.b).bounds.contains(t.dir));
  EXPECT_FALSE(t.ranks.rank(0).state().is_root(t.dir));
  auto move = [&] {
    std::optional<Result<void>> moved;
    t.ranks.rank(1).migrations().start(t.b, RankId{2}, [&](Result<void> r) { moved = r; });
    t.ranks.executor.run_until([&] { return moved.has_value(); });
    return moved && moved->has_value();
  };
  EXPECT_FALSE(move());
  t.ranks.heal(0, 1);
  t.ranks.settle(2 * kSecond);
  EXPECT_TRUE(t.ranks.rank(0).state().is_root(t.dir));
  EXPECT_TRUE(move());
  EXPECT_EQ(t.ranks.rank(2).state().imports.at(t.b).bounds.at(t.dir).rank, RankId{0});
}

}  // namespace
}  // namespace graftfs
