// A journal on a disk in memory, what recovery makes of it, and what it refuses.

#include "recovery/recover.h"
#include "base/wait.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/event_loop.h"
#include "events/import.h"
#include "events/registry.h"
#include "events/trace.h"
#include "store/memory/memory_store.h"

namespace graftfs {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kVolume = 0x1122334455667788;
constexpr RankId kRank{0};
constexpr Ino kDir{0x100001}, kFar{0x100002};

DirHeader header(Ino ino, uint64_t version, Ino parent = {}) {
  DirHeader h;
  h.version = Version{version};
  h.at.parent = parent;
  if (parent) h.at.name = fmt::format("d{}", ino.v);
  h.inode.ino = ino;
  h.inode.mode = S_IFDIR | 0755;
  h.inode.nlink = 2;
  return h;
}

class RecoverTest : public ::testing::Test, protected JournalHooks {
 protected:
  RecoverTest() { open(); }

  // A new process on the same disk.
  void open() {
    journal_.reset();
    store_ = std::make_unique<MemoryStore>(loop_, disk_, nullptr);
    auto owned = wait(store_->own_journal(kRank));
    ASSERT_TRUE(owned.has_value());
    device_ = *owned;
  }
  void begin_journal() {
    JournalOptions options;
    options.volume = kVolume;
    options.rank = kRank;
    options.epoch = Epoch{1};
    options.idle_sync = options.longest_unsynced = 3600 * kSecond;  // only when asked
    options.segments_per_major = 2;
    JournalHooks& hooks = *this;
    journal_ = std::make_unique<Journal>(loop_, *device_, store_->data(), hooks, options, Lsn{},
                                         SegmentId{1}, std::deque<SegmentState>{});
    ASSERT_TRUE(wait(journal_->start()).has_value());
    Import root;
    root.root = kRootIno;
    root.path = "/";
    std::string payload;
    ByteWriter w(payload);
    encode_import(w, root, {header(kRootIno, 1)});
    state_.imports[kRootIno] = root;
    append(EventType::import, payload);
  }
  void begin_segment(SegmentId, bool major, std::string& payload) override {
    encode_segment_payload(major ? &state_ : nullptr, payload);
    payload += '\0';  // no traces
  }
  void journal_progress() override {}
  void journal_failed(const Error& error) override { ADD_FAILURE() << error.message; }

  Lsn append(EventType type, const std::string& payload) {
    return append_raw(static_cast<uint8_t>(type), payload);
  }
  Lsn append_raw(uint8_t type, const std::string& payload) {
    return journal_->append(type, [&](std::string& out) { out += payload; });
  }
  // A change of one directory that the event names in full.
  Lsn change(const DirHeader& h) {
    TreeEvent event;
    event.type = EventType::inode;
    event.dirs.push_back({.dirty = true, .full = true, .header = h});
    std::string payload(1, '\0');
    ByteWriter w(payload);
    encode_tree_event(w, event);
    return append(EventType::inode, payload);
  }
  void sync() { ASSERT_TRUE(wait(journal_->sync()).has_value()); }
  // Everything appended is written, and not synced.
  void write() {
    journal_->flush();
    while (journal_->written() < journal_->appended()) loop_.run_one();
  }
  void write_data() {
    auto wrote = wait(store_->data().write(Ino{0x100100}, 0, "data", 0));
    ASSERT_TRUE(wrote.has_value());
  }
  // The process dies; recovery in a new one. `survived`: the machine did not.
  Result<Recovered> run(bool survived = true, bool accept_loss = false) {
    open();
    cache_ = std::make_unique<Cache>();
    recovered_state_ = {};
    RecoveryOptions options;
    options.volume = kVolume;
    options.rank = kRank;
    options.unsynced_survived = survived;
    options.accept_loss = accept_loss;
    options.must_exist = must_exist_;
    options.volume_name = "VOL";
    return wait(
        recover(loop_, *device_, store_->dirs(), *cache_, recovered_state_, std::move(options)));
  }
  uint64_t version_of(Ino ino) {
    Dir* dir = cache_->find_dir(ino);
    return dir ? dir->header.version.v : 0;
  }
  void put_in_store(const DirHeader& h) {
    DirUpdate update;
    update.dir = h.inode.ino;
    update.header = encode_dir_header(update.dir, h);
    std::vector<DirUpdate> updates;
    updates.push_back(std::move(update));
    ASSERT_TRUE(wait(store_->dirs().commit(std::move(updates))).has_value());
  }

