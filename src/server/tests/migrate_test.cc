// Subtrees move between real ranks: nothing is lost, one rank serves at a time, and a death at any
// kill point of either side ends the same way.
#include <fmt/format.h>

#include "base/fault.h"
#include "migration/points.h"
#include "moving_clients.h"
#include "server/migrate.h"

namespace graftfs {
namespace {

constexpr size_t kRanks = 3;

// Leaves the executor where a kill point was reached.
struct KillAt {
  explicit KillAt(const char* name) : name_(name) {
    fault::set_handler(&KillAt::hit, this);
    fault::Site::armed = true;
  }
  ~KillAt() { disarm(); }
  static void disarm() {
    fault::Site::armed = false;
    fault::set_handler(nullptr, nullptr);
  }
  static void hit(void* self, const fault::Site& site) {
    auto* at = static_cast<KillAt*>(self);
    if (std::string_view(site.name) != at->name_ || at->reached) return;
    at->reached = true;
    throw fault::Killed{};
  }
  std::string_view name_;
  bool reached = false;
};

struct Moves : ::testing::Test {
  explicit Moves(RankOptions options = {}) : ranks(kRanks, std::move(options)) {
    top = ranks.mkdir(0, kRootIno, "top");
    tree[kRootIno]["top"] = top;
    tree[top];
  }
  ~Moves() override { KillAt::disarm(); }

  // So many directories below `top`, each with files.
  void grow(int dirs, int files) {
    for (int d = 0; d < dirs; ++d) {
      Ino parent = d % 4 == 3 && !subdirs.empty() ? subdirs.back() : top;
      std::string name = fmt::format("d{}", d);
      Ino dir = ranks.mkdir(0, parent, name);
      tree[parent][name] = dir;
      tree[dir];
      subdirs.push_back(dir);
      for (int f = 0; f < files; ++f) {
        std::string file = fmt::format("f{}", f);
        tree[dir][file] = ranks.create(0, dir, file);
      }
    }
  }
  // Runs until it is over.
  Result<void> move(size_t from, size_t to, Ino root) {
    std::optional<Result<void>> result;
    begin_move(from, to, root, result);
    wait(result);
    return *result;
  }
  void begin_move(size_t from, size_t to, Ino root, std::optional<Result<void>>& result) {
    ranks.rank(from).migrations().start(root, Ranks::id(to),
                                        [&result](Result<void> r) { result = std::move(r); });
  }
  void wait(std::optional<Result<void>>& result) {
    ranks.executor.run_until([&] { return result.has_value(); });
  }
  void expect_moved(Result<void> result) { ASSERT_TRUE(result) << describe(result.error()); }
  void expect_refused(Result<void> result, int code) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code) << describe(result.error());
    EXPECT_GT(result.error().message.size(), 10u) << "a sentence";
  }
  // Exactly these entries, asked from anywhere; each directory is one rank's.
  void expect_all() {
    Tree found;
    read_tree(ranks, kRanks, kRootIno, found);
    EXPECT_EQ(found.size(), tree.size());
    for (const auto& [dir, names] : tree) {
      EXPECT_EQ(found[dir], names) << "directory " << dir.v;
      EXPECT_EQ(owners(dir).size(), 1u) << "directory " << dir.v;
    }
  }
  std::vector<size_t> owners(Ino dir) {
    std::vector<size_t> out;
    for (size_t i = 0; i < kRanks; ++i) {
      Reply reply = ranks.call(i, GetattrArgs{dir});
      if (reply.err == 0) out.push_back(i);
      EXPECT_TRUE(reply.err == 0 || reply.err == kAskRank) << reply.err;
    }
    return out;
  }
  void expect_at_rest() {
    for (size_t i = 0; i < kRanks; ++i) {
      const Rank& rank = ranks.rank(i);
      EXPECT_TRUE(ranks.rank(i).migrations().idle()) << "rank " << i;
      EXPECT_TRUE(rank.state().forwards.empty()) << "rank " << i;
      EXPECT_TRUE(rank.state().staged.empty()) << "rank " << i;
      for (const auto& [root, import] : rank.state().imports)
        EXPECT_TRUE(import.settled) << "rank " << i << ", root " << root.v;
      rank.cache().for_each_dir([&](const Dir& dir) {
        EXPECT_FALSE(dir.frozen) << "rank " << i << ", directory " << dir.ino().v;
        EXPECT_EQ(dir.pins, dir.is_foreign() ? 1u : 0u)
            << "rank " << i << ", directory " << dir.ino().v;
      });
    }
  }
  void restart_all() {
    for (size_t i = 0; i < kRanks; ++i) ranks.kill(i);
    for (size_t i = 0; i < kRanks; ++i) ranks.start(i);
    ranks.settle();
  }

