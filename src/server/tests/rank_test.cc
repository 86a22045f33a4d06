#include <set>

#include "server/tests/rank_fixture.h"

namespace graftfs {
namespace {

class RankTest : public RankFixture {};

std::vector<std::string> names(const Reply& reply) {
  std::vector<std::string> out;
  for (const ListedEntry& e : reply.entries) out.push_back(e.name);
  std::sort(out.begin(), out.end());
  return out;
}

TEST_F(RankTest, AFreshVolumeHasARoot) {
  Reply reply = call(GetattrArgs{kRootIno});
  EXPECT_EQ(reply.err, 0);
  EXPECT_TRUE(reply.stat.is_dir());
  EXPECT_EQ(reply.stat.nlink, 2u);
}

TEST_F(RankTest, WhatWasMadeIsThereAfterAProcessDeath) {
  Ino a = mkdir(kRootIno, "a");
  Ino f = create(a, "f");
  crash();
  start();
  Reply reply = call(LookupArgs{kRootIno, "a"});
  ASSERT_EQ(reply.err, 0);
  EXPECT_EQ(reply.stat.ino, a);
  reply = call(LookupArgs{a, "f"});
  ASSERT_EQ(reply.err, 0);
  EXPECT_EQ(reply.stat.ino, f);
  EXPECT_EQ(names(call(ReaddirArgs{a, 0, 100, false})), std::vector<std::string>{"f"});
}

TEST_F(RankTest, WhatWasMadeIsThereAfterACleanStopAndEviction) {
  Ino a = mkdir(kRootIno, "a");
  for (int i = 0; i < 3000; ++i) create(a, "f" + std::to_string(i));
  stop();
  start();
  EXPECT_EQ(call(LookupArgs{a, "f77"}).err, 0);
  EXPECT_EQ(call(LookupArgs{a, "f3000"}).err, ENOENT);
  size_t seen = 0;
  uint64_t cookie = 0;
  for (;;) {
    Reply page = call(ReaddirArgs{a, cookie, 500, true});
    ASSERT_EQ(page.err, 0);
    for (const ListedEntry& e : page.entries) {
      EXPECT_GT(e.cookie, cookie);
      cookie = e.cookie;
      seen++;
    }
    if (page.end) break;
  }
  EXPECT_EQ(seen, 3000u);
}

// The store may be busy for a long time with a large commit.
TEST_F(RankTest, TheNextInodeNumbersAreThereBeforeTheLastIsGivenOut) {
  stop();
  disk_ = std::make_shared<MemoryDisk>();  // so that the first range is a small one, too
  options_.ino_range = 256;
  start();
  Ino dir = mkdir(kRootIno, "dir");
  const uint64_t fetches = rank_->stats().fetches;
  std::set<Ino> given;
  for (int i = 0; i < 1000; ++i) given.insert(create(dir, "f" + std::to_string(i)));
  EXPECT_EQ(given.size(), 1000u);
  EXPECT_EQ(rank_->stats().fetches, fetches);  // no request has waited for them
}

// Another owner may have written since; or what is in the journal was written back, and more.
TEST_F(RankTest, WhatIsReplayedDoesNotOverwriteWhatTheStoreHasNewer) {
  Ino dir = mkdir(kRootIno, "dir");
  Ino file = create(dir, "file");
  crash();
  const EntryKey key = entry_key(name_hash("file"), "file");
  EntryValue newer{.kind = EntryKind::primary, .version = Version{1000}, .ino = file};
  newer.type = S_IFREG;
  newer.inode.ino = file;
  newer.inode.mode = S_IFREG | 0600;
  DirHeader header;
  header.version = Version{1000};
  header.inode.ino = dir;
  header.inode.mode = S_IFDIR | 0711;
  header.inode.nlink = 2;
  header.inode.size = 1;
  header.at = {kRootIno, "dir"};
  std::vector<DirUpdate> updates(1);
  updates[0].dir = dir;
  updates[0].header = encode_dir_header(dir, header);
  updates[0].put.emplace_back(key, encode_entry_value(dir, key, newer));
  store_ = std::make_unique<MemoryStore>(loop_, disk_, &random_);
  ASSERT_TRUE(wait(store_->dirs().commit(std::move(updates))).has_value());
  store_.reset();
  start();
  ASSERT_TRUE(wait(rank_->write_back_all()).has_value());
  auto bytes = wait(store_->dirs().read_entry(dir, key));
  ASSERT_TRUE(bytes && *bytes);
  auto there = decode_entry_value(dir, key, **bytes);
  ASSERT_TRUE(there.has_value());
  EXPECT_EQ(there->version, Version{1000});
  EXPECT_EQ(there->inode.mode, uint32_t{S_IFREG | 0600});
  EXPECT_EQ(call(GetattrArgs{dir}).stat.mode, uint32_t{S_IFDIR | 0711});
}

TEST_F(RankTest, ARequestThatIsSentAgainIsNotExecutedTwice) {
  Request request;
  request.session = kSession;
  request.seq = 1000;
  request.oldest = 1000;
  request.args = MkdirArgs{kRootIno, "once", 0755, 0};
  Reply first = submit(request);
  ASSERT_EQ(first.err, 0);
  Reply again = submit(request);
  EXPECT_EQ(again.err, 0);
  EXPECT_EQ(again.stat.ino, first.stat.ino);
  crash();
  start();
  again = submit(request);
  EXPECT_EQ(again.err, 0);
  EXPECT_EQ(again.stat.ino, first.stat.ino);
}

TEST_F(RankTest, AnOrphanLivesWhileItIsHeldAndIsPurgedAfterwards) {
  Ino f = create(kRootIno, "f");
  EXPECT_EQ(call(OpenArgs{f, 0}).err, 0);
  Reply reply = call(UnlinkArgs{kRootIno, "f"});
  EXPECT_EQ(reply.err, 0);
  EXPECT_TRUE(reply.orphaned);
  EXPECT_EQ(call(GetattrArgs{f}).stat.nlink, 0u);
  call(ReleaseArgs{f, 2});
  for (int i = 0; i < 100 && rank_->stats().purged == 0; ++i)
    wait([](Executor& e) -> Task<bool> {
      co_await sleep_for(e, 10 * kMillisecond);
      co_return true;
    }(loop_));
  EXPECT_EQ(rank_->stats().purged, 1u);
  EXPECT_EQ(call(GetattrArgs{f}).err, ESTALE);
}

TEST_F(RankTest, WritesBackAndTrimsUnderASmallCap) {
  stop();
  options_.journal_cap = 1;  // raised to what is needed to make progress
  options_.segment_events = 64;
  options_.segments_per_major = 2;
  options_.memory_limit = 1;
  options_.write_back_batch = 16;
  start();
  std::vector<Ino> dirs;
  for (int d = 0; d < 20; ++d) dirs.push_back(mkdir(kRootIno, "d" + std::to_string(d)));
  for (int i = 0; i < 200; ++i)
    for (Ino dir : dirs) create(dir, "f" + std::to_string(i));
  crash();
  start();
  for (Ino dir : dirs) {
    EXPECT_EQ(call(GetattrArgs{dir}).stat.size, 200u);
    for (int i = 0; i < 200; i += 7)
      EXPECT_EQ(call(LookupArgs{dir, "f" + std::to_string(i)}).err, 0);
  }
}

}  // namespace
}  // namespace graftfs
