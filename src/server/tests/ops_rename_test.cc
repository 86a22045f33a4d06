// rename(2): replacing, exchanging, moving directories.

#include <linux/fs.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Rename : public OpsTest {
 protected:
  Rename() {
    a = make_dir(owner, kRootIno, "a");
    b = make_dir(owner, kRootIno, "b");
  }
  Ino at(Ino dir, const std::string& name) {
    Reply r = owner.lookup(dir, name);
    return r.err ? Ino{} : r.stat.ino;
  }
  Ino a, b;
};
INSTANTIATE_TEST_SUITE_P(Ops, Rename, kAllModes, mode_name);

TEST_P(Rename, Errors) {
  Ino file = make_file(owner, a, "file");
  Ino dir = make_dir(owner, a, "dir");
  Ino full = make_dir(owner, b, "full");
  make_file(owner, full, "x");
  make_dir(owner, b, "empty");
  make_file(owner, b, "f");
  const std::string too_long(256, 'n');
  EXPECT_EQ(owner.rename(a, "none", b, "x").err, ENOENT);
  EXPECT_EQ(owner.rename(a, "none", b, too_long).err, ENAMETOOLONG);
  EXPECT_EQ(owner.rename(a, too_long, b, "x").err, ENAMETOOLONG);
  EXPECT_EQ(owner.rename(file, "x", b, "x").err, ENOTDIR);
  EXPECT_EQ(owner.rename(a, "file", file, "x").err, ENOTDIR);
  EXPECT_EQ(owner.rename(a, "file", b, "empty").err, EISDIR);
  EXPECT_EQ(owner.rename(a, "file", b, "full").err, EISDIR);
  EXPECT_EQ(owner.rename(a, "dir", b, "f").err, ENOTDIR);
  EXPECT_EQ(owner.rename(a, "dir", b, "full").err, ENOTEMPTY);
  EXPECT_EQ(owner.rename(a, "dir", dir, "x").err, EINVAL) << "below itself";
  EXPECT_EQ(owner.rename(kRootIno, "a", dir, "x").err, EINVAL) << "below what it holds";
  EXPECT_EQ(owner.rename(kRootIno, "a", dir, "x", RENAME_EXCHANGE).err, ENOENT);
  make_file(owner, dir, "x");
  EXPECT_EQ(owner.rename(kRootIno, "a", dir, "x", RENAME_EXCHANGE).err, EINVAL);
  EXPECT_EQ(owner.rename(dir, "x", kRootIno, "a").err, ENOTEMPTY) << "over an ancestor";
  EXPECT_EQ(owner.rename(dir, "x", kRootIno, "a", RENAME_EXCHANGE).err, EINVAL);
  EXPECT_EQ(owner.rename(a, "file", b, "f", RENAME_NOREPLACE).err, EEXIST);
  EXPECT_EQ(owner.rename(a, "file", a, "file", RENAME_NOREPLACE).err, EEXIST);
  EXPECT_EQ(owner.rename(a, "file", b, "none", RENAME_EXCHANGE).err, ENOENT);
  EXPECT_EQ(owner.rename(a, "file", b, "f", RENAME_NOREPLACE | RENAME_EXCHANGE).err, EINVAL);
  EXPECT_EQ(owner.rename(a, "file", b, "f", RENAME_WHITEOUT).err, EINVAL);
  EXPECT_EQ(other.rename(a, "file", b, "x").err, EACCES);
  EXPECT_EQ(other.rename(a, "dir", b, "f").err, EACCES) << "permission before ENOTDIR";
  EXPECT_EQ(at(a, "file"), file);
  EXPECT_EQ(at(a, "dir"), dir);
}

TEST_P(Rename, AFileMovesAndKeepsItsTimes) {
  Ino file = make_file(owner, a, "file");
  Stat file_before = owner.stat(file), a_before = owner.stat(a), b_before = owner.stat(b);
  Reply r = owner.rename(a, "file", b, "new");
  ASSERT_EQ(r.err, 0);
  EXPECT_EQ(r.stat.ino, file);
  EXPECT_FALSE(r.orphaned);
  EXPECT_EQ(at(a, "file"), Ino{});
  EXPECT_EQ(at(b, "new"), file);
  EXPECT_EQ(moved(file_before, owner.stat(file)), kCtime);
  EXPECT_EQ(moved(a_before, owner.stat(a)), kMtimeCtime);
  EXPECT_EQ(moved(b_before, owner.stat(b)), kMtimeCtime);
  EXPECT_EQ(owner.stat(a).size, 0u);
  EXPECT_EQ(owner.stat(b).size, 1u);
  EXPECT_EQ(owner.rename(b, "new", b, "newer").err, 0);
  EXPECT_EQ(at(b, "newer"), file);
  EXPECT_EQ(owner.stat(b).size, 1u);
}

