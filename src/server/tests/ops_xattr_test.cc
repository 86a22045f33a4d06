// Extended attributes: namespaces, limits, who may.

#include <fmt/format.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

class Xattrs : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, Xattrs, kAllModes, mode_name);

TEST_P(Xattrs, SetGetListRemove) {
  Ino file = make_file(owner, kRootIno, "f");
  Stat before = owner.stat(file);
  Reply r = owner.setxattr(file, "user.a", "one");
  EXPECT_EQ(moved(before, r.stat), kCtime);
  EXPECT_EQ(owner.getxattr(file, "user.a").data, "one");
  EXPECT_EQ(owner.setxattr(file, "user.empty", "").err, 0);
  EXPECT_EQ(owner.getxattr(file, "user.empty").err, 0);
  EXPECT_EQ(owner.listxattr(file).data, std::string("user.a\0user.empty\0", 18));
  EXPECT_EQ(owner.setxattr(file, "user.a", "x", XATTR_CREATE).err, EEXIST);
  EXPECT_EQ(owner.setxattr(file, "user.b", "x", XATTR_REPLACE).err, ENODATA);
  EXPECT_EQ(owner.setxattr(file, "user.a", "x", 4).err, EINVAL);
  EXPECT_EQ(owner.setxattr(file, "user.a", "two", XATTR_REPLACE).err, 0);
  EXPECT_EQ(owner.setxattr(file, "user.b", "three", XATTR_CREATE).err, 0);
  EXPECT_EQ(owner.getxattr(file, "user.a").data, "two");
  before = owner.stat(file);
  EXPECT_EQ(moved(before, owner.removexattr(file, "user.a").stat), kCtime);
  EXPECT_EQ(owner.removexattr(file, "user.a").err, ENODATA);
  EXPECT_EQ(owner.getxattr(file, "user.a").err, ENODATA);
  EXPECT_EQ(owner.link(file, kRootIno, "second").err, 0);
  EXPECT_EQ(owner.getxattr(file, "user.b").data, "three") << "attributes move with the inode";
  EXPECT_EQ(owner.getxattr(Ino{99999999}, "user.b").err, ESTALE);
}

TEST_P(Xattrs, Names) {
  Ino file = make_file(owner, kRootIno, "f");
  const std::string longest = "user." + std::string(250, 'n');
  for (const auto& [name, err] :
       std::initializer_list<std::pair<std::string, int>>{{"", ERANGE},
                                                          {longest + "n", ERANGE},
                                                          {"user.", EINVAL},
                                                          {"trusted.", EINVAL},
                                                          {"nothing", EOPNOTSUPP},
                                                          {"other.a", EOPNOTSUPP},
                                                          {"system.a", EOPNOTSUPP},
                                                          {"users.a", EOPNOTSUPP}}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(root.setxattr(file, name, "v").err, err);
    EXPECT_EQ(root.getxattr(file, name).err, err);
    EXPECT_EQ(root.removexattr(file, name).err, err);
  }
  EXPECT_EQ(owner.setxattr(file, longest, "v").err, 0);
  EXPECT_EQ(owner.getxattr(file, longest).data, "v");
}

TEST_P(Xattrs, Limits) {
  Ino file = make_file(owner, kRootIno, "f");
  EXPECT_EQ(owner.setxattr(file, "user.a", std::string(kXattrValueMax + 1, 'v')).err, E2BIG);
  const std::string largest(kXattrValueMax, 'v');
  EXPECT_EQ(owner.setxattr(file, "user.a", largest).err, 0);
  const std::string rest(kXattrTotalMax - kXattrValueMax - 12, 'r');
  EXPECT_EQ(owner.setxattr(file, "user.b", rest + 'r').err, ENOSPC);
  EXPECT_EQ(owner.getxattr(file, "user.b").err, ENODATA);
  EXPECT_EQ(owner.setxattr(file, "user.b", rest).err, 0);
  EXPECT_EQ(owner.setxattr(file, "user.c", "").err, ENOSPC);
  EXPECT_EQ(owner.getxattr(file, "user.a").data, largest);
  EXPECT_EQ(owner.getxattr(file, "user.b").data, rest);
  EXPECT_EQ(owner.setxattr(file, "user.a", "small").err, 0);
  EXPECT_EQ(owner.setxattr(file, "user.c", "").err, 0);
}

