// Names: what may be made and taken away, and which errno says why not.

#include <fcntl.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Names : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, Names, kAllModes, mode_name);

// Every operation that makes a name.
struct Maker {
  const char* what;
  Reply (*make)(const User&, Ino dir, const std::string& name);
};
const Maker kMakers[] = {
    {"mkdir", [](const User& u, Ino d, const std::string& n) { return u.mkdir(d, n); }},
    {"mknod", [](const User& u, Ino d, const std::string& n) { return u.mknod(d, n); }},
    {"fifo", [](const User& u, Ino d, const std::string& n) { return u.mknod(d, n, S_IFIFO | 6); }},
    {"create",
     [](const User& u, Ino d, const std::string& n) { return u.create(d, n, 0644, 1, true); }},
    {"symlink", [](const User& u, Ino d, const std::string& n) { return u.symlink(d, n, "t"); }},
};

TEST_P(Names, EveryMakerGivesTheSameErrors) {
  Ino file = make_file(owner, kRootIno, "file");
  Ino closed = make_dir(owner, kRootIno, "closed", 0700);
  Ino readable = make_dir(owner, kRootIno, "readable", 0755);
  make_file(owner, readable, "there");
  const std::string longest(255, 'x'), too_long(256, 'x');
  for (const Maker& m : kMakers) {
    SCOPED_TRACE(m.what);
    EXPECT_EQ(m.make(owner, file, "x").err, ENOTDIR);
    EXPECT_EQ(m.make(owner, Ino{999999999}, "x").err, ESTALE);
    EXPECT_EQ(m.make(other, closed, "x").err, EACCES);
    EXPECT_EQ(m.make(other, closed, too_long).err, EACCES) << "search comes first";
    EXPECT_EQ(m.make(other, readable, "x").err, EACCES);
    EXPECT_EQ(m.make(other, readable, "there").err, EEXIST) << "known before it is forbidden";
    EXPECT_EQ(m.make(owner, readable, too_long).err, ENAMETOOLONG);
    EXPECT_EQ(m.make(owner, readable, "a/b").err, EINVAL);
    EXPECT_EQ(m.make(owner, readable, "").err, EINVAL);
    EXPECT_EQ(m.make(owner, readable, longest).err, 0);
    EXPECT_EQ(m.make(owner, readable, longest).err, EEXIST);
    EXPECT_EQ((m.what == std::string("mkdir") ? owner.rmdir(readable, longest)
                                              : owner.unlink(readable, longest))
                  .err,
              0);
    EXPECT_EQ(m.make(root, closed, std::string("by_root_") + m.what).err, 0);
  }
}

TEST_P(Names, TimesOfMaking) {
  Ino dir = make_dir(owner, kRootIno, "dir");
  for (const Maker& m : kMakers) {
    SCOPED_TRACE(m.what);
    Stat before = owner.stat(dir);
    Reply made = m.make(owner, dir, m.what);
    ASSERT_EQ(made.err, 0);
    EXPECT_EQ(made.stat.atime, made.stat.btime);
    EXPECT_EQ(made.stat.mtime, made.stat.btime);
    EXPECT_EQ(made.stat.ctime, made.stat.btime);
    EXPECT_EQ(moved(before, owner.stat(dir)), kMtimeCtime);
    EXPECT_EQ(owner.stat(dir).mtime, made.stat.btime);
  }
  EXPECT_EQ(owner.stat(dir).size, std::size(kMakers));
  EXPECT_EQ(owner.stat(dir).nlink, 3u) << "2 and a subdirectory";
  EXPECT_EQ(owner.stat(dir).blocks, 0u);
}

TEST_P(Names, NothingIsMadeInARemovedDirectory) {
  world.keep_cache();
  Ino dir = make_dir(owner, kRootIno, "gone");
  Ino file = make_file(owner, kRootIno, "file");
  ASSERT_EQ(owner.open(dir, O_RDONLY).err, 0);
  Reply removed = owner.rmdir(kRootIno, "gone");
  ASSERT_EQ(removed.err, 0);
  EXPECT_TRUE(removed.orphaned);
  EXPECT_EQ(removed.stat.ino, dir);
  EXPECT_EQ(removed.stat.nlink, 0u);
  for (const Maker& m : kMakers) EXPECT_EQ(m.make(owner, dir, "x").err, ENOENT) << m.what;
  EXPECT_EQ(owner.link(file, dir, "x").err, ENOENT);
  EXPECT_EQ(owner.rename(kRootIno, "file", dir, "x").err, ENOENT);
  EXPECT_EQ(owner.lookup(dir, "x").err, ENOENT);
  EXPECT_EQ(owner.lookup_parent(dir).err, ENOENT);
  Reply list = owner.readdir(dir);
  EXPECT_EQ(list.err, 0);
  EXPECT_TRUE(list.entries.empty());
  EXPECT_TRUE(list.end);
}