TEST_P(Rename, ReplacingAFileOrphansIt) {
  Ino file = make_file(owner, a, "file");
  Ino there = make_file(owner, b, "there");
  Reply r = owner.rename(a, "file", b, "there");
  ASSERT_EQ(r.err, 0);
  EXPECT_TRUE(r.orphaned);
  EXPECT_EQ(r.stat.ino, there);
  EXPECT_EQ(r.stat.nlink, 0u);
  EXPECT_EQ(at(b, "there"), file);
  EXPECT_EQ(owner.stat(b).size, 1u);
  EXPECT_EQ(owner.stat(a).size, 0u);
}

TEST_P(Rename, ReplacingOneNameOfSeveral) {
  Ino file = make_file(owner, a, "file");
  Ino there = make_file(owner, b, "there");
  ASSERT_EQ(owner.link(there, b, "other").err, 0);
  Stat before = owner.stat(there);
  Reply r = owner.rename(a, "file", b, "there");
  EXPECT_FALSE(r.orphaned);
  EXPECT_EQ(r.stat.ino, file);
  EXPECT_EQ(owner.stat(there).nlink, 1u);
  EXPECT_EQ(moved(before, owner.stat(there)), kCtime);
  EXPECT_EQ(at(b, "other"), there);
}

TEST_P(Rename, OntoItself) {
  Ino file = make_file(owner, a, "file");
  ASSERT_EQ(owner.link(file, b, "second").err, 0);
  Stat before = owner.stat(file), a_before = owner.stat(a);
  EXPECT_EQ(owner.rename(a, "file", a, "file").err, 0);
  EXPECT_EQ(owner.rename(a, "file", b, "second").err, 0) << "two names of one inode: nothing";
  EXPECT_EQ(owner.rename(a, "file", b, "second", RENAME_EXCHANGE).err, 0);
  EXPECT_EQ(at(a, "file"), file);
  EXPECT_EQ(at(b, "second"), file);
  EXPECT_EQ(owner.stat(file), before);
  EXPECT_EQ(owner.stat(a), a_before);
}

TEST_P(Rename, ANameOfAHardLinkMoves) {
  Ino file = make_file(owner, a, "file");
  ASSERT_EQ(owner.link(file, a, "second").err, 0);
  Stat before = owner.stat(file);
  ASSERT_EQ(owner.rename(a, "second", b, "third").err, 0);
  EXPECT_EQ(at(b, "third"), file);
  EXPECT_EQ(at(a, "second"), Ino{});
  EXPECT_EQ(owner.stat(file).nlink, 2u);
  EXPECT_EQ(moved(before, owner.stat(file)), kCtime);
}

TEST_P(Rename, ADirectoryMovesWithItsParentLink) {
  Ino dir = make_dir(owner, a, "dir");
  Ino inner = make_dir(owner, dir, "inner");
  Ino file = make_file(owner, inner, "file");
  Stat before = owner.stat(dir);
  ASSERT_EQ(owner.rename(a, "dir", b, "moved").err, 0);
  EXPECT_EQ(at(b, "moved"), dir);
  EXPECT_EQ(at(inner, "file"), file);
  EXPECT_EQ(owner.lookup_parent(dir).stat.ino, b);
  EXPECT_EQ(owner.lookup_parent(inner).stat.ino, dir);
  EXPECT_EQ(owner.stat(a).nlink, 2u);
  EXPECT_EQ(owner.stat(b).nlink, 3u);
  EXPECT_EQ(moved(before, owner.stat(dir)), kCtime);
  EXPECT_EQ(owner.rename(b, "moved", b, "again").err, 0);
  EXPECT_EQ(owner.stat(b).nlink, 3u);
  EXPECT_EQ(owner.rename(kRootIno, "b", inner, "x").err, EINVAL) << "the new place counts";
  EXPECT_EQ(owner.rename(kRootIno, "a", inner, "x").err, 0) << "the old one does not";
  EXPECT_EQ(owner.lookup_parent(a).stat.ino, inner);
}