  template <class T>
  T wait(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }

  EventLoop loop_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<MemoryStore> store_;
  JournalDevice* device_ = nullptr;
  std::unique_ptr<Journal> journal_;
  RankState state_;
  std::unique_ptr<Cache> cache_;
  RankState recovered_state_;
  bool must_exist_ = false;
};

// -- what is kept -------------------------------------------------------------------------------

TEST_F(RecoverTest, AVolumeThatWasNeverServedIsFresh) {
  auto recovered = run();
  ASSERT_TRUE(recovered.has_value());
  EXPECT_TRUE(recovered->fresh);
  EXPECT_EQ(cache_->usage().dirs, 0u);
}

TEST_F(RecoverTest, AJournalThatShouldBeThereIsMissed) {
  must_exist_ = true;
  auto recovered = run();
  ASSERT_FALSE(recovered.has_value());
  EXPECT_TRUE(recovered.error().is_damage());
  EXPECT_FALSE(recovered.error().message.empty());
}

TEST_F(RecoverTest, WhatWasLoggedComesBackDirtyAndAttached) {
  begin_journal();
  change(header(kRootIno, 2));
  Lsn last = change(header(kDir, 1, kRootIno));
  sync();
  auto recovered = run();
  ASSERT_TRUE(recovered.has_value()) << recovered.error().message;
  EXPECT_FALSE(recovered->fresh);
  EXPECT_EQ(recovered->events, 3u);
  EXPECT_GE(recovered->last, last);
  EXPECT_EQ(recovered->epoch, Epoch{1});
  EXPECT_EQ(recovered->cut, 0u);
  EXPECT_THAT(recovered->messages, IsEmpty());
  EXPECT_EQ(cache_->dirty_count(), 2u);
  ASSERT_NE(cache_->find_dir(kDir), nullptr);
  EXPECT_EQ(cache_->find_dir(kDir)->parent, cache_->find_dir(kRootIno));
  EXPECT_TRUE(recovered_state_.is_root(kRootIno));
}

TEST_F(RecoverTest, AfterTheProcessDiedWhatWasOnlyWrittenIsKept) {
  begin_journal();
  change(header(kRootIno, 2));
  sync();
  write_data();
  change(header(kRootIno, 3));
  write();
  auto recovered = run(true);
  ASSERT_TRUE(recovered.has_value());
  EXPECT_EQ(recovered->cut, 0u);
  EXPECT_EQ(version_of(kRootIno), 3u);
}

// The event may have survived the power cut; the data that it reveals need not have.
TEST_F(RecoverTest, AfterAPowerCutNothingIsKeptWhoseDataMayBeMissing) {
  begin_journal();
  Lsn safe = change(header(kRootIno, 2));
  sync();
  write_data();
  change(header(kRootIno, 3));
  change(header(kRootIno, 4));
  write();
  auto recovered = run(false);
  ASSERT_TRUE(recovered.has_value());
  EXPECT_GE(recovered->cut, 2u);
  EXPECT_EQ(version_of(kRootIno), 2u);
  EXPECT_GE(recovered->last, safe);
  // Recovery has written nothing: again it is the same.
  auto again = run(false);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->last, recovered->last);
  EXPECT_EQ(version_of(kRootIno), 2u);
}

TEST_F(RecoverTest, AfterAPowerCutWhatWasSyncedIsKeptDataOrNot) {
  begin_journal();
  write_data();
  change(header(kRootIno, 3));
  sync();
  auto recovered = run(false);
  ASSERT_TRUE(recovered.has_value());
  EXPECT_EQ(version_of(kRootIno), 3u);
}

