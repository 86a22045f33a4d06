// A rank hands over all that it has, its hidden directories included, so that it can end.
#include <sys/stat.h>

#include "events/trace.h"
#include "server/migrate.h"
#include "two_ranks.h"

namespace graftfs {
namespace {

struct HandOver : ::testing::Test {
  HandOver() {
    dir = ranks.mkdir(0, kRootIno, "dir");
    here = ranks.mkdir(0, kRootIno, "here");
    move(0, 1, dir);
  }
  void move(size_t from, size_t to, Ino root) {
    std::optional<Result<void>> result;
    ranks.rank(from).migrations().start(
        root, Ranks::id(to), [&result](Result<void> r) { result = std::move(r); },
        is_hidden_dir(root));
    ranks.executor.run_until([&] { return result.has_value(); });
    ASSERT_TRUE(*result) << describe(result->error());
  }
  void hand_over(size_t from, size_t to) {
    move(from, to, dir);
    move(from, to, linked_dir_ino(Ranks::id(from)));
    move(from, to, orphans_dir_ino(Ranks::id(from)));
    ranks.settle();
  }
  bool is_in(size_t rank, Ino hidden, Ino ino) {
    Cache& cache = ranks.rank(rank).core().cache();
    Dir* d = cache.find_dir(hidden);
    Dentry* e = d ? cache.find_entry(*d, hidden_name(ino)) : nullptr;
    return e && e->kind != EntryKind::null;
  }
  int getattr(size_t rank, Ino ino) { return ranks.call(rank, GetattrArgs{ino}).err; }