TEST_P(Names, NodeTypes) {
  EXPECT_EQ(owner.mknod(kRootIno, "zero", 0644).stat.mode, S_IFREG | 0644u);
  EXPECT_EQ(owner.mknod(kRootIno, "fifo", S_IFIFO | 0666).stat.mode, S_IFIFO | 0644u);
  EXPECT_EQ(owner.mknod(kRootIno, "sock", S_IFSOCK | 0755).stat.mode, S_IFSOCK | 0755u);
  EXPECT_EQ(owner.mknod(kRootIno, "blk", S_IFBLK | 0600, 0x801).err, EPERM);
  EXPECT_EQ(owner.mknod(kRootIno, "chr", S_IFCHR | 0600, 0x801).err, EPERM);
  EXPECT_EQ(owner.mknod(kRootIno, "white", S_IFCHR, 0).err, 0);
  EXPECT_EQ(owner.mknod(kRootIno, "dir", S_IFDIR | 0755).err, EPERM);
  EXPECT_EQ(owner.mknod(kRootIno, "link", S_IFLNK | 0755).err, EINVAL);
  EXPECT_EQ(owner.mknod(kRootIno, "fifo", S_IFBLK | 0600, 1).err, EEXIST);
  EXPECT_EQ(root.mknod(kRootIno, "blk", S_IFBLK | 0600, 0x801).stat.rdev, 0x801u);
  EXPECT_EQ(root.mknod(kRootIno, "fifo2", S_IFIFO | 0600, 0x801).stat.rdev, 0u);
}

TEST_P(Names, ModeUmaskAndSetGidDirectories) {
  EXPECT_EQ(owner.mkdir(kRootIno, "a", 07777).stat.mode, S_IFDIR | 01755u)
      << "mkdir takes permissions and the sticky bit";
  EXPECT_EQ(owner.create(kRootIno, "b", 06777).stat.mode, S_IFREG | 06755u);
  EXPECT_EQ(owner.lookup(kRootIno, "b").stat.gid, 100u);

  Ino dir = make_dir(root, kRootIno, "setgid");
  ASSERT_EQ(root.chown(dir, 0, 500).err, 0);
  exact(root, dir, 02777);
  Reply sub = owner.mkdir(dir, "sub", 0755);
  EXPECT_EQ(sub.stat.mode, S_IFDIR | S_ISGID | 0755u);
  EXPECT_EQ(sub.stat.gid, 500u);
  EXPECT_EQ(sub.stat.uid, 1000u);
  EXPECT_EQ(owner.mknod(dir, "plain", S_IFREG | 0644).stat.gid, 500u);
  EXPECT_EQ(owner.mknod(dir, "exec", S_IFREG | S_ISGID | 0755).stat.mode, S_IFREG | 0755u)
      << "not a member of the directory's group";
  EXPECT_EQ(owner.mknod(dir, "noexec", S_IFREG | S_ISGID | 0644).stat.mode,
            S_IFREG | S_ISGID | 0644u);
  EXPECT_EQ(root.mknod(dir, "byroot", S_IFREG | S_ISGID | 0755).stat.mode,
            S_IFREG | S_ISGID | 0755u);
}

TEST_P(Names, Symlinks) {
  EXPECT_EQ(owner.symlink(kRootIno, "l", "").err, ENOENT);
  EXPECT_EQ(owner.symlink(kRootIno, "l", std::string(4096, 'x')).err, ENAMETOOLONG);
  const std::string longest(4095, 'x');
  Reply r = owner.symlink(kRootIno, "l", longest);
  ASSERT_EQ(r.err, 0);
  EXPECT_EQ(r.stat.mode, S_IFLNK | 0777u);
  EXPECT_EQ(r.stat.size, 4095u);
  EXPECT_EQ(r.stat.blocks, 0u);
  EXPECT_EQ(other.readlink(r.stat.ino).data, longest);
  EXPECT_EQ(owner.readlink(kRootIno).err, EINVAL);
  EXPECT_EQ(owner.readlink(make_file(owner, kRootIno, "f")).err, EINVAL);
}

