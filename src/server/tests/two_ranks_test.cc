// Two ranks with a split made by hand: who answers what, and what a start finds again.
#include "two_ranks.h"

#include <linux/fs.h>

namespace graftfs {
namespace {

// /a (rank 0), /a/b and all below it (rank 1).
struct Split : ::testing::Test {
  void SetUp() override {
    a = ranks.mkdir(0, kRootIno, "a");
    b = ranks.mkdir(0, a, "b");
    c = ranks.mkdir(0, b, "c");
    file = ranks.create(0, c, "file");
    near = ranks.create(0, a, "near");
    ranks.give(0, 1, b);
  }
  void expect_split() {
    Reply listed = ranks.call(0, ReaddirArgs{a, 0, 100, true});
    ASSERT_EQ(listed.err, 0);
    ASSERT_EQ(listed.entries.size(), 2u);
    for (const ListedEntry& entry : listed.entries)
      EXPECT_EQ(entry.stat.has_value(), entry.name == "near") << entry.name;

    Reply bound = ranks.call(0, LookupArgs{a, "b"});
    EXPECT_EQ(bound.err, 0);
    EXPECT_TRUE(bound.partial);
    EXPECT_EQ(bound.home, RankId{1});
    EXPECT_EQ(bound.stat.ino, b);
    EXPECT_TRUE(bound.stat.is_dir());

    Reply there = ranks.call(1, LookupArgs{c, "file"});
    EXPECT_EQ(there.err, 0);
    EXPECT_EQ(there.stat.ino, file);
    EXPECT_EQ(there.home, RankId{1});
    EXPECT_EQ(ranks.call(1, GetattrArgs{b}).err, 0);
    EXPECT_EQ(ranks.call(1, ReaddirArgs{b, 0, 100, true}).entries.size(), 1u);

    Reply up = ranks.call(1, LookupParentArgs{b});
    EXPECT_EQ(up.err, 0);
    EXPECT_TRUE(up.partial);
    EXPECT_EQ(up.stat.ino, a);
    EXPECT_EQ(up.home, RankId{0});
  }
  void expect_asks(size_t at, Args args, RankId home) {
    std::string what = op_name(args);
    Reply reply = ranks.call(at, std::move(args));
    EXPECT_EQ(reply.err, kAskRank) << what;
    EXPECT_EQ(reply.home, home) << what;
  }

