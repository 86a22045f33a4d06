// fsck finds each kind of problem, repairs it, and then finds nothing.
#include "tools/fsck.h"
#include "base/wait.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/event_loop.h"
#include "events/event.h"
#include "server/rank.h"
#include "store/memory/memory_store.h"
#include "tools/explain.h"
#include "tools/store_editor.h"

namespace graftfs::tools {
namespace {

constexpr uint64_t kVolume = 77;
const Ino kLinked = linked_dir_ino(RankId{0}), kOrphans = orphans_dir_ino(RankId{0});

class Fsck : public ::testing::Test {
 protected:
  Fsck() {
    boot();
    serve([this](Rank& rank) {
      docs_ = must(rank, MkdirArgs{kRootIno, "docs", 0755}).ino;
      inner_ = must(rank, MkdirArgs{docs_, "inner", 0755}).ino;
      file_ = must(rank, CreateArgs{docs_, "file", 0644}).ino;
      for (int i = 0; i < 20; ++i) must(rank, CreateArgs{inner_, "f" + std::to_string(i), 0644});
      twice_ = must(rank, CreateArgs{kRootIno, "one", 0644}).ino;
      must(rank, LinkArgs{twice_, docs_, "two"});
    });
  }

  void boot() {
    store_.reset();
    store_ = std::make_unique<MemoryStore>(loop_, disk_, &random_);
  }
  template <class T>
  T run(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }
  template <class A>
  Stat must(Rank& rank, A args) {
    Request request;
    request.args = std::move(args);
    Promised<Reply> done(loop_);
    rank.submit(std::move(request), [done](Reply reply) { done.set(std::move(reply)); });
    auto wait = [](Promised<Reply> p) -> Task<Reply> { co_return co_await p; };
    Reply reply = run(wait(done));
    EXPECT_EQ(reply.err, 0);
    return reply.stat;
  }
  template <class F>
  void serve(F work, bool stop = true) {
    RankOptions options;
    options.volume = kVolume;
    Rank rank(loop_, *store_, options);
    ASSERT_TRUE(run(rank.start()));
    work(rank);
    if (stop) {
      auto stopped = run(rank.stop());
      ASSERT_TRUE(stopped) << describe(stopped.error());
    } else {
      must(rank, SyncArgs{});
    }
  }
  JournalSource source() {
    return {.executor = &loop_, .store = store_.get(), .volume = kVolume, .volume_name = "v"};
  }
  std::set<ProblemKind> check() {
    auto report = run(check_volume(source()));
    EXPECT_TRUE(report) << (report ? "" : describe(report.error()));
    std::set<ProblemKind> kinds;
    for (const Problem& p : report->problems) {
      kinds.insert(p.kind);
      EXPECT_FALSE(p.sentence.empty());
      EXPECT_FALSE(p.repair.empty());
    }
    return kinds;
  }
  // Repairs; the volume is clean then, and a rank can serve it.
  void repair() {
    auto result = run(repair_volume(source()));
    ASSERT_TRUE(result) << describe(result.error());
    for (const Problem& p : result->after.problems) ADD_FAILURE() << p.sentence;
    boot();
    EXPECT_THAT(check(), ::testing::IsEmpty());
    serve([](Rank&) {});
    EXPECT_THAT(check(), ::testing::IsEmpty());
  }
  // What changes the store behind the journal's back begins the journal anew first, so that no
  // replay covers it.
  template <class F>
  void damage(F edit) {
    ASSERT_TRUE(run(repair_volume(source())));
    boot();
    StoreEditor editor(store_->dirs());
    edit(editor);
    auto done = run(editor.commit());
    ASSERT_TRUE(done) << describe(done.error());
  }
  EntryValue link(EntryKind kind, Ino ino, uint32_t type) {
    EntryValue value;
    value.kind = kind;
    value.ino = ino;
    value.type = type;
    return value;
  }
  Ino find(Ino dir, const std::string& name) {
    StoreEditor editor(store_->dirs());
    auto value = run(editor.entry(dir, name));
    return value ? value->ino : Ino{};
  }
  Ino lost_found(Ino ino) {
    Ino home = find(kRootIno, "lost+found");
    return home ? find(home, "#" + std::to_string(ino.v)) : Ino{};
  }

