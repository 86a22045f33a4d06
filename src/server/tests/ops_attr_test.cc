// Owners, modes, sizes and times.

#include <fcntl.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Attr : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, Attr, kAllModes, mode_name);

constexpr uint32_t kTouch = kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow;

TEST_P(Attr, Chmod) {
  Ino file = make_file(owner, kRootIno, "f");
  EXPECT_EQ(other.chmod(file, 0777).err, EPERM);
  EXPECT_EQ(member.chmod(file, 0777).err, EPERM);
  Stat before = owner.stat(file);
  Reply r = owner.chmod(file, 07751);
  EXPECT_EQ(r.stat.mode, S_IFREG | 07751u);
  EXPECT_EQ(moved(before, r.stat), kCtime);
  EXPECT_EQ(root.chmod(file, S_IFDIR | 0600).stat.mode, S_IFREG | 0600u) << "the type stays";
  Ino dir = make_dir(owner, kRootIno, "d");
  EXPECT_EQ(owner.chmod(dir, 01777).stat.mode, S_IFDIR | 01777u);
  EXPECT_EQ(owner.chmod(owner.symlink(kRootIno, "l", "t").stat.ino, 0600).err, EOPNOTSUPP);
  EXPECT_EQ(owner.chmod(Ino{99999999}, 0600).err, ESTALE);
}

TEST_P(Attr, ChmodByANonMemberClearsSetGid) {
  Ino file = make_file(owner, kRootIno, "f");
  ASSERT_EQ(root.chown(file, std::nullopt, 555).err, 0);
  EXPECT_EQ(owner.chmod(file, 06755).stat.mode, S_IFREG | 04755u);
  EXPECT_EQ(root.chmod(file, 06755).stat.mode, S_IFREG | 06755u);
  ASSERT_EQ(owner.chown(file, std::nullopt, 200).err, 0);
  EXPECT_EQ(owner.chmod(file, 06755).stat.mode, S_IFREG | 06755u) << "a supplementary group";
}

TEST_P(Attr, Chown) {
  Ino file = make_file(owner, kRootIno, "f");
  EXPECT_EQ(owner.chown(file, 1001, std::nullopt).err, EPERM) << "not given away";
  EXPECT_EQ(other.chown(file, 1002, std::nullopt).err, EPERM);
  EXPECT_EQ(owner.chown(file, std::nullopt, 102).err, EPERM) << "not a member";
  EXPECT_EQ(member.chown(file, std::nullopt, 101).err, EPERM) << "not the owner";
  EXPECT_EQ(other.chown(file, std::nullopt, 100).err, EPERM);
  Stat before = owner.stat(file);
  Reply r = owner.chown(file, 1000, 200);
  EXPECT_EQ(r.err, 0);
  EXPECT_EQ(r.stat.gid, 200u);
  EXPECT_EQ(moved(before, r.stat), kCtime);
  r = root.chown(file, 7, 8);
  EXPECT_EQ(r.stat.uid, 7u);
  EXPECT_EQ(r.stat.gid, 8u);
  EXPECT_EQ(owner.chown(file, 1000, std::nullopt).err, EPERM);
}

TEST_P(Attr, ChownClearsSetUidAndSetGid) {
  Ino file = make_file(owner, kRootIno, "f");
  for (const User* user : {&owner, &root}) {
    ASSERT_EQ(owner.chmod(file, 06755).err, 0);
    EXPECT_EQ(user->chown(file, std::nullopt, 200).stat.mode, S_IFREG | 0755u);
    ASSERT_EQ(owner.chown(file, std::nullopt, 100).err, 0);
    ASSERT_EQ(owner.chmod(file, 06744).err, 0);
    EXPECT_EQ(user->chown(file, std::nullopt, 200).stat.mode, S_IFREG | 02744u)
        << "set-gid without execution by the group stays";
    ASSERT_EQ(owner.chown(file, std::nullopt, 100).err, 0);
  }
  Ino dir = exact(owner, make_dir(owner, kRootIno, "d"), 06755);
  EXPECT_EQ(owner.chown(dir, std::nullopt, 200).stat.mode, S_IFDIR | 06755u) << "of files only";
  ASSERT_EQ(root.chmod(file, 04755).err, 0);
  ASSERT_EQ(root.setxattr(file, "security.capability", "c").err, 0);
  ASSERT_EQ(root.chown(file, 0, std::nullopt).err, 0);
  EXPECT_EQ(root.getxattr(file, "security.capability").err, ENODATA);
}

