// Who may do what: the mode, root, access ACLs, inherited ACLs.

#include "server/ops/permission.h"

#include <fcntl.h>

#include "server/tests/ops_fixture.h"

namespace graftfs {
namespace {

using ops::may;

Inode inode_of(uint32_t mode, uint32_t uid = 1000, uint32_t gid = 100) {
  Inode i;
  i.mode = mode;
  i.uid = uid;
  i.gid = gid;
  return i;
}

Credentials who(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {}) {
  Credentials c;
  c.uid = uid;
  c.gid = gid;
  c.groups = std::move(groups);
  return c;
}

// The permissions (of 7) that are given.
uint32_t given(const Credentials& cred, const Inode& inode) {
  uint32_t all = 0;
  for (uint32_t bit : {1u, 2u, 4u})
    if (may(cred, inode, bit) == 0) all |= bit;
  EXPECT_EQ(may(cred, inode, all), 0);
  for (uint32_t mask = 0; mask < 8; ++mask)
    EXPECT_EQ(may(cred, inode, mask), mask & ~all ? EACCES : 0) << mask;
  return all;
}

TEST(Permission, EveryClassHasItsOwnBits) {
  for (uint32_t mode = 0; mode < 01000; ++mode) {
    Inode file = inode_of(S_IFREG | mode);
    EXPECT_EQ(given(who(1000, 1), file), mode >> 6) << "an owner is not looked up as a member";
    EXPECT_EQ(given(who(1000, 100), file), mode >> 6);
    EXPECT_EQ(given(who(2, 100), file), (mode >> 3) & 7);
    EXPECT_EQ(given(who(2, 1, {5, 100}), file), (mode >> 3) & 7);
    EXPECT_EQ(given(who(2, 1), file), mode & 7);
    EXPECT_EQ(given(who(0, 0), file), mode & 0111 ? 7u : 6u);
    EXPECT_EQ(given(who(0, 0), inode_of(S_IFDIR | mode)), 7u);
  }
}

class CountingLookup final : public GroupLookup {
 public:
  bool is_member(int32_t, uint32_t gid) const override {
    calls++;
    return gid == 100;
  }
  std::vector<uint32_t> groups_of(int32_t) const override { return {100}; }
  mutable int calls = 0;
};

TEST(Permission, GroupsAreLookedUpOnlyWhereTheyDecide) {
  CountingLookup lookup;
  Credentials c = who(2, 1);
  c.lookup = &lookup;
  EXPECT_EQ(may(c, inode_of(S_IFREG | 0644), 4), 0);
  EXPECT_EQ(may(c, inode_of(S_IFREG | 0644), 2), EACCES);
  EXPECT_EQ(lookup.calls, 0);
  EXPECT_EQ(may(c, inode_of(S_IFREG | 0640), 4), 0);
  EXPECT_EQ(may(c, inode_of(S_IFREG | 0604), 4), EACCES);
  EXPECT_EQ(lookup.calls, 2);
}

TEST(Permission, AnAccessAclDecidesInItsOrder) {
  Inode file = inode_of(S_IFREG);
  Acl acl{{kAclUserObj, 6},   {kAclUser, 7, 2},   {kAclUser, 0, 3}, {kAclGroupObj, 4},
          {kAclGroup, 2, 50}, {kAclGroup, 1, 51}, {kAclMask, 6},    {kAclOther, 7}};
  acl_to_mode(acl, file.mode);
  file.set_extra({.symlink = {}, .xattrs = {{std::string(kAclAccess), encode_acl(acl)}}});
  EXPECT_EQ(file.mode, S_IFREG | 0667u);
  EXPECT_EQ(given(who(1000, 50), file), 6u) << "the owner, past the mask";
  EXPECT_EQ(given(who(2, 1), file), 6u) << "a named user, below the mask";
  EXPECT_EQ(given(who(3, 100, {50}), file), 0u) << "a named user gets nothing more from groups";
  EXPECT_EQ(given(who(9, 1), file), 7u) << "others are not masked";
  EXPECT_EQ(given(who(9, 51), file), 0u) << "a named group, masked away";
  EXPECT_EQ(given(who(0, 0), file), 7u);
  Credentials two_groups = who(9, 100, {50});
  EXPECT_EQ(may(two_groups, file, 4), 0);
  EXPECT_EQ(may(two_groups, file, 2), 0);
  EXPECT_EQ(may(two_groups, file, 6), EACCES) << "one entry has to give all that is asked";
}

class Acls : public OpsTest {
 protected:
  static std::string bytes(const Acl& acl) { return encode_acl(acl); }
  const std::string access{kAclAccess}, dflt{kAclDefault};
  const Acl for_other{
      {kAclUserObj, 6}, {kAclUser, 4, 1002}, {kAclGroupObj, 0}, {kAclMask, 4}, {kAclOther, 0}};
};
INSTANTIATE_TEST_SUITE_P(Ops, Acls, kAllModes, mode_name);

TEST_P(Acls, SettingOneChangesTheMode) {
  Ino file = make_file(owner, kRootIno, "f", 0600);
  EXPECT_EQ(other.open(file, O_RDONLY).err, EACCES);
  Stat before = owner.stat(file);
  Reply r = owner.setxattr(file, access, bytes(for_other));
  ASSERT_EQ(r.err, 0);
  EXPECT_EQ(r.stat.mode, S_IFREG | 0640u);
  EXPECT_EQ(moved(before, r.stat), kCtime);
  EXPECT_EQ(other.open(file, O_RDONLY).err, 0);
  EXPECT_EQ(other.open(file, O_WRONLY).err, EACCES);
  EXPECT_EQ(member.open(file, O_RDONLY).err, EACCES);
  EXPECT_EQ(other.getxattr(file, access).data, bytes(for_other));
  EXPECT_EQ(owner.listxattr(file).data, access + '\0');

  EXPECT_EQ(owner.chmod(file, 0600).err, 0) << "chmod moves the mask";
  EXPECT_EQ(other.open(file, O_RDONLY).err, EACCES);
  Acl masked = for_other;
  masked[3].perm = 0;
  EXPECT_EQ(owner.getxattr(file, access).data, bytes(masked));

  r = owner.setxattr(file, access, bytes({{kAclUserObj, 7}, {kAclGroupObj, 5}, {kAclOther, 1}}));
  EXPECT_EQ(r.stat.mode, S_IFREG | 0751u);
  EXPECT_EQ(owner.getxattr(file, access).err, ENODATA) << "the mode says it all";
  EXPECT_EQ(owner.listxattr(file).data, "");
}

TEST_P(Acls, Errors) {
  Ino file = make_file(owner, kRootIno, "f");
  Ino dir = make_dir(owner, kRootIno, "d");
  Ino link = owner.symlink(kRootIno, "l", "t").stat.ino;
  EXPECT_EQ(other.setxattr(file, access, bytes(for_other)).err, EPERM);
  EXPECT_EQ(root.setxattr(file, access, bytes(for_other)).err, 0);
  EXPECT_EQ(owner.setxattr(file, dflt, bytes(for_other)).err, EACCES);
  EXPECT_EQ(owner.setxattr(link, access, bytes(for_other)).err, EOPNOTSUPP);
  EXPECT_EQ(owner.getxattr(link, access).err, EOPNOTSUPP);
  EXPECT_EQ(owner.setxattr(file, access, "nonsense").err, EINVAL);
  EXPECT_EQ(owner.setxattr(file, access, bytes({{kAclUserObj, 6}})).err, EINVAL);
  EXPECT_EQ(owner.getxattr(dir, dflt).err, ENODATA);
  EXPECT_EQ(owner.removexattr(file, access).err, 0);
  EXPECT_EQ(owner.getxattr(file, access).err, ENODATA);
  EXPECT_EQ(owner.removexattr(file, access).err, 0) << "nothing to remove is no error";
  EXPECT_EQ(other.removexattr(file, access).err, EPERM);
}

TEST_P(Acls, ANonMemberLosesSetGid) {
  Ino file = make_file(owner, kRootIno, "f");
  ASSERT_EQ(root.chown(file, std::nullopt, 555).err, 0);
  ASSERT_EQ(root.chmod(file, 02755).err, 0);
  EXPECT_EQ(owner.setxattr(file, access, bytes(for_other)).stat.mode, S_IFREG | 0640u);
}

TEST_P(Acls, DefaultAclsAreInherited) {
  Ino dir = make_dir(owner, kRootIno, "d");
  const Acl acl{
      {kAclUserObj, 7}, {kAclUser, 6, 1002}, {kAclGroupObj, 5}, {kAclMask, 7}, {kAclOther, 4}};
  Stat before = owner.stat(dir);
  Reply set = owner.setxattr(dir, dflt, bytes(acl));
  ASSERT_EQ(set.err, 0);
  EXPECT_EQ(set.stat.mode, before.mode);

  Reply file = owner.create(dir, "f", 0666);
  EXPECT_EQ(file.stat.mode, S_IFREG | 0664u) << "the umask of 022 does not count";
  Acl expected{
      {kAclUserObj, 6}, {kAclUser, 6, 1002}, {kAclGroupObj, 5}, {kAclMask, 6}, {kAclOther, 4}};
  EXPECT_EQ(owner.getxattr(file.stat.ino, access).data, bytes(expected));
  EXPECT_EQ(owner.getxattr(file.stat.ino, dflt).err, ENODATA);
  EXPECT_EQ(other.open(file.stat.ino, O_RDWR).err, 0);

  Reply sub = owner.mkdir(dir, "s", 0777);
  EXPECT_EQ(sub.stat.mode, S_IFDIR | 0774u);
  EXPECT_EQ(owner.getxattr(sub.stat.ino, dflt).data, bytes(acl));
  EXPECT_EQ(owner.getxattr(sub.stat.ino, access).data, bytes(acl));

  Reply link = owner.symlink(dir, "l", "t");
  EXPECT_EQ(link.stat.mode, S_IFLNK | 0777u);
  EXPECT_EQ(owner.listxattr(link.stat.ino).data, "");

  ASSERT_EQ(
      owner.setxattr(dir, dflt, bytes({{kAclUserObj, 7}, {kAclGroupObj, 0}, {kAclOther, 0}})).err,
      0);
  Reply plain = owner.mknod(dir, "p", S_IFREG | 0666);
  EXPECT_EQ(plain.stat.mode, S_IFREG | 0600u);
  EXPECT_EQ(owner.listxattr(plain.stat.ino).data, "") << "a mode is enough";
  EXPECT_EQ(owner.removexattr(dir, dflt).err, 0);
  EXPECT_EQ(owner.mknod(dir, "q", S_IFREG | 0666).stat.mode, S_IFREG | 0644u);
}

class Opens : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Ops, Opens, kAllModes, mode_name);

TEST_P(Opens, AccessModes) {
  constexpr uint32_t for_exec = 0x20;
  Ino file = make_file(owner, kRootIno, "f", 0751);
  Ino dir = make_dir(owner, kRootIno, "d", 0755);
  Ino link = owner.symlink(kRootIno, "l", "t").stat.ino;
  EXPECT_EQ(owner.open(file, O_RDWR).err, 0);
  EXPECT_EQ(member.open(file, O_RDONLY).err, 0);
  EXPECT_EQ(member.open(file, O_WRONLY).err, EACCES);
  EXPECT_EQ(member.open(file, O_RDWR).err, EACCES);
  EXPECT_EQ(member.open(file, O_RDONLY | O_TRUNC).err, EACCES) << "truncation writes";
  EXPECT_EQ(other.open(file, O_RDONLY).err, EACCES);
  EXPECT_EQ(other.open(file, O_RDONLY | for_exec).err, 0) << "to run it, reading is not needed";
  EXPECT_EQ(root.open(exact(owner, file, 0640), O_RDONLY | for_exec).err, EACCES);
  EXPECT_EQ(owner.open(dir, O_RDONLY).err, 0);
  EXPECT_EQ(owner.open(dir, O_WRONLY).err, EISDIR);
  EXPECT_EQ(owner.open(dir, O_RDWR).err, EISDIR);
  EXPECT_EQ(other.open(dir, O_WRONLY).err, EISDIR) << "before EACCES";
  EXPECT_EQ(owner.open(dir, O_RDONLY | O_TRUNC).err, EISDIR);
  EXPECT_EQ(owner.open(link, O_RDONLY).err, ELOOP);
  EXPECT_EQ(member.open(file, O_RDONLY | O_NOATIME).err, EPERM);
  EXPECT_EQ(owner.open(file, O_RDONLY | O_NOATIME).err, 0);
  EXPECT_EQ(owner.open(Ino{99999999}, O_RDONLY).err, ESTALE);
}

TEST_P(Opens, TruncationOnOpen) {
  Ino file = make_file(owner, kRootIno, "f", 0666);
  ASSERT_EQ(owner.wrote(file, 100, 8).err, 0);
  exact(owner, file, 06777);
  Stat before = owner.stat(file);
  Reply r = other.open(file, O_WRONLY | O_TRUNC);
  EXPECT_EQ(r.stat.size, 0u);
  EXPECT_EQ(r.stat.blocks, 0u);
  EXPECT_EQ(r.stat.mode, S_IFREG | 0777u);
  EXPECT_EQ(moved(before, r.stat), kMtimeCtime);
  Ino fifo = owner.mknod(kRootIno, "p", S_IFIFO | 0644).stat.ino;
  before = owner.stat(fifo);
  EXPECT_EQ(owner.open(fifo, O_WRONLY | O_TRUNC).stat, before) << "a FIFO has no size";
}

TEST_P(Opens, Access) {
  Ino file = make_file(owner, kRootIno, "f", 0640);
  EXPECT_EQ(owner.access(file, 6).err, 0);
  EXPECT_EQ(owner.access(file, 1).err, EACCES);
  EXPECT_EQ(member.access(file, 4).err, 0);
  EXPECT_EQ(member.access(file, 2).err, EACCES);
  EXPECT_EQ(other.access(file, 4).err, EACCES);
  EXPECT_EQ(other.access(file, 0).err, 0);
  EXPECT_EQ(root.access(file, 6).err, 0);
  EXPECT_EQ(root.access(file, 1).err, EACCES);
  EXPECT_EQ(owner.access(Ino{99999999}, 0).err, ESTALE);
}

}  // namespace
}  // namespace graftfs
