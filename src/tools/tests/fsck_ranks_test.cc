// fsck of a volume that several ranks share: their journals count together, whatever a crash has
// left between them, and who has what is checked and repaired.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "events/import.h"
#include "events/ino_alloc.h"
#include "migration/points.h"
#include "server/migrate.h"
#include "server/tests/two_ranks.h"
#include "tools/fsck.h"

namespace graftfs::tools {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Leaves the executor where a kill point was reached.
struct KillAt {
  explicit KillAt(std::string name) : name_(std::move(name)) {
    fault::set_handler(&KillAt::hit, this);
    fault::Site::armed = true;
  }
  ~KillAt() {
    fault::Site::armed = false;
    fault::set_handler(nullptr, nullptr);
  }
  static void hit(void* self, const fault::Site& site) {
    auto* at = static_cast<KillAt*>(self);
    if (at->name_ != site.name || at->reached) return;
    at->reached = true;
    throw fault::Killed{};
  }
  std::string name_;
  bool reached = false;
};

class FsckRanks : public ::testing::Test {
 protected:
  FsckRanks() {
    dir_ = ranks_.mkdir(0, kRootIno, "dir");
    here_ = ranks_.mkdir(0, kRootIno, "here");
    inner_ = ranks_.mkdir(0, dir_, "inner");
    move(dir_);
    file_ = ranks_.create(1, dir_, "file");
    for (int i = 0; i < 10; ++i) ranks_.create(1, inner_, fmt::format("f{}", i));
  }

  // From rank 0 to rank 1.
  void move(Ino root) {
    std::optional<Result<void>> result;
    ranks_.rank(0).migrations().start(root, RankId{1},
                                      [&result](Result<void> r) { result = std::move(r); });
    ranks_.executor.run_until([&] { return result.has_value(); });
    ASSERT_TRUE(*result) << describe(result->error());
  }
  void kill_all() {
    for (size_t i : {0, 1}) ranks_.kill(i);
  }
  void start_all() {
    for (size_t i : {0, 1}) ranks_.start(i);
    ranks_.settle();
  }
  // Logged at a rank, durable, and everybody dead after it.
  void log(size_t rank, EventType type, const std::string& payload) {
    ranks_.rank(rank).core().log_event(type, payload);
    ASSERT_EQ(ranks_.call(rank, SyncArgs{}).err, 0);
    kill_all();
  }
  template <class T>
  T wait(Task<Result<T>> task) {
    std::optional<Result<T>> result;
    TaskScope scope;
    scope.spawn(keep(std::move(task), result));
    ranks_.executor.run_until([&] { return result.has_value(); });
    EXPECT_TRUE(*result) << describe(result->error());
    return *result ? std::move(**result) : T{};
  }
  template <class T>
  static Task<void> keep(Task<Result<T>> task, std::optional<Result<T>>& result) {
    result = co_await task;
  }
  JournalSource source(Store& store) {
    return {.executor = &ranks_.executor, .store = &store, .volume = 1, .volume_name = "test"};
  }
  FsckReport check() {
    MemoryStore store(ranks_.executor, ranks_.disk, nullptr);
    return wait(check_volume(source(store)));
  }
  std::vector<ProblemKind> kinds(const FsckReport& report) {
    std::vector<ProblemKind> out;
    for (const Problem& p : report.problems) out.push_back(p.kind);
    return out;
  }
  void expect_clean(const std::string& when) {
    const FsckReport report = check();
    for (const Problem& p : report.problems) EXPECT_TRUE(p.note) << when << ": " << p.sentence;
  }
  // Repairs; then nothing is wrong, and the ranks serve.
  void repair() {
    {
      MemoryStore store(ranks_.executor, ranks_.disk, nullptr);
      RepairResult result = wait(repair_volume(source(store)));
      EXPECT_THAT(result.before.problems, Not(IsEmpty()));
      for (const Problem& p : result.after.problems) ADD_FAILURE() << p.sentence;
    }
    EXPECT_THAT(kinds(check()), IsEmpty());
    start_all();
    EXPECT_EQ(ranks_.call(0, LookupArgs{kRootIno, "here"}).err, 0);
    const size_t owner = owner_of(here_);
    ASSERT_LT(owner, 2u);
    ranks_.create(owner, here_, "after");
    kill_all();
    EXPECT_THAT(kinds(check()), IsEmpty());
  }
  size_t owner_of(Ino ino) {
    for (size_t i : {0, 1})
      if (ranks_.call(i, GetattrArgs{ino}).err == 0) return i;
    return 2;
  }