TEST_P(Attr, Truncate) {
  Ino file = make_file(owner, kRootIno, "f", 0644);
  Stat before = owner.stat(file);
  Reply r = owner.truncate(file, 10000);
  EXPECT_EQ(r.stat.size, 10000u);
  EXPECT_EQ(r.stat.blocks, 0u) << "a hole";
  EXPECT_EQ(moved(before, r.stat), kMtimeCtime);
  before = r.stat;
  r = owner.truncate(file, 10000);
  EXPECT_EQ(moved(before, r.stat), kMtimeCtime) << "to the same size, too";
  ASSERT_EQ(owner.wrote(file, 10000, 24).err, 0);
  EXPECT_EQ(owner.truncate(file, 100).stat.blocks, 8u);
  EXPECT_EQ(owner.truncate(file, 0).stat.blocks, 0u);
  EXPECT_EQ(other.truncate(file, 1).err, EACCES);
  EXPECT_EQ(other.truncate(file, 1, true).err, 0) << "by a handle that was opened for writing";
  EXPECT_EQ(owner.truncate(make_dir(owner, kRootIno, "d"), 0).err, EISDIR);
  EXPECT_EQ(owner.truncate(owner.mknod(kRootIno, "p", S_IFIFO | 0644).stat.ino, 0).err, EINVAL);
  EXPECT_EQ(owner.truncate(file, uint64_t{INT64_MAX}).err, EFBIG);
  EXPECT_EQ(owner.truncate(file, uint64_t{kMaxFileSize}).err, 0);
}

TEST_P(Attr, TruncationAndWritingClearSetUid) {
  Ino file = exact(owner, make_file(owner, kRootIno, "f"), 06777);
  EXPECT_EQ(root.truncate(file, 1).stat.mode, S_IFREG | 06777u) << "not root's";
  EXPECT_EQ(other.truncate(file, 2).stat.mode, S_IFREG | 0777u);
  exact(owner, file, 06777);
  EXPECT_EQ(owner.wrote(file, 10, 8, false).stat.mode, S_IFREG | 06777u);
  EXPECT_EQ(owner.wrote(file, 10, 8, true).stat.mode, S_IFREG | 0777u);
  exact(owner, file, 06767);
  EXPECT_EQ(owner.wrote(file, 10, 8, true).stat.mode, S_IFREG | 02767u);
  EXPECT_EQ(other.wrote(file, 10, 8, true).stat.mode, S_IFREG | 0767u)
      << "set-gid without execution by the group is a member's to keep";
  SetattrArgs kill{.ino = exact(owner, file, 06777), .valid = kKillSuidgid};
  EXPECT_EQ(owner.call(kill).stat.mode, S_IFREG | 0777u);
}

TEST_P(Attr, AnEmptyChownTakesSetUidFromWhoOwnsTheFile) {
  SetattrArgs empty{.ino = exact(owner, make_file(owner, kRootIno, "f"), 06755)};
  EXPECT_EQ(other.call(empty).stat.mode, S_IFREG | 06755u);
  EXPECT_EQ(owner.call(empty).stat.mode, S_IFREG | 0755u);
  exact(owner, empty.ino, 06755);
  EXPECT_EQ(root.call(empty).stat.mode, S_IFREG | 0755u);
}

TEST_P(Attr, CorrectedBlocksMoveNoTimes) {
  Ino file = make_file(owner, kRootIno, "f", 0644);
  ASSERT_EQ(owner.wrote(file, 10000, 24).err, 0);
  const Stat before = owner.stat(file);
  Reply r = owner.call(WroteArgs{.ino = file, .blocks = 8, .only_blocks = true});
  EXPECT_EQ(r.stat.blocks, 8u);
  EXPECT_EQ(r.stat.size, 10000u);
  EXPECT_EQ(moved(before, r.stat), (Moved{}));
}