TEST_P(Rename, ADirectoryReplacesAnEmptyOne) {
  Ino dir = make_dir(owner, a, "dir");
  make_file(owner, dir, "file");
  Ino empty = make_dir(owner, b, "empty");
  Reply r = owner.rename(a, "dir", b, "empty");
  ASSERT_EQ(r.err, 0);
  EXPECT_TRUE(r.orphaned);
  EXPECT_EQ(r.stat.ino, empty);
  EXPECT_EQ(at(b, "empty"), dir);
  EXPECT_EQ(owner.stat(a).nlink, 2u);
  EXPECT_EQ(owner.stat(b).nlink, 3u);
  make_dir(owner, b, "sibling");
  ASSERT_EQ(owner.rename(b, "empty", b, "sibling").err, 0);
  EXPECT_EQ(owner.stat(b).nlink, 3u);
  EXPECT_EQ(owner.stat(b).size, 1u);
}

TEST_P(Rename, Exchange) {
  Ino file = make_file(owner, a, "x");
  Ino dir = make_dir(owner, b, "y");
  make_file(owner, dir, "inside");
  Stat file_before = owner.stat(file), dir_before = owner.stat(dir);
  ASSERT_EQ(owner.rename(a, "x", b, "y", RENAME_EXCHANGE).err, 0);
  EXPECT_EQ(at(a, "x"), dir);
  EXPECT_EQ(at(b, "y"), file);
  EXPECT_EQ(owner.stat(a).nlink, 3u);
  EXPECT_EQ(owner.stat(b).nlink, 2u);
  EXPECT_EQ(owner.lookup_parent(dir).stat.ino, a);
  EXPECT_EQ(moved(file_before, owner.stat(file)), kCtime);
  EXPECT_EQ(moved(dir_before, owner.stat(dir)), kCtime);

  Ino second = make_file(owner, a, "second");
  ASSERT_EQ(owner.rename(a, "second", b, "y", RENAME_EXCHANGE).err, 0) << "two files";
  EXPECT_EQ(at(a, "second"), file);
  EXPECT_EQ(at(b, "y"), second);
  EXPECT_EQ(owner.chmod(file, 0600).err, 0);
  EXPECT_EQ(owner.lookup(a, "second").stat.mode, S_IFREG | 0600u);
  EXPECT_EQ(owner.lookup(b, "y").stat.mode, S_IFREG | 0644u);

  Ino other_dir = make_dir(owner, b, "z");
  ASSERT_EQ(owner.rename(a, "x", b, "z", RENAME_EXCHANGE).err, 0) << "two directories";
  EXPECT_EQ(at(a, "x"), other_dir);
  EXPECT_EQ(owner.lookup_parent(other_dir).stat.ino, a);
  EXPECT_EQ(owner.lookup_parent(dir).stat.ino, b);
  EXPECT_EQ(owner.stat(a).nlink, 3u);
  EXPECT_EQ(owner.stat(b).nlink, 3u);
  EXPECT_EQ(owner.stat(a).size, 2u);
  EXPECT_EQ(owner.stat(b).size, 2u);
}

TEST_P(Rename, MovingAnothersDirectoryWritesIt) {
  Ino open_dir = exact(root, make_dir(root, kRootIno, "open"), 0777);
  Ino dir = make_dir(owner, open_dir, "dir", 0755);
  Ino target = exact(root, make_dir(root, kRootIno, "target"), 0777);
  EXPECT_EQ(other.rename(open_dir, "dir", target, "dir").err, EACCES) << "its '..' would change";
  EXPECT_EQ(other.rename(open_dir, "dir", open_dir, "new").err, 0);
  make_dir(other, target, "own", 0755);
  EXPECT_EQ(other.rename(target, "own", open_dir, "new", RENAME_EXCHANGE).err, EACCES);
  exact(owner, dir, 0777);
  EXPECT_EQ(other.rename(target, "own", open_dir, "new", RENAME_EXCHANGE).err, 0);
}

}  // namespace
}  // namespace graftfs