TEST_P(Xattrs, ThereAreAsManyAsCanBeListed) {
  if (GetParam() == CacheMode::replayed) GTEST_SKIP() << "a recovery for each of 256 names";
  Ino file = make_file(owner, kRootIno, "f");
  int err = 0;
  size_t names = 0;
  for (int i = 0; err == 0; ++i) {
    std::string name = fmt::format("user.{:0245}", i);
    err = owner.setxattr(file, name, "").err;
    if (err == 0) names += name.size() + 1;
  }
  EXPECT_EQ(err, ENOSPC);
  Reply r = owner.listxattr(file);
  EXPECT_EQ(r.err, 0);
  EXPECT_EQ(r.data.size(), names);
  EXPECT_LE(names, size_t{XATTR_LIST_MAX});
  EXPECT_GT(names + 256, size_t{XATTR_LIST_MAX});
}

// The largest event: a directory replaces another, and all four that change have all they can have.
TEST_P(Xattrs, ARenameOfTheLargestInodes) {
  Ino from = make_dir(owner, kRootIno, "from"), to = make_dir(owner, kRootIno, "to");
  Ino moved = make_dir(owner, from, "d"), gone = make_dir(owner, to, "d");
  for (Ino dir : {from, to, moved, gone}) {
    ASSERT_EQ(owner.setxattr(dir, "user.a", std::string(kXattrValueMax, 'v')).err, 0);
    std::string rest(kXattrTotalMax - kXattrValueMax - 12, 'r');
    ASSERT_EQ(owner.setxattr(dir, "user.b", rest).err, 0);
  }
  ASSERT_EQ(owner.rename(from, "d", to, "d").err, 0);
  EXPECT_EQ(owner.getxattr(moved, "user.a").data.size(), kXattrValueMax);
  EXPECT_EQ(owner.lookup(to, "d").stat.ino, moved);
}

TEST_P(Xattrs, UserNamespace) {
  Ino file = make_file(owner, kRootIno, "f", 0644);
  Ino fifo = owner.mknod(kRootIno, "p", S_IFIFO | 0666).stat.ino;
  Ino link = owner.symlink(kRootIno, "l", "t").stat.ino;
  Ino tmp = exact(root, make_dir(root, kRootIno, "tmp"), 01777);
  EXPECT_EQ(other.setxattr(file, "user.a", "v").err, EACCES);
  ASSERT_EQ(owner.setxattr(file, "user.a", "v").err, 0);
  EXPECT_EQ(other.getxattr(file, "user.a").data, "v");
  EXPECT_EQ(other.removexattr(file, "user.a").err, EACCES);
  exact(owner, file, 0600);
  EXPECT_EQ(other.getxattr(file, "user.a").err, EACCES);
  EXPECT_EQ(other.getxattr(file, "user.none").err, EACCES);
  for (Ino special : {fifo, link}) {
    EXPECT_EQ(root.setxattr(special, "user.a", "v").err, EPERM);
    EXPECT_EQ(root.getxattr(special, "user.a").err, ENODATA);
    EXPECT_EQ(root.removexattr(special, "user.a").err, EPERM);
  }
  EXPECT_EQ(other.setxattr(tmp, "user.a", "v").err, EPERM) << "a sticky directory is its owner's";
  EXPECT_EQ(root.setxattr(tmp, "user.a", "v").err, 0);
}

TEST_P(Xattrs, TrustedAndSecurity) {
  Ino file = make_file(owner, kRootIno, "f", 0666);
  EXPECT_EQ(owner.setxattr(file, "trusted.a", "v").err, EPERM);
  EXPECT_EQ(owner.getxattr(file, "trusted.a").err, ENODATA);
  EXPECT_EQ(root.setxattr(file, "trusted.a", "v").err, 0);
  EXPECT_EQ(owner.getxattr(file, "trusted.a").err, ENODATA) << "hidden";
  EXPECT_EQ(owner.removexattr(file, "trusted.a").err, EPERM);
  EXPECT_EQ(root.getxattr(file, "trusted.a").data, "v");
  EXPECT_EQ(owner.setxattr(file, "security.capability", "v").err, EPERM);
  EXPECT_EQ(owner.setxattr(file, "security.selinux", "v").err, EPERM);
  EXPECT_EQ(root.setxattr(file, "security.selinux", "v").err, 0);
  EXPECT_EQ(other.getxattr(file, "security.selinux").data, "v");
  EXPECT_EQ(owner.listxattr(file).data, std::string("security.selinux\0", 17));
  EXPECT_EQ(root.listxattr(file).data, std::string("security.selinux\0trusted.a\0", 27));
  Ino link = owner.symlink(kRootIno, "l", "t").stat.ino;
  EXPECT_EQ(root.setxattr(link, "trusted.a", "v").err, 0);
  EXPECT_EQ(owner.readlink(link).data, "t");
}

}  // namespace
}  // namespace graftfs