  Ranks ranks;
  Ino top;
  std::vector<Ino> subdirs;
  Tree tree;
};

TEST_F(Moves, ThereAndBack) {
  grow(20, 100);
  expect_moved(move(0, 1, top));
  EXPECT_EQ(owners(top), std::vector<size_t>{1});
  EXPECT_EQ(ranks.rank(1).state().imports.at(top).moves, 1u);
  EXPECT_EQ(ranks.rank(0).state().imports.at(kRootIno).bounds.at(top).rank, RankId{1});
  expect_at_rest();
  expect_all();
  tree[top]["new"] = ranks.create(1, top, "new");
  EXPECT_EQ(ranks.call(1, UnlinkArgs{subdirs[3], "f7"}).err, 0);
  tree[subdirs[3]].erase("f7");
  expect_moved(move(1, 2, top));
  expect_all();
  EXPECT_EQ(ranks.rank(0).state().imports.at(kRootIno).bounds.at(top).rank, RankId{2})
      << "the parent's authority was told";
  restart_all();
  expect_all();
  expect_moved(move(2, 0, top));
  EXPECT_FALSE(ranks.rank(0).state().is_root(top)) << "a part of what is around it again";
  EXPECT_FALSE(ranks.rank(0).state().has_bounds());
  expect_at_rest();
  expect_all();
  restart_all();
  expect_at_rest();
  expect_all();
}

TEST_F(Moves, WhatIsCleanAndWhatWasNeverCached) {
  grow(10, 50);
  ranks.finish(ranks.rank(0).write_back_all());
  tree[subdirs[2]]["late"] = ranks.create(0, subdirs[2], "late");
  ranks.stop(0);
  ranks.start(0);  // with an empty cache
  ranks.settle();
  expect_moved(move(0, 1, top));
  expect_all();
  restart_all();
  expect_all();
}

TEST_F(Moves, NestedSubtreesGoAlongAndDissolve) {
  grow(8, 10);
  expect_moved(move(0, 1, top));
  expect_moved(move(1, 2, subdirs[0]));
  expect_moved(move(1, 0, subdirs[4]));
  expect_all();
  // 1 → 2: subdirs[0] becomes a part of it there, subdirs[4] stays a bound of it.
  expect_moved(move(1, 2, top));
  EXPECT_FALSE(ranks.rank(2).state().is_root(subdirs[0]));
  EXPECT_EQ(ranks.rank(2).state().imports.at(top).bounds.size(), 1u);
  expect_at_rest();
  expect_all();
  restart_all();
  expect_all();
  expect_moved(move(2, 0, top));
  EXPECT_FALSE(ranks.rank(0).state().is_root(subdirs[4]));
  EXPECT_FALSE(ranks.rank(0).state().has_bounds());
  expect_at_rest();
  expect_all();
}