TEST_F(RecoverTest, TheCheckpointOfTheOldestMajorSegmentIsWhereReplayStarts) {
  begin_journal();
  change(header(kRootIno, 2));
  state_.inos.push_back({0x100005, 0x200000});
  journal_->roll(true);
  SegmentId second = journal_->current_segment();
  change(header(kRootIno, 3));
  sync();
  ASSERT_TRUE(wait(journal_->trim(second)).has_value());
  auto recovered = run();
  // The rest of the journal still knows what only the segments before it said.
  ASSERT_TRUE(recovered.has_value()) << recovered.error().message;
  EXPECT_EQ(recovered->events, 1u);
  EXPECT_EQ(version_of(kRootIno), 3u);
  EXPECT_TRUE(recovered_state_.is_root(kRootIno));
  ASSERT_EQ(recovered_state_.inos.size(), 1u);
  EXPECT_EQ(recovered_state_.inos[0].next, 0x100005u);
}

// -- damage -------------------------------------------------------------------------------------

TEST_F(RecoverTest, DamageIsRefusedUnlessItsLossWasAccepted) {
  begin_journal();
  change(header(kRootIno, 2));
  sync();
  const uint64_t at = journal_->segments().back().bytes;
  change(header(kRootIno, 3));
  change(header(kRootIno, 4));
  sync();
  ASSERT_TRUE(wait(journal_->close()).has_value());
  ASSERT_TRUE(disk_->flip_journal_bit(kRank, SegmentId{1}, (at + 60) * 8));

  auto refused = run();
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(refused.error().is_damage());
  EXPECT_THAT(refused.error().message, HasSubstr("offset"));
  EXPECT_THAT(refused.error().message, HasSubstr("--accept-loss"));

  auto accepted = run(true, true);
  ASSERT_TRUE(accepted.has_value());
  ASSERT_EQ(accepted->messages.size(), 1u);
  EXPECT_THAT(accepted->messages[0], HasSubstr("lost"));
  EXPECT_EQ(version_of(kRootIno), 2u);
}

TEST_F(RecoverTest, AnEventThatMakesNoSenseStopsItAndIsNamed) {
  for (bool known_type : {true, false}) {
    disk_ = std::make_shared<MemoryDisk>();
    open();
    state_ = {};
    begin_journal();
    Lsn bad = append_raw(known_type ? static_cast<uint8_t>(EventType::link) : 200, "nonsense");
    sync();
    auto recovered = run();
    ASSERT_FALSE(recovered.has_value());
    EXPECT_TRUE(recovered.error().is_damage());
    EXPECT_THAT(recovered.error().message, HasSubstr(fmt::format("event {} at offset", bad.v)));
  }
}

// -- phase 2 ------------------------------------------------------------------------------------

TEST_F(RecoverTest, WhatDanglesIsHungWhereTheStoreSays) {
  begin_journal();
  change(header(kFar, 5, kDir));  // its parent is not in the journal
  sync();
  put_in_store(header(kDir, 4, Ino{0x100009}));
  put_in_store(header(Ino{0x100009}, 3, kRootIno));
  auto recovered = run();
  ASSERT_TRUE(recovered.has_value()) << recovered.error().message;
  EXPECT_EQ(Cache::path_of(*cache_->find_dir(kFar)),
            fmt::format("/d{}/d{}/d{}", 0x100009, kDir.v, kFar.v));
  EXPECT_FALSE(cache_->find_dir(kDir)->dirty());
  EXPECT_EQ(cache_->dirty_count(), 1u);
}

TEST_F(RecoverTest, AParentThatIsNowhereIsDamage) {
  begin_journal();
  change(header(kFar, 5, kDir));
  sync();
  auto recovered = run();
  ASSERT_FALSE(recovered.has_value());
  EXPECT_TRUE(recovered.error().is_damage());
  EXPECT_THAT(recovered.error().message, HasSubstr("0x100001"));
}

TEST_F(RecoverTest, ADamagedParentIsNotServed) {
  begin_journal();
  change(header(kFar, 5, kDir));
  sync();
  put_in_store(header(kDir, 4, kRootIno));
  ASSERT_TRUE(disk_->flip_header_bit(kDir, 77));
  auto recovered = run();
  ASSERT_FALSE(recovered.has_value());
  EXPECT_TRUE(recovered.error().is_damage());
}

}  // namespace
}  // namespace graftfs
