// Link counts at their limit, and a full store.

#include <linux/fs.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Limits : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, Limits, testing::Values(CacheMode::warm), mode_name);

TEST_P(Limits, LinksOfAFile) {
  Ino dir = make_dir(owner, kRootIno, "d");
  Ino file = make_file(owner, dir, "0");
  for (uint32_t n = 1; n < kMaxLink; ++n)
    ASSERT_EQ(owner.link(file, dir, std::to_string(n)).err, 0) << n;
  EXPECT_EQ(owner.stat(file).nlink, kMaxLink);
  EXPECT_EQ(owner.link(file, dir, "more").err, EMLINK);
  EXPECT_EQ(owner.unlink(dir, "7").err, 0);
  EXPECT_EQ(owner.link(file, dir, "more").err, 0);
  EXPECT_EQ(owner.stat(dir).size, kMaxLink);
}

TEST_P(Limits, LinksOfADirectory) {
  constexpr uint32_t kFew = 50;
  RankOptions options;
  options.max_dir_link = kFew;
  world.restart(options);
  Ino dir = make_dir(owner, kRootIno, "d");
  Ino outside = make_dir(owner, kRootIno, "outside");
  make_dir(owner, outside, "sub");
  make_file(owner, dir, "file");
  for (uint32_t n = 2; n < kFew; ++n) ASSERT_EQ(owner.mkdir(dir, std::to_string(n)).err, 0) << n;
  EXPECT_EQ(owner.stat(dir).nlink, kFew);
  EXPECT_EQ(owner.mkdir(dir, "more").err, EMLINK);
  EXPECT_EQ(owner.mkdir(dir, "7").err, EEXIST);
  EXPECT_EQ(owner.rename(outside, "sub", dir, "more").err, EMLINK);
  EXPECT_EQ(owner.rename(dir, "file", outside, "sub", RENAME_EXCHANGE).err, EMLINK);
  EXPECT_EQ(owner.rename(outside, "sub", dir, "7").err, 0) << "takes another one's place";
  EXPECT_EQ(owner.rename(dir, "7", dir, "more").err, 0) << "was counted already";
  EXPECT_EQ(owner.stat(dir).nlink, kFew);
  EXPECT_EQ(owner.create(dir, "files do not count").err, 0);
}

TEST_P(Limits, AFullStoreRefusesWhatAddsAndTakesWhatRemoves) {
  Ino dir = make_dir(owner, kRootIno, "d");
  Ino file = make_file(owner, dir, "file");
  world.disk->set_capacity(world.disk->used());
  int made = 0;
  int err = 0;
  while (!err && made < 200'000)
    if (!(err = owner.mknod(dir, "n" + std::to_string(made)).err)) made++;
  EXPECT_EQ(err, ENOSPC);
  EXPECT_EQ(owner.mkdir(dir, "x").err, ENOSPC);
  EXPECT_EQ(owner.create(dir, "x").err, ENOSPC);
  EXPECT_EQ(owner.symlink(dir, "x", "t").err, ENOSPC);
  EXPECT_EQ(owner.link(file, dir, "x").err, ENOSPC);
  EXPECT_EQ(owner.setxattr(file, "user.a", "v").err, ENOSPC);
  EXPECT_EQ(owner.mkdir(dir, "file").err, EEXIST);
  EXPECT_EQ(other.mkdir(dir, "x").err, EACCES);
  Stat before = owner.stat(file);
  EXPECT_EQ(moved(before, owner.read(file).stat), kNone) << "quietly";
  EXPECT_EQ(owner.chmod(file, 0600).err, 0);
  EXPECT_EQ(owner.rename(dir, "file", dir, "renamed").err, 0);
  EXPECT_EQ(owner.unlink(dir, "renamed").err, 0);
  world.disk->set_capacity(UINT64_MAX);
  world.restart();
  EXPECT_EQ(owner.mkdir(dir, "x").err, 0);
  EXPECT_EQ(owner.stat(dir).size, static_cast<uint64_t>(made) + 1);
}

// Events for which there is no segment would be neither written nor answered, and write-back, which
// waits for them, would make none free.
TEST_P(Limits, OnAFullDiskWhatComesAtOnceIsAnsweredToo) {
  constexpr size_t kRequests = 40'000;
  Ino dir = make_dir(owner, kRootIno, "d");
  make_file(owner, dir, "file");
  world.disk->set_capacity(world.disk->used() + MemoryDiskOptions{}.segment_capacity * 3 / 2);
  size_t made = 0, refused = 0;
  for (size_t i = 0; i < kRequests; ++i)
    world.submit(owner.cred, MknodArgs{dir, "n" + std::to_string(i), S_IFREG | 0644, 0, 0},
                 [&](const Reply& reply) {
                   made += reply.err == 0;
                   refused += reply.err == ENOSPC;
                 });
  const Nanos until = world.executor.now() + 20 * kSecond;
  world.wait([&] { return made + refused == kRequests || world.executor.now() > until; });
  EXPECT_EQ(made + refused, kRequests);
  EXPECT_GT(made, 0u);
  EXPECT_GT(refused, 0u);
  EXPECT_EQ(owner.unlink(dir, "file").err, 0) << "removing is what makes room";
  EXPECT_EQ(owner.stat(dir).size, made);
  world.disk->set_capacity(UINT64_MAX);
}

}  // namespace
}  // namespace graftfs