TEST_P(Names, LookupNeedsSearchPermission) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0755);
  Ino file = make_file(owner, dir, "file");
  Ino sub = make_dir(owner, dir, "sub");
  EXPECT_EQ(other.lookup(dir, "file").stat.ino, file);
  EXPECT_EQ(other.lookup(dir, "none").err, ENOENT);
  EXPECT_EQ(other.lookup(dir, std::string(256, 'n')).err, ENAMETOOLONG);
  EXPECT_EQ(other.lookup(file, "x").err, ENOTDIR);
  EXPECT_EQ(other.lookup_parent(sub).stat.ino, dir);
  EXPECT_EQ(other.lookup_parent(kRootIno).stat.ino, kRootIno);
  exact(owner, dir, 0744);
  EXPECT_EQ(other.lookup(dir, "file").err, EACCES);
  EXPECT_EQ(other.lookup(dir, "none").err, EACCES);
  EXPECT_EQ(root.lookup(dir, "file").err, 0);
}

TEST_P(Names, Unlink) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0755);
  Ino file = make_file(owner, dir, "file");
  make_dir(owner, dir, "sub");
  EXPECT_EQ(other.unlink(dir, "file").err, EACCES);
  EXPECT_EQ(other.unlink(dir, "none").err, ENOENT);
  EXPECT_EQ(owner.unlink(dir, "sub").err, EISDIR);
  EXPECT_EQ(other.unlink(dir, "sub").err, EACCES) << "permission comes first";
  EXPECT_EQ(owner.unlink(dir, std::string(256, 'n')).err, ENAMETOOLONG);
  EXPECT_EQ(owner.unlink(file, "x").err, ENOTDIR);
  Stat before = owner.stat(dir);
  Reply r = owner.unlink(dir, "file");
  EXPECT_EQ(r.err, 0);
  EXPECT_TRUE(r.orphaned);
  EXPECT_EQ(r.stat.ino, file);
  EXPECT_EQ(r.stat.nlink, 0u);
  EXPECT_EQ(moved(before, owner.stat(dir)), kMtimeCtime);
  EXPECT_EQ(owner.stat(dir).size, before.size - 1);
  EXPECT_EQ(owner.lookup(dir, "file").err, ENOENT);
  EXPECT_EQ(owner.unlink(dir, "file").err, ENOENT);
}

TEST_P(Names, Rmdir) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0755);
  Ino sub = make_dir(owner, dir, "sub");
  Ino file = make_file(owner, sub, "file");
  EXPECT_EQ(owner.rmdir(sub, "file").err, ENOTDIR);
  EXPECT_EQ(owner.rmdir(dir, "sub").err, ENOTEMPTY);
  EXPECT_EQ(other.rmdir(dir, "sub").err, EACCES);
  EXPECT_EQ(owner.rmdir(dir, "none").err, ENOENT);
  EXPECT_EQ(owner.rmdir(file, "x").err, ENOTDIR);
  EXPECT_EQ(owner.rmdir(dir, std::string(256, 'n')).err, ENAMETOOLONG);
  ASSERT_EQ(owner.unlink(sub, "file").err, 0);
  Stat before = owner.stat(dir);
  EXPECT_EQ(owner.rmdir(dir, "sub").err, 0);
  EXPECT_EQ(owner.lookup(dir, "sub").err, ENOENT);
  EXPECT_EQ(moved(before, owner.stat(dir)), kMtimeCtime);
  EXPECT_EQ(owner.stat(dir).nlink, 2u);
  EXPECT_EQ(owner.stat(dir).size, 0u);
}

TEST_P(Names, StickyDirectories) {
  Ino tmp = exact(root, make_dir(root, kRootIno, "tmp"), 01777);
  Ino mine = exact(owner, make_dir(owner, kRootIno, "mine"), 01777);
  make_file(owner, tmp, "f", 0666);
  make_dir(owner, tmp, "d", 0777);
  make_file(other, mine, "g");
  EXPECT_EQ(other.unlink(tmp, "f").err, EPERM);
  EXPECT_EQ(other.rmdir(tmp, "f").err, EPERM) << "before ENOTDIR";
  EXPECT_EQ(other.rmdir(tmp, "d").err, EPERM);
  EXPECT_EQ(other.rename(tmp, "f", tmp, "h").err, EPERM);
  make_file(other, tmp, "h");
  EXPECT_EQ(other.rename(tmp, "h", tmp, "f").err, EPERM) << "nor replaced";
  EXPECT_EQ(other.rename(tmp, "h", tmp, "f", 2).err, EPERM) << "nor exchanged";
  EXPECT_EQ(member.unlink(mine, "g").err, EPERM);
  EXPECT_EQ(owner.unlink(mine, "g").err, 0) << "the directory's owner";
  EXPECT_EQ(owner.unlink(tmp, "f").err, 0) << "the file's owner";
  EXPECT_EQ(root.rmdir(tmp, "d").err, 0);
}

