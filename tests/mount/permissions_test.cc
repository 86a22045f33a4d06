// Who may do what: modes, groups, ACLs, sticky and set-id bits, extended attributes.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>

#include "mounted.h"

namespace graftfs::mounttest {
namespace {

constexpr unsigned kUser = 12345, kGroup = 23456, kOther = 54321, kExtra = 34567;

class Permissions : public MountTest {
 protected:
  mode_t mode_of(const std::string& name) {
    struct stat st{};
    EXPECT_EQ(lstat(path(name).c_str(), &st), 0);
    return st.st_mode & 07777;
  }
  // The mode alone, as the kernel remembers it unless it was told.
  mode_t mode_by_statx(const std::string& name) {
    struct statx x{};
    EXPECT_EQ(statx(AT_FDCWD, path(name).c_str(), 0, STATX_MODE, &x), 0);
    return x.stx_mode & 07777;
  }
  int open_as(unsigned uid, unsigned gid, unsigned group, const std::string& name, int flags) {
    return as_user(uid, gid, group, [&] { return err(::open(path(name).c_str(), flags)); });
  }
};

TEST_F(Permissions, ModesAndGroups) {
  write_file(path("f"), "x", 0640);
  ASSERT_EQ(chown(path("f").c_str(), kUser, kGroup), 0);
  EXPECT_EQ(open_as(kUser, 1, 0, "f", O_RDWR), 0);
  EXPECT_EQ(open_as(kOther, kGroup, 0, "f", O_RDONLY), 0);
  EXPECT_EQ(open_as(kOther, kGroup, 0, "f", O_WRONLY), EACCES);
  EXPECT_EQ(open_as(kOther, 1, kGroup, "f", O_RDONLY), 0) << "by a supplementary group";
  EXPECT_EQ(open_as(kOther, 1, 0, "f", O_RDONLY), EACCES);
  EXPECT_EQ(as_user(kOther, 1, 0, [&] { return err(mkdir(path("d").c_str(), 0755)); }), EACCES);
  EXPECT_EQ(as_user(kOther, 1, 0, [&] { return err(unlink(path("f").c_str())); }), EACCES);
  EXPECT_EQ(as_user(kOther, 1, 0, [&] { return err(chmod(path("f").c_str(), 0777)); }), EPERM);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(chmod(path("f").c_str(), 0600)); }), 0);
  EXPECT_EQ(mode_of("f"), 0600u);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(chown(path("f").c_str(), kOther, -1)); }), EPERM);
  EXPECT_EQ(as_user(kUser, 1, kExtra, [&] { return err(chown(path("f").c_str(), -1, kExtra)); }),
            0);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(chown(path("f").c_str(), -1, kGroup)); }), EPERM);
}

TEST_F(Permissions, AGroupOfADirectoryLetsItsMembersWrite) {
  ASSERT_EQ(mkdir(path("d").c_str(), 0775), 0);
  ASSERT_EQ(chmod(path("d").c_str(), 0775), 0);
  ASSERT_EQ(chown(path("d").c_str(), 0, kGroup), 0);
  auto make = [&](const char* name) {
    return [this, name] { return err(mknod(path(name).c_str(), S_IFREG | 0644, 0)); };
  };
  EXPECT_EQ(as_user(kUser, 1, kGroup, make("d/mine")), 0);
  EXPECT_EQ(as_user(kUser, 1, kExtra, make("d/not")), EACCES);
}

TEST_F(Permissions, UmaskAndDefaultAcl) {
  umask(027);
  write_file(path("f"), "", 0666);
  EXPECT_EQ(mode_of("f"), 0640u);
  ASSERT_EQ(mkdir(path("d").c_str(), 0777), 0);
  EXPECT_EQ(mode_of("d"), 0750u);
  ASSERT_EQ(system(("setfacl -d -m u:" + std::to_string(kUser) + ":rw,m::rw " + path("d")).c_str()),
            0);
  write_file(path("d/f"), "x", 0666);
  EXPECT_EQ(mode_of("d/f") & 0070, 0060u) << "the mask, not the umask";
  ASSERT_EQ(chmod(path("d").c_str(), 0755), 0);
  EXPECT_EQ(open_as(kUser, 1, 0, "d/f", O_RDWR), 0);
  EXPECT_EQ(open_as(kOther, 1, 0, "d/f", O_RDONLY), EACCES);
  umask(022);
}