  EventLoop loop_;
  SystemRandom random_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<MemoryStore> store_;
  Ino docs_, inner_, file_, twice_;
};

TEST_F(Fsck, ACleanVolumeIsClean) {
  EXPECT_THAT(check(), ::testing::IsEmpty());
  repair();
}

TEST_F(Fsck, WhatOnlyTheJournalHoldsCounts) {
  serve([this](Rank& rank) { must(rank, MkdirArgs{docs_, "fresh", 0755}); }, false);
  boot();
  EXPECT_THAT(check(), ::testing::IsEmpty());
  EXPECT_EQ(find(docs_, "fresh"), Ino{});
  repair();
  EXPECT_NE(find(docs_, "fresh"), Ino{});
}

TEST_F(Fsck, ADirectoryWithoutANameIsNamedInLostFound) {
  damage([this](StoreEditor& e) { ASSERT_TRUE(run(e.erase(kRootIno, "docs"))); });
  auto kinds = check();
  EXPECT_TRUE(kinds.contains(ProblemKind::lost_dir));
  repair();
  EXPECT_EQ(lost_found(docs_), docs_);
  EXPECT_EQ(find(docs_, "inner"), inner_);
}

TEST_F(Fsck, ACircleIsCutOnce) {
  damage([this](StoreEditor& e) {
    ASSERT_TRUE(run(e.erase(kRootIno, "docs")));
    ASSERT_TRUE(run(e.put(inner_, "up", link(EntryKind::dir_link, docs_, S_IFDIR))));
  });
  EXPECT_TRUE(check().contains(ProblemKind::lost_dir));
  repair();
  EXPECT_EQ(lost_found(docs_), docs_);
}

TEST_F(Fsck, NamesThatLeadNowhereGo) {
  damage([this](StoreEditor& e) {
    ASSERT_TRUE(run(e.put(docs_, "a", link(EntryKind::dir_link, Ino{0x7777}, S_IFDIR))));
    ASSERT_TRUE(run(e.put(docs_, "b", link(EntryKind::remote_link, Ino{0x7778}, S_IFREG))));
  });
  auto kinds = check();
  EXPECT_TRUE(kinds.contains(ProblemKind::missing_dir));
  EXPECT_TRUE(kinds.contains(ProblemKind::missing_file));
  EXPECT_TRUE(kinds.contains(ProblemKind::entry_count));
  repair();
  EXPECT_EQ(find(docs_, "a"), Ino{});
}

TEST_F(Fsck, ASecondNameOfADirectoryGoes) {
  damage([this](StoreEditor& e) {
    ASSERT_TRUE(run(e.put(kRootIno, "again", link(EntryKind::dir_link, inner_, S_IFDIR))));
  });
  EXPECT_TRUE(check().contains(ProblemKind::dir_named_twice));
  repair();
  EXPECT_EQ(find(docs_, "inner"), inner_);
  EXPECT_EQ(find(kRootIno, "again"), Ino{});
}

TEST_F(Fsck, HeadersAreSetRight) {
  damage([this](StoreEditor& e) {
    DirHeader* docs = *run(e.header(docs_));
    docs->inode.size = 99;
    docs->inode.nlink = 7;
    DirHeader* inner = *run(e.header(inner_));
    inner->at = {kRootIno, "elsewhere"};
  });
  EXPECT_THAT(check(),
              ::testing::UnorderedElementsAre(ProblemKind::entry_count, ProblemKind::dir_links,
                                              ProblemKind::backpointer));
  repair();
}

TEST_F(Fsck, LinkCountsAreSetRight) {
  damage([this](StoreEditor& e) {
    EntryValue file = *run(e.entry(docs_, "file"));
    file.inode.nlink = 5;
    ASSERT_TRUE(run(e.put(docs_, "file", file)));
    EntryValue kept = *run(e.entry(kLinked, hidden_name(twice_)));
    kept.inode.nlink = 9;
    ASSERT_TRUE(run(e.put(kLinked, hidden_name(twice_), kept)));
  });
  EXPECT_THAT(check(), ::testing::UnorderedElementsAre(ProblemKind::file_links));
  repair();
}

TEST_F(Fsck, AFileThatNoNameLeadsToIsNamed) {
  damage([this](StoreEditor& e) {
    ASSERT_TRUE(run(e.erase(kRootIno, "one")));
    ASSERT_TRUE(run(e.erase(docs_, "two")));
  });
  EXPECT_TRUE(check().contains(ProblemKind::lost_file));
  repair();
  EXPECT_EQ(lost_found(twice_), twice_);
}

TEST_F(Fsck, AnInodeInTwoPlacesBecomesLinks) {
  damage([this](StoreEditor& e) {
    EntryValue file = *run(e.entry(docs_, "file"));
    ASSERT_TRUE(run(e.put(kRootIno, "copy", file)));
  });
  EXPECT_TRUE(check().contains(ProblemKind::file_named_twice));
  repair();
  EXPECT_EQ(find(kRootIno, "copy"), file_);
  EXPECT_EQ(find(docs_, "file"), file_);
}

TEST_F(Fsck, AnOrphanWithALinkCountIsNotPurged) {
  damage([this](StoreEditor& e) {
    EntryValue file = *run(e.entry(docs_, "file"));
    ASSERT_TRUE(run(e.erase(docs_, "file")));
    ASSERT_TRUE(run(e.put(kOrphans, hidden_name(file_), file)));
  });
  EXPECT_TRUE(check().contains(ProblemKind::orphan));
  repair();
  EXPECT_EQ(lost_found(file_), file_);
}

TEST_F(Fsck, DataThatNoFileClaimsIsANoteAndIsKept) {
  Ino stray{0x123456};
  ASSERT_TRUE(run(store_->data().write(stray, 0, "kept bytes", 0)));
  auto report = run(check_volume(source()));
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->clean());
  ASSERT_EQ(report->problems.size(), 1u);
  EXPECT_TRUE(report->problems[0].note);
  repair();
  EXPECT_EQ(lost_found(stray), stray);
  char bytes[11] = {};
  ASSERT_TRUE(run(store_->data().read(stray, 0, bytes, 10)));
  EXPECT_STREQ(bytes, "kept bytes");
}

TEST_F(Fsck, ADamagedValueCostsOnlyItself) {
  damage([](StoreEditor&) {});
  DirUpdate update;
  update.dir = inner_;
  update.put.emplace_back(entry_key("f3"), "not a value");
  std::vector<DirUpdate> updates{update};
  ASSERT_TRUE(run(store_->dirs().commit(updates)));
  EXPECT_TRUE(check().contains(ProblemKind::damaged_dir));
  repair();
  EXPECT_EQ(find(inner_, "f3"), Ino{});
  EXPECT_NE(find(inner_, "f4"), Ino{});
}

TEST_F(Fsck, AMissingRootIsMadeAndEverythingKept) {
  damage([](StoreEditor&) {});
  DirUpdate update;
  update.dir = kRootIno;
  update.remove = true;
  std::vector<DirUpdate> updates{update};
  ASSERT_TRUE(run(store_->dirs().commit(updates)));
  EXPECT_TRUE(check().contains(ProblemKind::missing_root));
  repair();
  EXPECT_EQ(lost_found(docs_), docs_);
  EXPECT_EQ(find(docs_, "file"), file_);
}

TEST_F(Fsck, TheJournalExplainsAFileThatIsGone) {
  Ino gone;
  serve(
      [&](Rank& rank) {
        gone = must(rank, CreateArgs{docs_, "brief", 0640}).ino;
        must(rank, RenameArgs{docs_, "brief", kRootIno, "moved"});
        must(rank, UnlinkArgs{kRootIno, "moved"});
      },
      false);
  boot();
  auto journal = run(replay_journal(source(), false, true));
  ASSERT_TRUE(journal) << describe(journal.error());
  auto found = run(resolve_path(**journal, store_->dirs(), "/moved"));
  ASSERT_TRUE(found) << describe(found.error());
  EXPECT_EQ(found->ino, gone);
  EXPECT_TRUE(found->gone);
  auto events = explain(**journal, gone);
  ASSERT_GE(events.size(), 3u);
  EXPECT_THAT(events[0].words, ::testing::HasSubstr("created as a file named /docs/brief"));
  EXPECT_THAT(events[1].words, ::testing::HasSubstr("got the name /moved"));
  EXPECT_THAT(events[2].words, ::testing::HasSubstr("lost the name /moved"));
  auto nothing = run(resolve_path(**journal, store_->dirs(), "/never"));
  EXPECT_FALSE(nothing);
}

}  // namespace
}  // namespace graftfs::tools