TEST_F(Moves, RefusedWithASentence) {
  grow(2, 3);
  Ino file = tree[subdirs[0]]["f0"];
  expect_refused(move(0, 0, top), EINVAL);
  expect_refused(move(0, 9, top), EINVAL);
  expect_refused(move(0, 1, file), ENOTDIR);
  expect_refused(move(0, 1, orphans_dir_ino(RankId{0})), EINVAL);
  expect_refused(move(1, 2, top), EREMOTE);
  ranks.kill(1);
  expect_refused(move(0, 1, top), EHOSTDOWN);
  ranks.start(1);
  std::optional<Result<void>> first, second;
  begin_move(0, 1, top, first);
  begin_move(0, 2, subdirs[0], second);
  wait(first);
  wait(second);
  expect_moved(*first);
  expect_refused(*second, EBUSY);
  ranks.cut(1, 2);
  expect_refused(move(1, 2, top), ECANCELED);
  ranks.heal(1, 2);
  expect_moved(move(1, 2, top));
  expect_all();
}

TEST_F(Moves, ADirectoryThatIsRemovedMeanwhileDoesNotGo) {
  const Ino victim = ranks.mkdir(0, top, "victim");
  std::optional<Result<void>> result;
  begin_move(0, 1, victim, result);
  ASSERT_EQ(ranks.call(0, RmdirArgs{top, "victim"}).err, 0);
  wait(result);
  expect_refused(*result, ECANCELED);
  ranks.call(0, ReleaseArgs{victim, 1});
  ranks.settle();
  expect_all();
  expect_at_rest();
}

// A subtree comes to a rank while what it hangs in goes away from there.
TEST_F(Moves, WhatComesIntoWhatGoesIsNotLost) {
  grow(1, 3);
  const Ino dir = subdirs[0];
  auto bring = [&](Ino what, size_t to) {
    for (int tries = 0; tries < 20 && owners(what) != std::vector<size_t>{to}; ++tries) {
      (void)move(owners(what).at(0), to, what);
      ranks.settle();
    }
    ASSERT_EQ(owners(what), std::vector<size_t>{to});
  };
  for (int first = 0; first < 12; ++first) {
    for (bool in_first : {true, false}) {
      bring(top, 0);
      bring(dir, 1);
      std::optional<Result<void>> in, out;
      if (in_first) begin_move(1, 0, dir, in);
      ranks.settle(first * 500 * kMicrosecond + 1);
      begin_move(0, 2, top, out);
      if (!in_first) ranks.settle(first * 500 * kMicrosecond + 1);
      if (!in_first) begin_move(1, 0, dir, in);
      wait(in);
      wait(out);
      ranks.settle();
      expect_all();
      expect_at_rest();
      if (HasFailure()) return;
    }
  }
}

TEST_F(Moves, HoldsAndResultsOfRequests) {
  grow(1, 1);
  Ino file = tree[subdirs[0]]["f0"];
  ASSERT_EQ(ranks.call(0, OpenArgs{file}).err, 0);
  expect_moved(move(0, 1, top));
  Reply gone = ranks.call(1, UnlinkArgs{subdirs[0], "f0"});
  ASSERT_EQ(gone.err, 0);
  EXPECT_TRUE(gone.orphaned);
  ranks.call(1, ReleaseArgs{file, 1});
  ranks.settle();
  EXPECT_EQ(ranks.call(1, GetattrArgs{file}).err, 0) << "it was opened before it moved";
  ranks.call(1, ReleaseArgs{file, 1});
  ranks.settle(kSecond);
  EXPECT_NE(ranks.call(1, GetattrArgs{file}).err, 0);
}