  Ranks ranks{2};
  Ino dir, here;
  const Ino linked = linked_dir_ino(RankId{1}), orphans = orphans_dir_ino(RankId{1});
};

// While an inode is in a ~linked here, it may lose its last name here.
TEST_F(HandOver, ItsOwnHiddenDirectoriesGoLastAndThoseOfOthersThatItHasBefore) {
  // Rank 1 has those of rank 0, too.
  move(0, 1, linked_dir_ino(RankId{0}));
  move(0, 1, orphans_dir_ino(RankId{0}));
  ranks.settle();
  const std::vector<Ino> order{dir, linked_dir_ino(RankId{0}), orphans_dir_ino(RankId{0}), linked,
                               orphans};
  for (Ino next : order) {
    EXPECT_EQ(ranks.rank(1).migrations().next_to_leave(), next);
    move(1, 0, next);
    ranks.settle();
  }
  EXPECT_EQ(ranks.rank(1).migrations().next_to_leave(), Ino{});
}

TEST_F(HandOver, WhatIsOpenWithoutANameGoesAlongAndIsPurgedThereWhenItIsClosed) {
  Reply made = ranks.call(1, CreateArgs{dir, "file", 0644, 0, true, 0});
  ASSERT_EQ(made.err, 0);
  const Ino ino = made.stat.ino;
  // Two names, and then none: it comes from ~linked.
  ASSERT_EQ(ranks.call(1, LinkArgs{ino, dir, "link"}).err, 0);
  ASSERT_EQ(ranks.call(1, UnlinkArgs{dir, "file"}).err, 0);
  Reply gone = ranks.call(1, UnlinkArgs{dir, "link"});
  ASSERT_EQ(gone.err, 0);
  ASSERT_TRUE(gone.orphaned);
  EXPECT_FALSE(is_in(1, linked, ino));
  EXPECT_TRUE(is_in(1, orphans, ino));

  hand_over(1, 0);
  EXPECT_TRUE(ranks.rank(1).is_drained());
  EXPECT_TRUE(is_in(0, orphans, ino));
  EXPECT_EQ(getattr(0, ino), 0) << "the session holds it at the new rank";
  // Once for the open, once for the name that it lost.
  EXPECT_EQ(ranks.call(0, ReleaseArgs{ino, 2}).err, 0);
  ranks.settle(kSecond);
  EXPECT_FALSE(is_in(0, orphans, ino));
  EXPECT_EQ(getattr(0, ino), kAskRank) << "nobody knows it any more";
}

TEST_F(HandOver, ADirectoryThatIsOpenWithoutANameGoesAlong) {
  const Ino sub = ranks.mkdir(1, dir, "sub");
  ASSERT_EQ(ranks.call(1, OpenArgs{sub, 0}).err, 0);
  ASSERT_EQ(ranks.call(1, RmdirArgs{dir, "sub"}).err, 0);
  hand_over(1, 0);
  EXPECT_EQ(getattr(0, sub), 0);
  EXPECT_EQ(ranks.call(0, ReleaseArgs{sub, 2}).err, 0);
  ranks.settle(kSecond);
  EXPECT_FALSE(is_in(0, orphans, sub));
}

TEST_F(HandOver, NamesOfWhatIsKeptInItGoOnToCount) {
  const Ino both = ranks.create(1, dir, "both"), across = ranks.create(1, dir, "across");
  ASSERT_EQ(ranks.call(1, LinkArgs{both, dir, "other"}).err, 0);
  ASSERT_EQ(ranks.call(0, LinkArgs{across, here, "other"}).err, 0);
  hand_over(1, 0);
  ASSERT_TRUE(is_in(0, linked, both));
  ASSERT_TRUE(is_in(0, linked, across));
  EXPECT_EQ(ranks.call(0, LookupArgs{dir, "both"}).stat.nlink, 2u);
  EXPECT_EQ(ranks.call(0, LookupArgs{here, "other"}).stat.nlink, 2u);
  for (auto [ino, parent] : {std::pair(both, dir), {across, here}}) {
    const std::string name = ino == both ? "both" : "across";
    EXPECT_EQ(ranks.call(0, UnlinkArgs{dir, name}).err, 0);
    EXPECT_EQ(ranks.call(0, GetattrArgs{ino}).stat.nlink, 1u);
    EXPECT_EQ(ranks.call(0, UnlinkArgs{parent, "other"}).err, 0);
    EXPECT_EQ(ranks.call(0, ReleaseArgs{ino, 1}).err, 0);
  }
  ranks.settle(kSecond);
  for (Ino ino : {both, across}) {
    EXPECT_FALSE(is_in(0, linked, ino)) << "no name leads there any more";
    EXPECT_FALSE(is_in(0, orphans, ino));
    EXPECT_FALSE(is_in(0, orphans_dir_ino(RankId{0}), ino));
  }
}

// What the other rank has lost by then nobody holds: the new owner finds it.
TEST_F(HandOver, AfterACrashTheNewOwnerPurgesWhatNobodyHolds) {
  const Ino ino = ranks.create(1, dir, "file");
  ASSERT_EQ(ranks.call(1, OpenArgs{ino, 0}).err, 0);
  ASSERT_EQ(ranks.call(1, UnlinkArgs{dir, "file"}).err, 0);
  hand_over(1, 0);
  ASSERT_TRUE(is_in(0, orphans, ino));
  for (size_t i : {0, 1}) ranks.kill(i);
  for (size_t i : {0, 1}) ranks.start(i);
  ranks.settle(kSecond);
  EXPECT_FALSE(is_in(0, orphans, ino));
  EXPECT_EQ(ranks.rank(0).state().imports.contains(orphans), true);
}

TEST_F(HandOver, ARankThatLeavesTakesNothing) {
  ranks.rank(1).migrations().leave();
  std::optional<Result<void>> result;
  ranks.rank(0).migrations().start(here, RankId{1},
                                   [&result](Result<void> r) { result = std::move(r); });
  ranks.executor.run_until([&] { return result.has_value(); });
  EXPECT_EQ(result->error().code, EBUSY);
}

TEST_F(HandOver, APathThatARenameChangesIsLoggedByWhoeverHangsBelow) {
  const Ino deep = ranks.mkdir(1, dir, "deep");
  move(1, 0, deep);
  ranks.settle();
  auto path = [&](size_t rank, Ino root) {
    const auto& imports = ranks.rank(rank).state().imports;
    auto it = imports.find(root);
    return it == imports.end() ? "" : it->second.path;
  };
  EXPECT_EQ(path(1, dir), "/dir");
  EXPECT_EQ(path(0, deep), "/dir/deep");
  ASSERT_EQ(ranks.call(0, RenameArgs{kRootIno, "dir", here, "moved", 0}).err, 0);
  ranks.settle();
  EXPECT_EQ(path(1, dir), "/here/moved");
  EXPECT_EQ(path(0, deep), "/here/moved/deep");
  ASSERT_EQ(ranks.call(0, RenameArgs{kRootIno, "here", kRootIno, "there", 0}).err, 0);
  ranks.settle();
  EXPECT_EQ(path(1, dir), "/there/moved");
  EXPECT_EQ(path(0, deep), "/there/moved/deep");
  for (size_t i : {0, 1}) ranks.kill(i);
  for (size_t i : {0, 1}) ranks.start(i);
  EXPECT_EQ(path(1, dir), "/there/moved");
  EXPECT_EQ(path(0, deep), "/there/moved/deep");
}

}  // namespace
}  // namespace graftfs