TEST_P(Attr, Utimens) {
  Ino file = exact(owner, make_file(owner, kRootIno, "f"), 0646);
  const Timespec old{1000, 7}, older{-5, 999'999'999};
  Reply r = owner.utimens(file, kSetAtime | kSetMtime, old, older);
  EXPECT_EQ(r.stat.atime, old);
  EXPECT_EQ(r.stat.mtime, older);
  EXPECT_EQ(r.stat.ctime, world.now());
  EXPECT_EQ(owner.utimens(file, kSetAtime, {5, 5}).stat.mtime, older) << "OMIT";
  EXPECT_EQ(owner.utimens(file, kSetMtime, {}, {6, 6}).stat.atime, (Timespec{5, 5}));
  r = owner.utimens(file, kSetMtime | kSetMtimeNow);
  EXPECT_EQ(r.stat.mtime, r.stat.ctime);
  EXPECT_GT(r.stat.mtime, r.stat.btime);
  EXPECT_EQ(r.stat.atime, (Timespec{5, 5}));
  r = other.utimens(file, kTouch);
  EXPECT_EQ(r.err, 0) << "who may write may say now";
  EXPECT_EQ(r.stat.atime, r.stat.mtime);
  EXPECT_EQ(other.utimens(file, kSetAtime | kSetMtime, old, old).err, EPERM);
  EXPECT_EQ(other.utimens(file, kSetMtime | kSetMtimeNow).err, EPERM) << "now for one only";
  EXPECT_EQ(member.utimens(file, kTouch).err, EACCES);
  EXPECT_EQ(member.utimens(file, kSetAtime, old).err, EPERM);
  EXPECT_EQ(root.utimens(file, kSetAtime | kSetMtime, old, old).stat.atime, old);
  Stat before = owner.stat(file);
  EXPECT_EQ(moved(before, owner.utimens(file, kSetAtime, {5, 5}).stat), (Moved{true, false, true}));
  Ino dir = make_dir(owner, kRootIno, "d");
  EXPECT_EQ(owner.utimens(dir, kSetAtime | kSetMtime, old, older).stat.mtime, older);
}

TEST_P(Attr, WriteBackOfTimesByHandle) {
  Ino file = make_file(owner, kRootIno, "f");
  SetattrArgs a{.ino = file, .valid = kSetMtime | kSetCtime, .mtime = {9, 9}, .ctime = {10, 10}};
  EXPECT_EQ(other.call(a).err, EPERM);
  a.by_handle = true;
  Reply r = other.call(a);
  EXPECT_EQ(r.stat.mtime, (Timespec{9, 9}));
  EXPECT_EQ(r.stat.ctime, (Timespec{10, 10}));
}

TEST_P(Attr, Wrote) {
  Ino file = make_file(owner, kRootIno, "f");
  Stat before = owner.stat(file);
  Reply r = owner.wrote(file, 5000, 16);
  EXPECT_EQ(r.stat.size, 5000u);
  EXPECT_EQ(r.stat.blocks, 16u);
  EXPECT_EQ(moved(before, r.stat), kMtimeCtime);
  EXPECT_EQ(owner.wrote(file, 100, 16).stat.size, 5000u) << "inside";
  before = owner.stat(file);
  r = owner.wrote(file, 0, 8);
  EXPECT_EQ(r.stat.size, 5000u) << "a hole was punched";
  EXPECT_EQ(r.stat.blocks, 8u);
  EXPECT_EQ(moved(before, r.stat), kMtimeCtime);
  EXPECT_EQ(owner.wrote(kRootIno, 1).err, EISDIR);
  EXPECT_EQ(owner.wrote(owner.mknod(kRootIno, "p", S_IFIFO | 0644).stat.ino, 1).err, EINVAL);
  EXPECT_EQ(owner.wrote(file, UINT64_MAX).err, EFBIG);
}

TEST_P(Attr, RelatimeOfReading) {
  Ino dir = make_dir(owner, kRootIno, "d");
  Ino file = make_file(owner, dir, "f");
  Ino link = owner.symlink(dir, "l", "t").stat.ino;
  struct {
    Ino ino;
    Reply (*read)(const User&, Ino);
  } cases[] = {{file, [](const User& u, Ino i) { return u.read(i); }},
               {link, [](const User& u, Ino i) { return u.readlink(i); }},
               {dir, [](const User& u, Ino i) { return u.readdir(i); }}};
  for (auto& c : cases) {
    SCOPED_TRACE(c.ino.v);
    Stat before = owner.stat(c.ino);
    EXPECT_EQ(moved(before, c.read(other, c.ino).stat), kAtime) << "not read since it changed";
    before = owner.stat(c.ino);
    EXPECT_EQ(moved(before, c.read(other, c.ino).stat), kNone) << "read since";
    world.executor.advance(25 * 3600 * kSecond);
    EXPECT_EQ(moved(before, c.read(other, c.ino).stat), kAtime) << "a day ago";
    ASSERT_EQ(root.chown(c.ino, 1000, std::nullopt).err, 0);
    before = owner.stat(c.ino);
    EXPECT_EQ(moved(before, c.read(other, c.ino).stat), kAtime) << "before the change";
  }
}

TEST_P(Attr, GetattrChangesNothing) {
  Ino file = make_file(owner, kRootIno, "f", 0);
  Stat before = other.stat(file);
  EXPECT_EQ(other.stat(file), before);
  EXPECT_EQ(other.open(file, O_RDONLY).err, EACCES);
  EXPECT_EQ(other.stat(file), before);
}

}  // namespace
}  // namespace graftfs