TEST_F(Permissions, AccessAcls) {
  write_file(path("f"), "x", 0600);
  ASSERT_EQ(system(("setfacl -m u:" + std::to_string(kUser) + ":r,g:" + std::to_string(kGroup) +
                    ":rw " + path("f"))
                       .c_str()),
            0);
  EXPECT_EQ(open_as(kUser, 1, 0, "f", O_RDONLY), 0);
  EXPECT_EQ(open_as(kUser, 1, 0, "f", O_RDWR), EACCES);
  EXPECT_EQ(open_as(kOther, 1, kGroup, "f", O_RDWR), 0);
  EXPECT_EQ(mode_of("f"), 0660u) << "the group bits show the mask";
  ASSERT_EQ(chmod(path("f").c_str(), 0640), 0);
  EXPECT_EQ(open_as(kOther, 1, kGroup, "f", O_RDWR), EACCES) << "chmod narrows the mask";
  ASSERT_EQ(system(("setfacl -b " + path("f")).c_str()), 0);
  EXPECT_EQ(open_as(kUser, 1, 0, "f", O_RDONLY), EACCES);
}

TEST_F(Permissions, StickyDirectories) {
  ASSERT_EQ(mkdir(path("t").c_str(), 0777), 0);
  ASSERT_EQ(chmod(path("t").c_str(), 01777), 0);
  write_file(path("t/f"), "x", 0666);
  ASSERT_EQ(chown(path("t/f").c_str(), kUser, kGroup), 0);
  auto remove = [&] { return err(unlink(path("t/f").c_str())); };
  auto move = [&] { return err(rename(path("t/f").c_str(), path("t/g").c_str())); };
  EXPECT_EQ(as_user(kOther, 1, 0, remove), EPERM);
  EXPECT_EQ(as_user(kOther, 1, 0, move), EPERM);
  EXPECT_EQ(as_user(kUser, 1, 0, remove), 0);
}

TEST_F(Permissions, SetGidDirectories) {
  ASSERT_EQ(mkdir(path("d").c_str(), 0777), 0);
  ASSERT_EQ(chown(path("d").c_str(), 0, kGroup), 0);
  ASSERT_EQ(chmod(path("d").c_str(), 02777), 0);
  write_file(path("d/f"), "", 0644);
  ASSERT_EQ(mkdir(path("d/d").c_str(), 0755), 0);
  struct stat st;
  ASSERT_EQ(stat(path("d/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_gid, kGroup);
  ASSERT_EQ(stat(path("d/d").c_str(), &st), 0);
  EXPECT_EQ(st.st_gid, kGroup);
  EXPECT_EQ(st.st_mode & 07777, 02755u);
  // Who is not in the file's group cannot set its set-gid bit.
  write_file(path("s"), "", 0644);
  ASSERT_EQ(chown(path("s").c_str(), kUser, kGroup), 0);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(chmod(path("s").c_str(), 02755)); }), 0);
  EXPECT_EQ(mode_of("s"), 0755u);
}

TEST_F(Permissions, SetIdBitsGoWithWrites) {
  auto privileged = [&] {
    write_file(path("f"), "0123456789", 0777);
    ASSERT_EQ(chmod(path("f").c_str(), 06777), 0);
    ASSERT_EQ(mode_of("f"), 06777u);
  };
  auto cleared_by = [&](const char* what, const std::function<int(int)>& change) {
    privileged();
    EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(change(::open(path("f").c_str(), O_RDWR))); }),
              0)
        << what;
    EXPECT_EQ(mode_by_statx("f"), 0777u) << what;
    EXPECT_EQ(mode_of("f"), 0777u) << what;
  };
  cleared_by("write", [](int fd) { return write(fd, "x", 1); });
  cleared_by("ftruncate", [](int fd) { return ftruncate(fd, 2); });
  cleared_by("fallocate", [](int fd) { return fallocate(fd, 0, 0, 100); });
  cleared_by("O_TRUNC", [&](int) { return ::open(path("f").c_str(), O_WRONLY | O_TRUNC); });
  privileged();
  int fd = ::open(path("f").c_str(), O_RDWR);
  ASSERT_EQ(write(fd, "root", 4), 4);
  close(fd);
  EXPECT_EQ(mode_of("f"), 06777u) << "root keeps them";
  ASSERT_EQ(chown(path("f").c_str(), kUser, kGroup), 0);
  EXPECT_EQ(mode_of("f"), 0777u) << "a new owner does not get them";
}

TEST_F(Permissions, FileCapabilitiesGoWithWrites) {
  write_file(path("f"), "x", 0777);
  ASSERT_EQ(chmod(path("f").c_str(), 0777), 0);
  // struct vfs_cap_data, revision 2, cap_net_raw permitted.
  const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
  ASSERT_EQ(setxattr(path("f").c_str(), "security.capability", cap, sizeof cap, 0), 0)
      << strerror(errno);
  char got[20];
  EXPECT_EQ(getxattr(path("f").c_str(), "security.capability", got, sizeof got), 20);
  EXPECT_EQ(as_user(kUser, 1, 0,
                    [&] {
                      int fd = ::open(path("f").c_str(), O_WRONLY);
                      return err(write(fd, "y", 1));
                    }),
            0);
  EXPECT_EQ(err(getxattr(path("f").c_str(), "security.capability", got, sizeof got)), ENODATA);
}