  Ranks ranks;
  Ino a, b, c, file, near;
};

TEST_F(Split, EachAnswersForItsOwn) { expect_split(); }

TEST_F(Split, WhoIsAskedForAnothersSaysWhose) {
  for (Ino ino : {b, c, file}) expect_asks(0, GetattrArgs{ino}, RankId{1});
  expect_asks(0, CreateArgs{c, "new", 0644}, RankId{1});
  expect_asks(0, ReaddirArgs{b, 0, 10}, RankId{1});
  expect_asks(0, WroteArgs{file, 10}, RankId{1});
  for (Ino ino : {kRootIno, a, near}) expect_asks(1, GetattrArgs{ino}, RankId{0});
  expect_asks(1, MkdirArgs{a, "new", 0755}, RankId{0});
  // Both names are there: it is all the other rank's.
  expect_asks(0, RenameArgs{c, "file", b, "file"}, RankId{1});
  expect_asks(1, LinkArgs{near, a, "link"}, RankId{0});
}

TEST_F(Split, NobodyKnowsWhatIsNowhere) {
  for (size_t at : {0, 1}) {
    Reply reply = ranks.call(at, GetattrArgs{Ino{0x7fffffff}});
    EXPECT_EQ(reply.err, kAskRank);
    EXPECT_EQ(reply.home, kNobody);
  }
}

TEST_F(Split, WhatIsTooNewForTheStoreOnlyItsRankKnows) {
  Ino fresh = ranks.create(1, c, "fresh");
  expect_asks(0, GetattrArgs{fresh}, kNobody);
  std::map<size_t, RankId> homes;
  for (size_t at : {0, 1}) ranks.rank(at).find(fresh, [&homes, at](RankId r) { homes[at] = r; });
  ranks.settle();
  EXPECT_EQ(homes.at(0), kNobody);
  EXPECT_EQ(homes.at(1), RankId{1});
}

TEST_F(Split, EachChangesItsOwn) {
  Ino fresh = ranks.create(1, c, "fresh");
  EXPECT_EQ(ranks.call(1, RenameArgs{c, "fresh", b, "moved"}).err, 0);
  EXPECT_EQ(ranks.call(1, LinkArgs{fresh, c, "second"}).err, 0);
  EXPECT_EQ(ranks.call(1, UnlinkArgs{c, "file"}).err, 0);
  EXPECT_EQ(ranks.call(1, GetattrArgs{fresh}).stat.nlink, 2u);
  EXPECT_EQ(ranks.call(0, UnlinkArgs{a, "near"}).err, 0);
  Ino inside = ranks.mkdir(1, b, "inside");
  EXPECT_EQ(ranks.call(1, RmdirArgs{b, "inside"}).err, 0);
  EXPECT_NE(inside, fresh);
}

TEST_F(Split, ItIsTheSameAfterAStart) {
  for (size_t at : {0, 1}) {
    ranks.stop(at);
    ranks.start(at);
  }
  expect_split();
  expect_asks(0, GetattrArgs{file}, RankId{1});
  expect_asks(1, GetattrArgs{near}, RankId{0});
}

TEST_F(Split, ItIsTheSameAfterADeath) {
  Ino fresh = ranks.create(1, c, "fresh");
  for (size_t at : {1, 0}) {
    ranks.kill(at);
    ranks.start(at);
    EXPECT_EQ(ranks.call(1, GetattrArgs{fresh}).err, 0) << at;
    expect_split();
  }
}

// The bound comes back, with a bound of its own.
TEST_F(Split, NestedBounds) {
  ASSERT_EQ(ranks.call(1, GetattrArgs{c}).err, 0);
  ranks.give(1, 0, c);
  EXPECT_EQ(ranks.call(0, GetattrArgs{file}).err, 0);
  expect_asks(1, GetattrArgs{file}, RankId{0});
  expect_asks(0, GetattrArgs{b}, RankId{1});
  Reply bound = ranks.call(1, LookupArgs{b, "c"});
  EXPECT_TRUE(bound.partial);
  EXPECT_EQ(bound.home, RankId{0});
  EXPECT_EQ(ranks.call(1, RmdirArgs{b, "c"}).err, ENOTEMPTY);
  Reply up = ranks.call(0, LookupParentArgs{c});
  EXPECT_EQ(up.home, RankId{1});
  for (size_t at : {0, 1}) {
    ranks.kill(at);
    ranks.start(at);
  }
  EXPECT_EQ(ranks.call(0, GetattrArgs{file}).err, 0);
  expect_asks(1, GetattrArgs{file}, RankId{0});
}

// A header in the store says where a directory was when it was written; the parent's entry is what
// counts.
TEST_F(Split, AnOldHeaderDoesNotFoolTheClimb) {
  ranks.finish(ranks.rank(1).write_back_all());
  RankCore& core = ranks.rank(0).core();
  // The name goes, as an operation of both ranks will take it; c's and b's headers stay as they
  // are.
  TreeEvent event;
  event.type = EventType::unlink;
  Dir* dir = core.cache().find_dir(a);
  event.dirs.push_back({.dirty = true, .full = false, .header = dir->header});
  event.dirs[0].header.version = dir->header.version.next();
  EntryItem& gone = event.entries.emplace_back();
  gone.name = "b";
  gone.value.version = event.dirs[0].header.version;
  core.log(event);
  Export moved{.root = b};  // neither a bound of rank 0 nor forwarded any more
  Import whole = core.state().imports.at(kRootIno);
  whole.bounds.erase(b);
  std::string bytes, end;
  ByteWriter w(bytes), e(end);
  encode_import(w, whole, {});
  core.log_event(EventType::import, bytes);
  encode_export_end(e, core.state().forwards.at(b).id);
  core.log_event(EventType::export_end, end);
  EXPECT_EQ(core.cache().find_dir(b), nullptr);
  expect_asks(0, GetattrArgs{c}, kNobody);  // it is the root rank itself
  expect_asks(0, GetattrArgs{b}, kNobody);
  EXPECT_EQ(ranks.call(1, GetattrArgs{c}).err, 0);
}

// How often it has changed hands begins anew where it was a part of another one meanwhile.
TEST_F(Split, NewsOfABoundAreTakenFromWhoHasIt) {
  auto bound = [&] { return ranks.rank(0).state().imports.at(kRootIno).bounds.at(b); };
  auto tell = [&](RankId from, RankId rank, uint32_t moves) {
    ranks.delivered.clear();
    ranks.rank(0).receive(from, Message{from, RankId{0}, msg::BoundMoved{b, rank, moves}});
    ranks.settle();
  };
  const Bound before = bound();
  tell(RankId{1}, RankId{1}, 3);
  EXPECT_EQ(bound(), (Bound{a, RankId{1}, 3}));
  ASSERT_EQ(ranks.delivered.size(), 1u);
  EXPECT_EQ(std::get<msg::BoundMovedDone>(ranks.delivered[0].body).moves, 3u);
  tell(RankId{1}, RankId{5}, 4);
  EXPECT_EQ(bound(), (Bound{a, RankId{1}, 3})) << "that one does not say so";
  tell(RankId{5}, RankId{5}, 2);
  EXPECT_EQ(bound(), (Bound{a, RankId{5}, 2}));
  expect_asks(0, GetattrArgs{b}, RankId{5});
  ranks.kill(0);
  ranks.start(0);
  expect_asks(0, GetattrArgs{b}, RankId{5});
  tell(RankId{6}, RankId{1}, 4);
  EXPECT_EQ(bound(), before) << "rank 1 was asked, and has it";
}

// It was removed, or given on: who gave it to this rank is told that it may forget that.
TEST_F(Split, WhoWasGivenASubtreeAnswersWhenItIsGone) {
  auto answers = [&](size_t at, Ino root) {
    ranks.delivered.clear();
    const RankId me = Ranks::id(at), other = Ranks::id(1 - at);
    ranks.rank(at).receive(other, Message{other, me, msg::BoundMoved{root, me, 7}});
    ranks.settle();
    return !ranks.delivered.empty() &&
           std::holds_alternative<msg::BoundMovedDone>(ranks.delivered[0].body);
  };
  EXPECT_TRUE(answers(1, Ino{0x7fffffff}));
  EXPECT_FALSE(answers(1, b)) << "it has it, and the parent's authority is to answer";
  EXPECT_TRUE(answers(0, kRootIno)) << "the table says that it has it";
  EXPECT_TRUE(answers(1, kRootIno)) << "the table says that another rank has it";
}

TEST_F(Split, ARenameAboveABoundIsTold) {
  EXPECT_EQ(ranks.rank(1).state().imports.at(b).path, "/a/b");
  EXPECT_EQ(ranks.call(0, RenameArgs{kRootIno, "a", kRootIno, "z"}).err, 0);
  ranks.settle();
  EXPECT_EQ(ranks.rank(1).state().imports.at(b).path, "/z/b");
  ranks.kill(1);
  ranks.start(1);
  EXPECT_EQ(ranks.call(1, LookupParentArgs{b}).stat.ino, a);
}

TEST_F(Split, WaysUpAreAnsweredFromMemory) {
  auto ask = [&](size_t at, Ino ino) {
    ranks.delivered.clear();
    RankId from = Ranks::id(1 - at);
    ranks.rank(at).receive(from, Message{from, Ranks::id(at), msg::Ancestry{9, ino}});
    ranks.settle();
    return std::get<msg::AncestryIs>(ranks.delivered.at(0).body);
  };
  msg::AncestryIs inner = ask(1, b);
  EXPECT_TRUE(inner.known);
  EXPECT_EQ(inner.chain, std::vector<Ino>{b});
  EXPECT_EQ(inner.above, a);
  msg::AncestryIs outer = ask(0, a);
  EXPECT_EQ(outer.chain, (std::vector<Ino>{a, kRootIno}));
  EXPECT_FALSE(outer.above);
  msg::AncestryIs other = ask(0, b);
  EXPECT_FALSE(other.known);
  EXPECT_EQ(other.rank, RankId{1});
}

// Nothing leaves a node whose lease is over.
TEST_F(Split, TheGateHoldsAnswersBack) {
  ranks.set_lease_valid(false);
  std::optional<Reply> reply;
  Request request;
  request.args = GetattrArgs{near};
  ranks.rank(0).submit(std::move(request), [&](Reply r) { reply = std::move(r); });
  bool said = false;
  ranks.rank(0).say_when(Lsn{}, [&] { said = true; });
  ranks.settle(kSecond);
  EXPECT_FALSE(reply.has_value());
  EXPECT_FALSE(said);
  ranks.set_lease_valid(true);
  ranks.settle(kSecond);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->err, 0);
  EXPECT_TRUE(said);
}

// An import that is not settled is served by nobody.
TEST_F(Split, RequestsForAnUnsettledImportWait) {
  const ProtocolId id{RankId{1}, Epoch{9}, 1};
  RankCore& core = ranks.rank(0).core();
  Import import;
  import.root = b;
  import.parent = a;
  import.from = id;
  import.settled = false;
  const DirHeader header = ranks.rank(1).core().cache().find_dir(b)->header;
  std::string in, end;
  ByteWriter i(in), e(end);
  encode_import(i, import, {header});
  // As the exporter has it: out of its hands.
  Export exported{.root = b, .dirs = {b, c}, .id = id, .to = RankId{0}, .moves = 2};
  std::string out;
  ByteWriter o(out);
  encode_export(o, exported);
  ranks.rank(1).core().log_event(EventType::export_, out);
  core.log_event(EventType::import, in);
  std::optional<Reply> reply;
  Request request;
  request.args = GetattrArgs{c};
  ranks.rank(0).submit(std::move(request), [&](Reply r) { reply = std::move(r); });
  ranks.settle(kSecond);
  EXPECT_FALSE(reply.has_value());
  encode_import_end(e, id, true);
  core.log_event(EventType::import_end, end);
  core.wake({Need::frozen, b, {}, 0});
  ranks.settle(kSecond);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->err, 0);
  EXPECT_EQ(core.state().imports.count(b), 0u) << "it is a part of what it hangs in";
  Reply bound = ranks.call(0, LookupArgs{a, "b"});
  EXPECT_FALSE(bound.partial);
  expect_asks(1, GetattrArgs{c}, RankId{0});
}

// A recovery finds what had lost its last name; who has it open is not back yet.
TEST(OneOfThem, PurgesNothingBeforeSessionsCouldClaimIt) {
  RankOptions options;
  options.reconnect_window = kSecond;
  Ranks ranks(1, options);
  const Ino ino = ranks.call(0, CreateArgs{kRootIno, "file", 0644, 0, true, 0}).stat.ino;
  ASSERT_TRUE(ranks.call(0, UnlinkArgs{kRootIno, "file"}).orphaned);
  ranks.kill(0);
  ranks.start(0);
  ranks.settle(500 * kMillisecond);
  ranks.rank(0).core().set_holds(Ranks::kSession, {{ino, 1}});
  ranks.settle(2 * kSecond);
  EXPECT_EQ(ranks.call(0, GetattrArgs{ino}).err, 0);
  EXPECT_EQ(ranks.call(0, ReleaseArgs{ino, 1}).err, 0);
  ranks.settle(kSecond);
  EXPECT_EQ(ranks.call(0, GetattrArgs{ino}).err, ESTALE);
}

}  // namespace
}  // namespace graftfs