TEST_P(Names, HardLinks) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0755);
  Ino sub = make_dir(owner, dir, "sub");
  Ino file = make_file(owner, dir, "a");
  EXPECT_EQ(owner.link(sub, dir, "x").err, EPERM);
  EXPECT_EQ(owner.link(file, dir, "sub").err, EEXIST);
  EXPECT_EQ(owner.link(sub, dir, "a").err, EEXIST) << "before EPERM";
  EXPECT_EQ(other.link(file, dir, "x").err, EACCES);
  EXPECT_EQ(owner.link(file, dir, std::string(256, 'n')).err, ENAMETOOLONG);
  EXPECT_EQ(owner.link(file, file, "x").err, ENOTDIR);
  EXPECT_EQ(owner.link(Ino{99999999}, dir, "x").err, ESTALE);

  Stat file_before = owner.stat(file), dir_before = owner.stat(dir), sub_before = owner.stat(sub);
  Reply r = owner.link(file, sub, "b");
  ASSERT_EQ(r.err, 0);
  EXPECT_EQ(r.stat.ino, file);
  EXPECT_EQ(r.stat.nlink, 2u);
  EXPECT_EQ(moved(file_before, r.stat), kCtime);
  EXPECT_EQ(moved(sub_before, owner.stat(sub)), kMtimeCtime);
  EXPECT_EQ(moved(dir_before, owner.stat(dir)), kNone) << "the first name stays as it was";
  EXPECT_EQ(owner.stat(dir).size, dir_before.size);
  EXPECT_EQ(owner.link(file, sub, "c").stat.nlink, 3u);
  EXPECT_EQ(owner.lookup(dir, "a").stat.ino, file);
  EXPECT_EQ(owner.lookup(sub, "c").stat.nlink, 3u);

  file_before = owner.stat(file);
  r = owner.unlink(dir, "a");
  EXPECT_FALSE(r.orphaned);
  EXPECT_EQ(r.stat.nlink, 2u);
  EXPECT_EQ(moved(file_before, owner.stat(file)), kCtime);
  EXPECT_EQ(owner.unlink(sub, "b").stat.nlink, 1u);
  EXPECT_EQ(owner.chmod(file, 0600).stat.nlink, 1u);
  EXPECT_EQ(owner.lookup(sub, "c").stat.mode, S_IFREG | 0600u);
  EXPECT_EQ(owner.link(file, sub, "d").stat.nlink, 2u);
  EXPECT_EQ(owner.unlink(sub, "d").stat.nlink, 1u);
  r = owner.unlink(sub, "c");
  EXPECT_TRUE(r.orphaned);
  EXPECT_EQ(r.stat.ino, file);
  EXPECT_EQ(r.stat.nlink, 0u);
  EXPECT_EQ(owner.stat(sub).size, 0u);
}

TEST_P(Names, LinksToSymlinksAndFifos) {
  Reply l = owner.symlink(kRootIno, "l", "target");
  EXPECT_EQ(owner.link(l.stat.ino, kRootIno, "l2").err, 0);
  EXPECT_EQ(owner.readlink(owner.lookup(kRootIno, "l2").stat.ino).data, "target");
  Reply f = owner.mknod(kRootIno, "f", S_IFIFO | 0600);
  EXPECT_EQ(owner.link(f.stat.ino, kRootIno, "f2").stat.mode, S_IFIFO | 0600u);
}

TEST_P(Names, UnlinkedButOpen) {
  world.keep_cache();
  Reply made = owner.create(kRootIno, "f", 0644, O_RDWR);
  ASSERT_EQ(made.err, 0);
  EXPECT_TRUE(made.created);
  Ino ino = made.stat.ino;
  ASSERT_TRUE(owner.unlink(kRootIno, "f").orphaned);
  EXPECT_EQ(owner.stat(ino).nlink, 0u);
  EXPECT_EQ(owner.link(ino, kRootIno, "again").err, ENOENT);
  EXPECT_EQ(owner.wrote(ino, 100).stat.size, 100u);
  EXPECT_EQ(owner.chmod(ino, 0600).err, 0);
  EXPECT_EQ(owner.release(ino, 2).err, 0) << "the open file's and the unlink's";
  world.wait([this] { return world.rank->stats().purged > 0; });
  EXPECT_EQ(owner.call(GetattrArgs{ino}).err, ESTALE);
}