  Ranks ranks_{2};
  Ino dir_, here_, inner_, file_;
};

TEST_F(FsckRanks, WhatIsOnlyInTheirJournalsCounts) {
  ASSERT_EQ(ranks_.call(0, LinkArgs{file_, here_, "link"}).err, 0);
  ASSERT_EQ(ranks_.call(0, RenameArgs{dir_, "inner", here_, "moved"}).err, 0);
  ranks_.settle();
  kill_all();
  const FsckReport report = check();
  EXPECT_THAT(kinds(report), IsEmpty()) << report.problems.front().sentence;
  EXPECT_EQ(report.ranks, 2u);
  EXPECT_EQ(report.files, 11u);
  EXPECT_EQ(report.dirs, 4 + 4u) << "and two hidden ones of each rank";
}

TEST_F(FsckRanks, AfterADeathOfAllAtAnyPointOfAMigration) {
  size_t reached = 0;
  for (int p = 0; p < migration::kPoints; ++p) {
    const std::string name = migration::point_name(static_cast<migration::Point>(p));
    const Ino tree = ranks_.mkdir(0, kRootIno, fmt::format("tree{}", p));
    for (int i = 0; i < 5; ++i) ranks_.create(0, tree, fmt::format("f{}", i));
    {
      KillAt kill(name);
      std::optional<Result<void>> result;
      try {
        ranks_.rank(0).migrations().start(tree, RankId{1},
                                          [&result](Result<void> r) { result = std::move(r); });
        ranks_.executor.run_until([&] { return result && ranks_.rank(1).migrations().idle(); });
      } catch (const fault::Killed&) {
      }
      reached += kill.reached;
    }
    kill_all();
    const FsckReport report = check();
    EXPECT_THAT(kinds(report), IsEmpty()) << name << ": " << report.problems.front().sentence;
    start_all();
    EXPECT_LT(owner_of(tree), 2u) << name;
  }
  EXPECT_GE(reached, 25u);
  kill_all();
  expect_clean("at the end");
}

TEST_F(FsckRanks, AfterADeathOfAllAtAnyPointOfARenameBetweenThem) {
  size_t reached = 0, unfinished = 0;
  int turn = 0;
  for (const char* name :
       {"two_party.participant.prepare_logged", "two_party.participant.prepare_durable",
        "two_party.coordinator.all_prepared", "two_party.coordinator.commit_logged",
        "two_party.coordinator.commit_durable", "two_party.coordinator.decide_sent",
        "two_party.participant.decide_received", "two_party.participant.commit_logged",
        "two_party.participant.commit_durable", "two_party.participant.done_sent",
        "two_party.coordinator.all_done", "two_party.coordinator.close_logged"}) {
    for (bool directory : {false, true}) {
      const std::string from = fmt::format("n{}", turn++);
      if (directory) {
        const Ino made = ranks_.mkdir(1, dir_, from);
        ranks_.create(1, made, "in");
      } else {
        ranks_.create(1, dir_, from);
      }
      {
        KillAt kill(name);
        try {
          ranks_.call(0, RenameArgs{dir_, from, here_, from});
          ranks_.settle();
        } catch (const fault::Killed&) {
        }
        reached += kill.reached;
      }
      kill_all();
      const FsckReport report = check();
      for (const Problem& p : report.problems) {
        EXPECT_TRUE(p.note) << name << ": " << p.sentence;
        unfinished += p.kind == ProblemKind::unfinished;
      }
      if (unfinished == 1 && !report.problems.empty()) {
        // To begin the journals anew would forget what one has promised and the other decided.
        MemoryStore store(ranks_.executor, ranks_.disk, nullptr);
        std::optional<Result<RepairResult>> refused;
        TaskScope scope;
        scope.spawn(keep(repair_volume(source(store)), refused));
        ranks_.executor.run_until([&] { return refused.has_value(); });
        ASSERT_FALSE(*refused);
        EXPECT_EQ(refused->error().code, EBUSY);
        EXPECT_THAT(describe(refused->error()), HasSubstr("are not finished; serve it"));
      }
      start_all();
      kill_all();
      EXPECT_THAT(kinds(check()), IsEmpty()) << name << ", once they have met";
      start_all();
    }
  }
  EXPECT_GE(reached, 20u);
  EXPECT_GE(unfinished, 4u);
}

TEST_F(FsckRanks, ADirectoryOfTwoRanksStaysWithTheLastOne) {
  Import import;
  import.root = here_;
  import.path = "/here";
  import.parent = kRootIno;
  import.moves = 1;
  std::string payload;
  ByteWriter w(payload);
  encode_import(w, import, {ranks_.rank(0).core().cache().find_dir(here_)->header});
  log(1, EventType::import, payload);
  EXPECT_THAT(kinds(check()), Contains(ProblemKind::two_authorities));
  repair();
  start_all();
  EXPECT_EQ(owner_of(here_), 1u);
}

TEST_F(FsckRanks, ADirectoryOfNoRankBecomesAPartOfWhatItHangsIn) {
  Export exported{.root = here_, .id = {RankId{0}, ranks_.rank(0).core().epoch(), 1000}};
  exported.to = RankId{1};
  exported.moves = 1;
  exported.within = exported.parent = kRootIno;
  ranks_.finish(ranks_.rank(0).write_back_all());
  std::string payload;
  ByteWriter w(payload);
  encode_export(w, exported);
  log(0, EventType::export_, payload);
  EXPECT_THAT(kinds(check()), Contains(ProblemKind::no_authority));
  repair();
  start_all();
  EXPECT_EQ(owner_of(here_), 0u);
}

TEST_F(FsckRanks, ASubtreeThatIsNotThereIsForgotten) {
  Import import;
  import.root = Ino{0x7777'7777};
  import.parent = here_;
  std::string payload;
  ByteWriter w(payload);
  encode_import(w, import, {});
  log(1, EventType::import, payload);
  EXPECT_THAT(kinds(check()), Contains(ProblemKind::lost_subtree));
  repair();
}

TEST_F(FsckRanks, NumbersThatTwoRanksWouldGiveStayWithOne) {
  const InoRange range = ranks_.rank(0).core().state().inos.back();
  std::string payload;
  ByteWriter w(payload);
  encode_ino_alloc(w, range.next + 1, range.end + 10);
  log(1, EventType::ino_alloc, payload);
  EXPECT_THAT(kinds(check()), Contains(ProblemKind::ino_range));
  repair();
}

}  // namespace
}  // namespace graftfs::tools
