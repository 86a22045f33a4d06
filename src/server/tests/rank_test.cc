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
  options_.ino_range = 64;
  start();
  std::set<Ino> given;
  for (int i = 0; i < 1000; ++i) given.insert(create(kRootIno, "f" + std::to_string(i)));
  EXPECT_EQ(given.size(), 1000u);
  EXPECT_EQ(rank_->stats().retries, 0u);  // no request has waited for them
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