TEST_P(Names, CreateOpensWhatIsThere) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0755);
  Reply made = owner.create(dir, "f", 0444, O_WRONLY);
  ASSERT_EQ(made.err, 0) << "a new file is opened whatever its mode";
  Ino ino = made.stat.ino;
  EXPECT_EQ(owner.create(dir, "f", 0644, O_RDONLY, true).err, EEXIST);
  EXPECT_EQ(owner.create(dir, "f", 0644, O_WRONLY).err, EACCES);
  Reply again = owner.create(dir, "f", 0644, O_RDONLY);
  EXPECT_EQ(again.err, 0);
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.stat.ino, ino);
  EXPECT_EQ(again.stat.mode, S_IFREG | 0444u);
  EXPECT_EQ(other.create(dir, "f", 0644, O_RDONLY).err, 0) << "needs no permission to write dir";
  EXPECT_EQ(other.create(dir, "g", 0644, O_RDONLY).err, EACCES);

  exact(owner, ino, 0644);
  ASSERT_EQ(owner.wrote(ino, 5000).err, 0);
  EXPECT_EQ(other.create(dir, "f", 0644, O_RDONLY | O_TRUNC).err, EACCES);
  EXPECT_EQ(owner.stat(ino).size, 5000u);
  Stat before = owner.stat(ino);
  Reply truncated = owner.create(dir, "f", 0644, O_WRONLY | O_TRUNC);
  EXPECT_EQ(truncated.stat.size, 0u);
  EXPECT_EQ(truncated.stat.blocks, 0u);
  EXPECT_EQ(moved(before, truncated.stat), kMtimeCtime);

  make_dir(owner, dir, "sub");
  EXPECT_EQ(owner.create(dir, "sub", 0644, O_RDONLY).err, EISDIR);
  EXPECT_EQ(owner.create(dir, "sub", 0644, O_WRONLY).err, EISDIR);
  ASSERT_EQ(owner.symlink(dir, "l", "f").err, 0);
  EXPECT_EQ(owner.create(dir, "l", 0644, O_RDONLY).err, ELOOP);
  EXPECT_EQ(owner.create(dir, "l", 0644, O_RDONLY, true).err, EEXIST);
}

TEST_P(Names, AReadOnlyMountChangesNothing) {
  Ino dir = make_dir(owner, kRootIno, "dir", 0777);
  Ino file = make_file(owner, dir, "file", 0666);
  make_dir(owner, dir, "sub");
  Ino fifo = owner.mknod(dir, "fifo", S_IFIFO | 0600).stat.ino;
  world.keep_cache();
  world.restart(RankOptions{.read_only = true});
  for (const Maker& m : kMakers) {
    EXPECT_EQ(m.make(owner, dir, "x").err, EROFS) << m.what;
    EXPECT_EQ(m.make(owner, dir, "file").err, EEXIST) << m.what;
  }
  EXPECT_EQ(owner.unlink(dir, "file").err, EROFS);
  EXPECT_EQ(owner.unlink(dir, "none").err, EROFS);
  EXPECT_EQ(owner.rmdir(dir, "sub").err, EROFS);
  EXPECT_EQ(owner.link(file, dir, "x").err, EROFS);
  EXPECT_EQ(owner.rename(dir, "file", dir, "x").err, EROFS);
  EXPECT_EQ(owner.chmod(file, 0600).err, EROFS);
  EXPECT_EQ(owner.chown(file, std::nullopt, 200).err, EROFS);
  EXPECT_EQ(owner.truncate(file, 0).err, EROFS);
  EXPECT_EQ(owner.utimens(file, kSetAtime | kSetAtimeNow).err, EROFS);
  EXPECT_EQ(owner.setxattr(file, "user.a", "b").err, EROFS);
  EXPECT_EQ(owner.removexattr(file, "user.a").err, EROFS);
  EXPECT_EQ(owner.wrote(file, 1).err, EROFS);
  EXPECT_EQ(owner.open(file, O_WRONLY).err, EROFS);
  EXPECT_EQ(owner.access(file, 2).err, EROFS);
  EXPECT_EQ(owner.open(fifo, O_WRONLY).err, 0) << "a FIFO's data is not the file system's";
  EXPECT_EQ(owner.open(file, O_RDONLY).err, 0);
  Stat before = owner.stat(file);
  EXPECT_EQ(owner.read(file).err, 0);
  EXPECT_EQ(owner.stat(file).atime, before.atime);
  EXPECT_EQ(owner.readdir(dir).entries.size(), 3u);
}

}  // namespace
}  // namespace graftfs