TEST_F(Moves, APinMovesADirectoryAndIsFollowed) {
  grow(3, 5);
  Ino file = tree[subdirs[0]]["f0"];
  EXPECT_EQ(ranks.call(0, SetxattrArgs{file, "graftfs.pin", "1", 0}).err, ENOTDIR);
  for (const char* bad : {"7", "x", "", "1x", "-2", "65535"})
    EXPECT_EQ(ranks.call(0, SetxattrArgs{top, "graftfs.pin", bad, 0}).err, EINVAL) << bad;
  EXPECT_EQ(ranks.call(0, SetxattrArgs{top, "graftfs.pin", "1", 0}).err, 0);
  ranks.settle();
  EXPECT_EQ(owners(top), std::vector<size_t>{1});
  EXPECT_EQ(ranks.call(1, GetxattrArgs{top, "graftfs.pin"}).data, "1");
  // A rank that is down is waited for, also across a crash of the one that waits.
  ranks.kill(2);
  EXPECT_EQ(ranks.call(1, SetxattrArgs{top, "graftfs.pin", "2", 0}).err, 0);
  ranks.settle(3 * kSecond);
  EXPECT_EQ(ranks.call(1, GetattrArgs{top}).err, 0);
  ranks.kill(1);
  ranks.start(1);
  ranks.start(2);
  ranks.settle(6 * kSecond);
  EXPECT_EQ(owners(top), std::vector<size_t>{2});
  EXPECT_EQ(ranks.call(2, SetxattrArgs{top, "graftfs.pin", "-1", 0}).err, 0);
  EXPECT_EQ(ranks.call(2, GetxattrArgs{top, "graftfs.pin"}).err, ENODATA);
  expect_moved(move(2, 0, top));
  ranks.settle(3 * kSecond);
  EXPECT_EQ(owners(top), std::vector<size_t>{0}) << "nothing takes it back";
  expect_all();
}

// -- under load ---------------------------------------------------------------------------------

struct MovesUnderLoad : Moves {
  void load(int clients) {
    std::vector<Ino> dirs = subdirs;
    dirs.push_back(top);
    for (int c = 0; c < clients; ++c)
      users.push_back(
          std::make_unique<MovingClient>(ranks, kRanks, static_cast<uint32_t>(c + 1), dirs));
    for (auto& user : users) user->begin();
  }
  void end_load() {
    for (auto& user : users) user->stop();
    ranks.executor.run_until(
        [&] { return std::all_of(users.begin(), users.end(), [](auto& u) { return u->idle(); }); });
    ranks.settle(200 * kMillisecond);
    for (auto& user : users) {
      for (const auto& [dir, names] : user->tree()) {
        for (const auto& [name, ino] : names) {
          EXPECT_TRUE(tree[dir].emplace(name, ino).second) << name;
          Reply found = ask(ranks, kRanks, GetattrArgs{ino});
          if (found.err == 0 && found.stat.is_dir()) tree[ino];
        }
      }
    }
  }
  std::vector<std::unique_ptr<MovingClient>> users;
};

TEST_F(MovesUnderLoad, NothingIsLost) {
  grow(30, 100);
  load(8);
  ranks.settle(20 * kMillisecond);
  for (int round = 0; round < 12; ++round) {
    Result<void> moved = move(round % 3, (round + 1) % 3, top);
    EXPECT_TRUE(moved) << describe(moved.error());
    ranks.settle(5 * kMillisecond);
  }
  end_load();
  uint64_t done = 0, redirected = 0;
  for (auto& user : users) {
    done += user->done();
    redirected += user->redirected();
  }
  std::printf("%lu operations, %lu redirected\n", done, redirected);
  EXPECT_GT(done, 1000u);
  EXPECT_GE(redirected, 12u);
  expect_at_rest();
  expect_all();
  restart_all();
  expect_all();
}

// -- kill points --------------------------------------------------------------------------------

