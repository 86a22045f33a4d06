// Names: making, removing, renaming, listing.

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "mounted.h"

namespace graftfs::mounttest {
namespace {

using Names = MountTest;

struct stat stat_of(const std::string& path) {
  struct stat st{};
  EXPECT_EQ(lstat(path.c_str(), &st), 0) << path << ": " << strerror(errno);
  return st;
}

// The link count alone, as `stat -c %h` asks for it.
unsigned links_by_statx(const std::string& path) {
  struct statx x{};
  EXPECT_EQ(statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_NLINK, &x), 0);
  return x.stx_nlink;
}

std::vector<std::string> list(const std::string& path) {
  std::vector<std::string> names;
  DIR* d = opendir(path.c_str());
  EXPECT_TRUE(d) << strerror(errno);
  while (dirent* e = readdir(d)) names.push_back(e->d_name);
  closedir(d);
  return names;
}

int rename2(const std::string& from, const std::string& to, unsigned flags) {
  return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
}

TEST_F(Names, EveryTypeIsMadeAsAsked) {
  struct {
    mode_t mode;
    dev_t dev;
  } types[] = {{S_IFREG | 0640, 0},
               {S_IFIFO | 0600, 0},
               {S_IFSOCK | 0755, 0},
               {S_IFCHR | 0666, makedev(1, 3)},
               {S_IFBLK | 0600, makedev(259, 70000)}};
  for (auto& t : types) {
    std::string p = path("node");
    ASSERT_EQ(mknod(p.c_str(), t.mode, t.dev), 0) << strerror(errno);
    auto st = stat_of(p);
    EXPECT_EQ(st.st_mode, t.mode & ~022u);
    EXPECT_EQ(st.st_rdev, t.dev);
    EXPECT_EQ(st.st_nlink, 1u);
    EXPECT_EQ(st.st_uid, 0u);
    ASSERT_EQ(unlink(p.c_str()), 0);
  }
  int null = open(
      (mknod(path("null").c_str(), S_IFCHR | 0666, makedev(1, 3)), path("null")).c_str(), O_RDWR);
  EXPECT_GE(null, 0) << "a device of a mount by root works: " << strerror(errno);
  close(null);
}

TEST_F(Names, Errors) {
  write_file(path("f"), "x");
  EXPECT_EQ(err(mkdir(path("f").c_str(), 0755)), EEXIST);
  EXPECT_EQ(err(open(path("f").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644)), EEXIST);
  EXPECT_EQ(err(open(path("none").c_str(), O_RDONLY)), ENOENT);
  EXPECT_EQ(err(open(path("f/x").c_str(), O_RDONLY)), ENOTDIR);
  EXPECT_EQ(err(open(dir().c_str(), O_WRONLY)), EISDIR);
  EXPECT_EQ(err(unlink(path("none").c_str())), ENOENT);
  EXPECT_EQ(err(rmdir(path("f").c_str())), ENOTDIR);
  ASSERT_EQ(mkdir(path("d").c_str(), 0755), 0);
  EXPECT_EQ(err(unlink(path("d").c_str())), EISDIR);
  write_file(path("d/x"), "");
  EXPECT_EQ(err(rmdir(path("d").c_str())), ENOTEMPTY);
  EXPECT_EQ(err(rmdir(path("d/.").c_str())), EINVAL);
  EXPECT_EQ(err(link(path("d").c_str(), path("e").c_str())), EPERM);
  EXPECT_EQ(err(mkdir(path(std::string(256, 'n')).c_str(), 0755)), ENAMETOOLONG);
  EXPECT_EQ(err(mkdir(path(std::string(255, 'n')).c_str(), 0755)), 0);
  EXPECT_EQ(err(rmdir(path(std::string(255, 'n')).c_str())), 0);
}

TEST_F(Names, WhoMakesAFileMayWriteItWhateverItsMode) {
  EXPECT_EQ(as_user(0, 0, 0, [&] { return err(chmod(dir().c_str(), 0777)); }), 0);
  EXPECT_EQ(as_user(12345, 12345, 0,
                    [&] {
                      int fd = open(path("f").c_str(), O_CREAT | O_WRONLY, 0444);
                      if (fd < 0) return errno;
                      return err(write(fd, "x", 1)) ? err(write(fd, "x", 1))
                                                    : err(ftruncate(fd, 0));
                    }),
            0);
  EXPECT_EQ(as_user(12345, 12345, 0, [&] { return err(open(path("f").c_str(), O_WRONLY)); }),
            EACCES);
  EXPECT_EQ(as_user(12345, 12345, 0,
                    [&] { return err(open(path("g").c_str(), O_CREAT | O_RDWR | O_TRUNC, 0)); }),
            0);
}

TEST_F(Names, LinksCount) {
  write_file(path("a"), "data");
  ASSERT_EQ(link(path("a").c_str(), path("b").c_str()), 0);
  EXPECT_EQ(stat_of(path("a")).st_nlink, 2u);
  EXPECT_EQ(links_by_statx(path("b")), 2u);
  EXPECT_EQ(stat_of(path("a")).st_ino, stat_of(path("b")).st_ino);
  EXPECT_EQ(read_file(path("b")), "data");
  int fd = open(path("a").c_str(), O_RDONLY);
  ASSERT_EQ(unlink(path("a").c_str()), 0);
  struct stat st;
  ASSERT_EQ(fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 1u);
  ASSERT_EQ(rename(path("b").c_str(), path("c").c_str()), 0);
  ASSERT_EQ(unlink(path("c").c_str()), 0);
  ASSERT_EQ(fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u);
  char buffer[8];
  EXPECT_EQ(read(fd, buffer, 8), 4) << "an open file lives on without a name";
  close(fd);
}

TEST_F(Names, DirectoryLinkCountsFollow) {
  EXPECT_EQ(links_by_statx(dir()), 2u);
  for (int i = 1; i <= 3; ++i) {
    ASSERT_EQ(mkdir(path("d" + std::to_string(i)).c_str(), 0755), 0);
    EXPECT_EQ(stat_of(dir()).st_nlink, 2u + i);
  }
  EXPECT_EQ(links_by_statx(dir()), 5u);
  ASSERT_EQ(rename(path("d1").c_str(), path("d2/d1").c_str()), 0);
  EXPECT_EQ(links_by_statx(dir()), 4u);
  EXPECT_EQ(links_by_statx(path("d2")), 3u);
  ASSERT_EQ(rmdir(path("d2/d1").c_str()), 0);
  EXPECT_EQ(links_by_statx(path("d2")), 2u);
  // A directory that replaces another one.
  ASSERT_EQ(rename(path("d2").c_str(), path("d3").c_str()), 0);
  EXPECT_EQ(links_by_statx(dir()), 3u);
}

TEST_F(Names, RenameReplaces) {
  write_file(path("a"), "a");
  write_file(path("b"), "b");
  int victim = open(path("b").c_str(), O_RDONLY);
  auto before = stat_of(path("a"));
  usleep(2000);
  ASSERT_EQ(rename(path("a").c_str(), path("b").c_str()), 0);
  EXPECT_EQ(read_file(path("b")), "a");
  EXPECT_EQ(err(access(path("a").c_str(), F_OK)), ENOENT);
  struct stat st;
  ASSERT_EQ(fstat(victim, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u);
  char c;
  EXPECT_EQ(read(victim, &c, 1), 1);
  EXPECT_EQ(c, 'b');
  close(victim);
  auto after = stat_of(path("b"));
  EXPECT_EQ(after.st_ino, before.st_ino);
  EXPECT_GT(std::make_pair(after.st_ctim.tv_sec, after.st_ctim.tv_nsec),
            std::make_pair(before.st_ctim.tv_sec, before.st_ctim.tv_nsec));
}

TEST_F(Names, RenameOntoAnotherLinkDoesNothing) {
  write_file(path("a"), "a");
  ASSERT_EQ(link(path("a").c_str(), path("b").c_str()), 0);
  ASSERT_EQ(rename(path("a").c_str(), path("b").c_str()), 0);
  EXPECT_EQ(stat_of(path("a")).st_nlink, 2u);
  EXPECT_EQ(read_file(path("b")), "a");
}

TEST_F(Names, RenameFlagsAndDirectories) {
  write_file(path("f"), "f");
  ASSERT_EQ(mkdir(path("d").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(path("d/sub").c_str(), 0755), 0);
  EXPECT_EQ(err(rename2(path("f"), path("d"), RENAME_NOREPLACE)), EEXIST);
  EXPECT_EQ(err(rename(path("f").c_str(), path("d").c_str())), EISDIR);
  EXPECT_EQ(err(rename(path("d").c_str(), path("f").c_str())), ENOTDIR);
  EXPECT_EQ(err(rename(path("d").c_str(), path("d/sub/x").c_str())), EINVAL);
  ASSERT_EQ(mkdir(path("e").c_str(), 0755), 0);
  EXPECT_EQ(err(rename(path("e").c_str(), path("d").c_str())), ENOTEMPTY);
  EXPECT_EQ(err(rename2(path("f"), path("none"), RENAME_EXCHANGE)), ENOENT);
  ASSERT_EQ(rename2(path("f"), path("d/sub"), RENAME_EXCHANGE), 0) << strerror(errno);
  EXPECT_EQ(read_file(path("d/sub")), "f");
  EXPECT_TRUE(S_ISDIR(stat_of(path("f")).st_mode));
  EXPECT_EQ(links_by_statx(path("d")), 2u);
  EXPECT_EQ(links_by_statx(dir()), 5u);
  EXPECT_EQ(err(rename2(path("e"), path("new"), RENAME_NOREPLACE)), 0);
}

TEST_F(Names, SymlinksOfEveryLength) {
  for (size_t n : {1, 60, 255, 4095}) {
    std::string target(n, 't');
    ASSERT_EQ(symlink(target.c_str(), path("l").c_str()), 0) << strerror(errno);
    std::string got(5000, '?');
    ssize_t r = readlink(path("l").c_str(), got.data(), got.size());
    EXPECT_EQ(got.substr(0, r), target);
    EXPECT_EQ(stat_of(path("l")).st_size, off_t(n));
    ASSERT_EQ(unlink(path("l").c_str()), 0);
  }
}

TEST_F(Names, AListingHasEveryNameOnce) {
  std::set<std::string> want = {".", ".."};
  for (int i = 0; i < 3000; ++i) {
    std::string name = "entry-" + std::to_string(i) + std::string(i % 40, 'x');
    ASSERT_EQ(mknod(path(name).c_str(), S_IFREG | 0644, 0), 0);
    want.insert(name);
  }
  auto got = list(dir());
  EXPECT_EQ(got.size(), want.size());
  EXPECT_EQ(std::set<std::string>(got.begin(), got.end()), want);
  ASSERT_GE(got.size(), 2u);
  if (is_graftfs()) {
    EXPECT_EQ(got[0], ".");
    EXPECT_EQ(got[1], "..");
  }
  EXPECT_EQ(list(dir()), got) << "the order is stable";
}

TEST_F(Names, TheDotsHaveTheRightInos) {
  ASSERT_EQ(mkdir(path("d").c_str(), 0755), 0);
  DIR* d = opendir(path("d").c_str());
  int seen = 0;
  while (dirent* e = readdir(d)) {
    if (std::string(e->d_name) == ".") {
      EXPECT_EQ(e->d_ino, stat_of(path("d")).st_ino);
      ++seen;
    }
    if (std::string(e->d_name) == "..") {
      EXPECT_EQ(e->d_ino, stat_of(dir()).st_ino);
      ++seen;
    }
  }
  closedir(d);
  EXPECT_EQ(seen, 2);
}

TEST_F(Names, SeekdirGoesOnWhileEntriesComeAndGo) {
  for (int i = 0; i < 500; ++i)
    ASSERT_EQ(mknod(path("f" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0);
  DIR* d = opendir(dir().c_str());
  ASSERT_TRUE(d);
  std::vector<std::pair<long, std::string>> at;  // the position behind a name, and the next name
  std::vector<std::string> order;
  std::vector<long> positions;
  while (dirent* e = readdir(d)) {
    order.push_back(e->d_name);
    positions.push_back(telldir(d));
  }
  // Half of them go, others come.
  std::set<std::string> removed;
  for (size_t i = 0; i < order.size(); i += 2) {
    if (order[i][0] != 'f') continue;
    ASSERT_EQ(unlink(path(order[i]).c_str()), 0);
    removed.insert(order[i]);
  }
  for (int i = 0; i < 200; ++i)
    ASSERT_EQ(mknod(path("n" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0);
  for (size_t k : {size_t{3}, order.size() / 2, order.size() - 3}) {
    rewinddir(d);
    ASSERT_TRUE(readdir(d)) << "a listing is new once it is read from its start";
    seekdir(d, positions[k]);
    std::vector<std::string> rest, want;
    while (dirent* e = readdir(d))
      if (e->d_name[0] == 'f') rest.push_back(e->d_name);
    for (size_t i = k + 1; i < order.size(); ++i)
      if (order[i][0] == 'f' && !removed.count(order[i])) want.push_back(order[i]);
    EXPECT_EQ(rest, want) << "from position " << k;
  }
  closedir(d);
}

TEST_F(Names, ALargeTreeIsRemovedWhileItIsListed) {
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(mknod(path("f" + std::to_string(i)).c_str(), S_IFREG | 0644, 0), 0);
  DIR* d = opendir(dir().c_str());
  while (dirent* e = readdir(d))
    if (e->d_name[0] == 'f') {
      EXPECT_EQ(unlinkat(dirfd(d), e->d_name, 0), 0);
    }
  closedir(d);
  EXPECT_EQ(list(dir()).size(), 2u);
}

TEST_F(Names, ARemovedDirectoryTakesNoMore) {
  ASSERT_EQ(mkdir(path("d").c_str(), 0755), 0);
  int fd = open(path("d").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(rmdir(path("d").c_str()), 0);
  EXPECT_EQ(err(openat(fd, "x", O_CREAT | O_WRONLY, 0644)), ENOENT);
  EXPECT_EQ(err(mkdirat(fd, "x", 0755)), ENOENT);
  struct stat st;
  ASSERT_EQ(fstat(fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u);
  close(fd);
}

TEST_F(Names, ParentsTimesMove) {
  auto newer = [](const timespec& a, const timespec& b) {
    return std::make_pair(a.tv_sec, a.tv_nsec) > std::make_pair(b.tv_sec, b.tv_nsec);
  };
  auto step = [&](const char* what, const std::function<int()>& change) {
    auto before = stat_of(dir());
    usleep(11000);
    ASSERT_EQ(change(), 0) << what << ": " << strerror(errno);
    auto after = stat_of(dir());
    EXPECT_TRUE(newer(after.st_mtim, before.st_mtim)) << what;
    EXPECT_TRUE(newer(after.st_ctim, before.st_ctim)) << what;
  };
  step("mkdir", [&] { return mkdir(path("d").c_str(), 0755); });
  step("mknod", [&] { return mknod(path("f").c_str(), S_IFREG | 0644, 0); });
  step("link", [&] { return link(path("f").c_str(), path("g").c_str()); });
  step("rename", [&] { return rename(path("g").c_str(), path("h").c_str()); });
  step("move away", [&] { return rename(path("h").c_str(), path("d/h").c_str()); });
  step("symlink", [&] { return symlink("x", path("s").c_str()); });
  step("unlink", [&] { return unlink(path("f").c_str()); });
  ASSERT_EQ(unlink(path("d/h").c_str()), 0);
  step("rmdir", [&] { return rmdir(path("d").c_str()); });
}

TEST_F(Names, OpenByHandleSurvivesARemount) {
  write_file(path("f"), "by handle");
  union {
    file_handle h;
    char space[sizeof(file_handle) + MAX_HANDLE_SZ];
  };
  h.handle_bytes = MAX_HANDLE_SZ;
  int mount_id;
  ASSERT_EQ(name_to_handle_at(AT_FDCWD, path("f").c_str(), &h, &mount_id, 0), 0) << strerror(errno);
  if (is_graftfs()) Mounted::get().remount();
  int mount = open(Mounted::get().dir().c_str(), O_RDONLY | O_DIRECTORY);
  int fd = open_by_handle_at(mount, &h, O_RDONLY);
  ASSERT_GE(fd, 0) << strerror(errno);
  char buffer[32];
  EXPECT_EQ(read(fd, buffer, 32), 9);
  close(fd);
  ASSERT_EQ(unlink(path("f").c_str()), 0);
  if (is_graftfs()) Mounted::get().remount();
  close(mount);
  mount = open(Mounted::get().dir().c_str(), O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(err(open_by_handle_at(mount, &h, O_RDONLY)), ESTALE);
  close(mount);
}

}  // namespace
}  // namespace graftfs::mounttest