TEST_F(Permissions, ARootsWriteTakesCapabilitiesAndLeavesSetUid) {
  write_file(path("f"), "x", 0755);
  ASSERT_EQ(chmod(path("f").c_str(), 04755), 0);
  const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
  ASSERT_EQ(setxattr(path("f").c_str(), "security.capability", cap, sizeof cap, 0), 0);
  int fd = ::open(path("f").c_str(), O_WRONLY);
  EXPECT_EQ(write(fd, "y", 1), 1);
  close(fd);
  char got[20];
  EXPECT_EQ(err(getxattr(path("f").c_str(), "security.capability", got, sizeof got)), ENODATA);
  EXPECT_EQ(mode_of("f"), 04755u);
  EXPECT_EQ(err(chown(path("f").c_str(), -1, -1)), 0);
  EXPECT_EQ(mode_of("f"), 0755u);
}

TEST_F(Permissions, Xattrs) {
  std::string f = path("f");
  write_file(f, "x");
  EXPECT_EQ(err(setxattr(f.c_str(), "user.a", "1", 1, XATTR_REPLACE)), ENODATA);
  EXPECT_EQ(err(setxattr(f.c_str(), "user.a", "1", 1, XATTR_CREATE)), 0);
  EXPECT_EQ(err(setxattr(f.c_str(), "user.a", "2", 1, XATTR_CREATE)), EEXIST);
  EXPECT_EQ(err(setxattr(f.c_str(), "user.a", "22", 2, XATTR_REPLACE)), 0);
  EXPECT_EQ(err(setxattr(f.c_str(), "user.empty", "", 0, 0)), 0);
  EXPECT_EQ(err(setxattr(f.c_str(), "trusted.t", "3", 1, 0)), 0);
  EXPECT_EQ(err(setxattr(f.c_str(), "nonsense", "3", 1, 0)), EOPNOTSUPP);
  EXPECT_EQ(getxattr(f.c_str(), "user.a", nullptr, 0), 2);
  EXPECT_EQ(getxattr(f.c_str(), "user.empty", nullptr, 0), 0);
  char small[1];
  EXPECT_EQ(err(getxattr(f.c_str(), "user.a", small, 1)), ERANGE);
  EXPECT_EQ(err(getxattr(f.c_str(), "user.none", small, 1)), ENODATA);
  std::string big(65536, 'b');
  if (is_graftfs()) {
    EXPECT_EQ(err(setxattr(f.c_str(), "user.a", big.data(), big.size(), 0)), 0);
    std::string value(big.size(), '?');
    EXPECT_EQ(getxattr(f.c_str(), "user.a", value.data(), value.size()), 65536);
    EXPECT_EQ(value, big);
    EXPECT_EQ(err(setxattr(f.c_str(), "user.b", big.data(), big.size(), 0)), ENOSPC)
        << "names and values of one file hold 96 KiB";
    big += 'b';
    EXPECT_EQ(err(setxattr(f.c_str(), "user.b", big.data(), big.size(), 0)), E2BIG);
  }
  std::string names(1000, '?');
  ssize_t n = listxattr(f.c_str(), names.data(), names.size());
  ASSERT_GT(n, 0);
  names.resize(n);
  EXPECT_NE(names.find("user.a"), std::string::npos);
  EXPECT_NE(names.find("trusted.t"), std::string::npos);
  EXPECT_EQ(err(listxattr(f.c_str(), small, 1)), ERANGE);
  ASSERT_EQ(removexattr(f.c_str(), "user.a"), 0);
  EXPECT_EQ(err(removexattr(f.c_str(), "user.a")), ENODATA);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(setxattr(f.c_str(), "user.x", "", 0, 0)); }),
            EACCES);
  EXPECT_EQ(as_user(kUser, 1, 0, [&] { return err(setxattr(f.c_str(), "trusted.x", "", 0, 0)); }),
            EPERM);
}

TEST_F(Permissions, UnknownIoctlsAreRefused) {
  int fd = ::open(dir().c_str(), O_RDONLY | O_DIRECTORY);
  if (is_graftfs()) {
    EXPECT_EQ(err(ioctl(fd, _IO('G', 99))), ENOTTY);
  }
  close(fd);
}

}  // namespace
}  // namespace graftfs::mounttest