// Every kill point of both sides: who dies there alone, or both together; and what then has to be.
struct Killed : MovesUnderLoad, ::testing::WithParamInterface<std::tuple<int, bool, bool>> {
  void run(bool with_load, bool both) {
    // Rank 0 has the parent, 1 exports, 2 imports.
    grow(6, 40);
    expect_moved(move(0, 1, top));
    // Something is clean, something is dirty.
    ranks.finish(ranks.rank(1).write_back_all());
    tree[subdirs[1]]["dirty"] = ranks.create(1, subdirs[1], "dirty");
    if (with_load) {
      load(4);
      ranks.settle(2 * kMillisecond);
    }
    const std::string_view name =
        point_name(static_cast<migration::Point>(std::get<0>(GetParam())));
    const bool gives_up = name.ends_with(".aborting");
    std::optional<Result<void>> result;
    KillAt kill(name.data());
    try {
      begin_move(1, 2, top, result);
      Migrations& importer = ranks.rank(2).migrations();
      if (gives_up) {
        ranks.executor.run_until([&] { return !importer.idle(); });
        ranks.cut(1, 2);
      }
      ranks.executor.run_until([&] { return result && importer.idle(); });
    } catch (const fault::Killed&) {
    }
    KillAt::disarm();
    ASSERT_TRUE(kill.reached) << name;
    if (gives_up) ranks.heal(1, 2);
    const size_t dead = name.starts_with("migration.export.") ? 1 : 2;
    const size_t other = 3 - dead;
    ranks.kill(dead);
    if (both) ranks.kill(other);
    ranks.settle(20 * kMillisecond);
    ranks.start(dead);
    if (both) ranks.start(other);
    for (auto& user : users) {
      user->resend(dead);
      if (both) user->resend(other);
    }
    for (auto& user : users) user->stop();
    ranks.settle(500 * kMillisecond);
    end_load();
    expect_at_rest();
    expect_all();
    ASSERT_EQ(owners(top).size(), 1u);
    const size_t at = owners(top)[0];
    Result<void> moved = move(at, (at + 1) % kRanks, top);
    EXPECT_TRUE(moved) << describe(moved.error());
    expect_at_rest();
    expect_all();
    restart_all();
    expect_at_rest();
    expect_all();
  }
};

TEST_P(Killed, ComesToRestWithOneOwner) { run(std::get<1>(GetParam()), std::get<2>(GetParam())); }

// All ranks lose power at that point: what was answered (strict) is there, and it has one owner.
struct PowerCut : Moves, ::testing::WithParamInterface<int> {
  static RankOptions strict() {
    RankOptions options;
    options.durability = Durability::strict;
    return options;
  }
  PowerCut() : Moves(strict()) {}
};

TEST_P(PowerCut, ComesToRestWithOneOwner) {
  grow(4, 20);
  expect_moved(move(0, 1, top));
  tree[subdirs[1]]["dirty"] = ranks.create(1, subdirs[1], "dirty");
  const std::string_view name = point_name(static_cast<migration::Point>(GetParam()));
  std::optional<Result<void>> result;
  KillAt kill(name.data());
  try {
    begin_move(1, 2, top, result);
    Migrations& importer = ranks.rank(2).migrations();
    if (name.ends_with(".aborting")) {
      ranks.executor.run_until([&] { return !importer.idle(); });
      ranks.cut(1, 2);
    }
    ranks.executor.run_until([&] { return result && importer.idle(); });
  } catch (const fault::Killed&) {
  }
  KillAt::disarm();
  ASSERT_TRUE(kill.reached) << name;
  if (name.ends_with(".aborting")) ranks.heal(1, 2);
  ranks.cut_power();
  for (size_t i = 0; i < kRanks; ++i) ranks.start(i);
  ranks.settle(500 * kMillisecond);
  expect_at_rest();
  expect_all();
}

INSTANTIATE_TEST_SUITE_P(Points, PowerCut, ::testing::Range(0, migration::kPoints),
                         [](const auto& info) {
                           std::string point =
                               point_name(static_cast<migration::Point>(info.param));
                           std::replace(point.begin(), point.end(), '.', '_');
                           return point;
                         });

INSTANTIATE_TEST_SUITE_P(Points, Killed,
                         ::testing::Combine(::testing::Range(0, migration::kPoints),
                                            ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           std::string name =
                               point_name(static_cast<migration::Point>(std::get<0>(info.param)));
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name + (std::get<1>(info.param) ? "_load" : "") +
                                  (std::get<2>(info.param) ? "_both" : "");
                         });

}  // namespace
}  // namespace graftfs
