// The rules of POSIX and of Linux's man pages, table by table: for each call what it moves, what it
// refuses and with which errno. differential_test draws such calls at random; here none is missing.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <map>

#include "mounted.h"

namespace graftfs::mounttest {
namespace {

constexpr unsigned kUser = 12345, kOther = 54321, kGroup = 23456, kExtra = 34567;

struct Call {
  const char* name;
  std::function<int()> make;  // 0 or an errno
};

class Posix : public MountTest {
 protected:
  using Times = std::map<std::string, std::pair<int64_t, int64_t>>;  // mtime, ctime
  static int64_t ns(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }
  struct stat at(const std::string& name) {
    struct stat st{};
    EXPECT_EQ(lstat(path(name).c_str(), &st), 0) << name << ": " << strerror(errno);
    return st;
  }
  std::string p(const std::string& name) { return path(name); }
  void make(const std::string& name, mode_t type, mode_t mode = 0644) {
    if (S_ISDIR(type)) {
      ASSERT_EQ(mkdir(p(name).c_str(), 0755), 0) << name;
    } else if (S_ISLNK(type)) {
      ASSERT_EQ(symlink("target", p(name).c_str()), 0) << name;
      return;
    } else {
      ASSERT_EQ(mknod(p(name).c_str(), type | 0644, makedev(1, 3)), 0) << name;
    }
    ASSERT_EQ(chmod(p(name).c_str(), mode), 0);
  }
  void own(const std::string& name, unsigned uid, unsigned gid) {
    ASSERT_EQ(lchown(p(name).c_str(), uid, gid), 0) << strerror(errno);
  }
  void remove(const std::string& name) {
    if (unlink(p(name).c_str()) != 0 && errno == EISDIR) rmdir(p(name).c_str());
  }
  int as(unsigned uid, const std::function<int()>& fn) { return as_user(uid, uid, 0, fn); }
};

constexpr mode_t kTypes[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFLNK};

// -- times
// -----------------------------------------------------------------------------------------

TEST_F(Posix, WhatASuccessMovesAndAFailureDoesNot) {
  auto look = [&](std::initializer_list<const char*> names) {
    Times t;
    for (const char* n : names) {
      struct stat st{};
      if (lstat(p(n).c_str(), &st) == 0) t[n] = {ns(st.st_mtim), ns(st.st_ctim)};
    }
    return t;
  };
  const std::initializer_list<const char*> kAll = {".", "d", "e", "f", "g", "d/x", "l"};
  struct Row {
    const char* what;
    std::function<int()> call;
    int want;
    std::map<std::string, const char*> moved;  // "mc" both, "c" ctime only
  };
  auto s = [this](const char* n) { return path(n); };
  const Row rows[] = {
      {"chmod", [&] { return err(chmod(s("f").c_str(), 0600)); }, 0, {{"f", "c"}}},
      {"chmod to the same", [&] { return err(chmod(s("f").c_str(), 0600)); }, 0, {{"f", "c"}}},
      {"chmod of another's",
       [&] { return as(kUser, [&] { return err(chmod(s("f").c_str(), 0)); }); },
       EPERM,
       {}},
      {"chown", [&] { return err(chown(s("f").c_str(), 7, 7)); }, 0, {{"f", "c"}}},
      {"lchown", [&] { return err(lchown(s("l").c_str(), 7, 7)); }, 0, {{"l", "c"}}},
      {"chown(-1, -1)", [&] { return err(chown(s("f").c_str(), -1, -1)); }, 0, {{"f", "c"}}},
      {"chown without the right",
       [&] { return as(kUser, [&] { return err(chown(s("f").c_str(), kUser, -1)); }); },
       EPERM,
       {}},
      {"truncate", [&] { return err(truncate(s("f").c_str(), 123)); }, 0, {{"f", "mc"}}},
      {"truncate without the right",
       [&] { return as(kUser, [&] { return err(truncate(s("f").c_str(), 1)); }); },
       EACCES,
       {}},
      {"truncate to -1", [&] { return err(truncate(s("f").c_str(), -1)); }, EINVAL, {}},
      {"mkdir", [&] { return err(mkdir(s("d/n").c_str(), 0755)); }, 0, {{"d", "mc"}}},
      {"mkdir of what is there", [&] { return err(mkdir(s("d/n").c_str(), 0755)); }, EEXIST, {}},
      {"rmdir", [&] { return err(rmdir(s("d/n").c_str())); }, 0, {{"d", "mc"}}},
      {"rmdir of what is full", [&] { return err(rmdir(s("d").c_str())); }, ENOTEMPTY, {}},
      {"mkfifo", [&] { return err(mkfifo(s("d/n").c_str(), 0644)); }, 0, {{"d", "mc"}}},
      {"unlink", [&] { return err(unlink(s("d/n").c_str())); }, 0, {{"d", "mc"}}},
      {"unlink of nothing", [&] { return err(unlink(s("d/n").c_str())); }, ENOENT, {}},
      {"symlink", [&] { return err(symlink("t", s("d/n").c_str())); }, 0, {{"d", "mc"}}},
      {"unlink of a symlink", [&] { return err(unlink(s("d/n").c_str())); }, 0, {{"d", "mc"}}},
      {"link",
       [&] { return err(link(s("f").c_str(), s("d/n").c_str())); },
       0,
       {{"d", "mc"}, {"f", "c"}}},
      {"link over something",
       [&] { return err(link(s("f").c_str(), s("g").c_str())); },
       EEXIST,
       {}},
      {"rename onto another link of the same",
       [&] { return err(rename(s("f").c_str(), s("d/n").c_str())); },
       0,
       {}},
      {"unlink of one of two links",
       [&] { return err(unlink(s("d/n").c_str())); },
       0,
       {{"d", "mc"}, {"f", "c"}}},
      {"rename",
       [&] { return err(rename(s("d/x").c_str(), s("e/x").c_str())); },
       0,
       {{"d", "mc"}, {"e", "mc"}}},
      {"rename of a directory",
       [&] { return err(rename(s("d").c_str(), s("e/d").c_str())); },
       0,
       {{".", "mc"}, {"e", "mc"}}},
      {"rename back",
       [&] { return err(rename(s("e/d").c_str(), s("d").c_str())); },
       0,
       {{".", "mc"}, {"e", "mc"}}},
      {"rename below itself",
       [&] { return err(rename(s("d").c_str(), s("d/y").c_str())); },
       EINVAL,
       {}},
      {"creat", [&] { return err(creat(s("d/n").c_str(), 0644)); }, 0, {{"d", "mc"}}},
      {"open(O_CREAT) of what is there",
       [&] { return err(open(s("d/n").c_str(), O_CREAT | O_RDWR, 0644)); },
       0,
       {}},
      {"open(O_TRUNC)",
       [&] { return err(open(s("g").c_str(), O_WRONLY | O_TRUNC)); },
       0,
       {{"g", "mc"}}},
      {"utimensat",
       [&] { return err(utimensat(AT_FDCWD, s("g").c_str(), nullptr, 0)); },
       0,
       {{"g", "mc"}}},
      {"setxattr",
       [&] { return err(setxattr(s("g").c_str(), "user.a", "1", 1, 0)); },
       0,
       {{"g", "c"}}},
  };
  for (const char* dir : {"d", "e"}) make(dir, S_IFDIR, 0755);
  for (const char* file : {"f", "g", "d/x"}) make(file, S_IFREG);
  make("l", S_IFLNK);
  write_file(p("g"), "not empty");
  for (const Row& row : rows) {
    const Times before = look(kAll);
    usleep(11'000);  // longer than a tick of a coarse clock
    EXPECT_EQ(row.call(), row.want) << row.what;
    const Times after = look(kAll);
    for (auto& [name, was] : before) {
      auto now = after.find(name);
      if (now == after.end()) continue;
      auto moved = row.moved.find(name);
      const std::string want = moved == row.moved.end() ? "" : moved->second;
      EXPECT_EQ(now->second.first > was.first, want == "mc") << row.what << ": mtime of " << name;
      EXPECT_EQ(now->second.second > was.second, !want.empty())
          << row.what << ": ctime of " << name;
    }
  }
}

TEST_F(Posix, EverythingNewHasTheTimesOfItsMaking) {
  const int64_t second = 1'000'000'000;
  for (mode_t type : kTypes) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    make("n", type);
    const auto st = at("n");
    for (const timespec& t : {st.st_atim, st.st_mtim, st.st_ctim})
      EXPECT_GE(ns(t) + second / 10, ns(now)) << std::oct << type;
    remove("n");
  }
}

TEST_F(Posix, UtimensatWhoMayAndWhatMoves) {
  make("f", S_IFREG, 0646);
  own("f", kUser, kUser);
  const timespec now{0, UTIME_NOW}, omit{0, UTIME_OMIT}, old{1000, 5};
  struct Row {
    timespec a, m;
    int owner, writer, reader;
  };
  // The owner may do everything; who may write, set both to now; nobody else anything.
  for (const Row& row : {Row{now, now, 0, 0, EACCES}, Row{old, old, 0, EPERM, EPERM},
                         Row{now, omit, 0, EPERM, EPERM}, Row{omit, now, 0, EPERM, EPERM},
                         Row{old, omit, 0, EPERM, EPERM}, Row{omit, old, 0, EPERM, EPERM},
                         Row{omit, omit, 0, 0, 0}, Row{now, old, 0, EPERM, EPERM}}) {
    auto set = [&] {
      timespec times[] = {row.a, row.m};
      return err(utimensat(AT_FDCWD, p("f").c_str(), times, 0));
    };
    ASSERT_EQ(chmod(p("f").c_str(), 0644), 0);
    EXPECT_EQ(as(kUser, set), row.owner);
    EXPECT_EQ(as(kOther, set), row.reader);
    ASSERT_EQ(chmod(p("f").c_str(), 0646), 0);
    EXPECT_EQ(as(kOther, set), row.writer);
  }
  for (time_t sec : {-2'000'000'000l, -1l, 0l, 2'147'483'647l, 2'147'483'648l, 4'294'967'296l,
                     10'000'000'000l}) {
    const timespec times[] = {{sec, 1}, {sec, 999'999'999}};
    ASSERT_EQ(utimensat(AT_FDCWD, p("f").c_str(), times, 0), 0) << sec;
    EXPECT_EQ(at("f").st_mtim.tv_sec, sec);
    EXPECT_EQ(at("f").st_mtim.tv_nsec, 999'999'999);
    EXPECT_EQ(at("f").st_atim.tv_nsec, 1);
  }
  for (long nsec : {-1l, 1'000'000'000l}) {
    const timespec times[] = {{0, nsec}, {0, 0}};
    EXPECT_EQ(err(utimensat(AT_FDCWD, p("f").c_str(), times, 0)), EINVAL) << nsec;
  }
  make("l", S_IFLNK);
  const timespec both[] = {old, old};
  EXPECT_EQ(err(utimensat(AT_FDCWD, p("l").c_str(), both, 0)), ENOENT) << "where it leads";
  EXPECT_EQ(err(utimensat(AT_FDCWD, p("l").c_str(), both, AT_SYMLINK_NOFOLLOW)), 0);
  EXPECT_EQ(at("l").st_mtim.tv_sec, 1000);
}

// -- who may
// ---------------------------------------------------------------------------------------

std::vector<Call> calls_in(const std::string& dir) {
  auto in = [dir](const char* n) { return dir + "/" + n; };
  return {
      {"mkdir", [=] { return err(mkdir(in("new").c_str(), 0755)); }},
      {"mkfifo", [=] { return err(mkfifo(in("new").c_str(), 0644)); }},
      {"mknod", [=] { return err(mknod(in("new").c_str(), S_IFREG | 0644, 0)); }},
      {"symlink", [=] { return err(symlink("t", in("new").c_str())); }},
      {"creat", [=] { return err(creat(in("new").c_str(), 0644)); }},
      {"link", [=] { return err(link(in("f").c_str(), in("new").c_str())); }},
      {"rename", [=] { return err(rename(in("f").c_str(), in("new").c_str())); }},
      {"unlink", [=] { return err(unlink(in("f").c_str())); }},
      {"rmdir", [=] { return err(rmdir(in("d").c_str())); }},
  };
}

TEST_F(Posix, ADirectoryIsChangedByThoseWhoMayWriteAndSearchIt) {
  for (mode_t mode : {0777, 0555, 0666, 0444, 0333, 0000}) {
    for (size_t i = 0; i < calls_in("").size(); ++i) {
      make("dir", S_IFDIR, 0755);
      make("dir/f", S_IFREG, 0666);
      make("dir/d", S_IFDIR, 0777);
      for (const char* n : {"dir", "dir/f", "dir/d"}) own(n, kUser, kUser);
      ASSERT_EQ(chmod(p("dir").c_str(), mode), 0);
      const Call call = calls_in(p("dir"))[i];
      EXPECT_EQ(as(kUser, call.make), (mode & 0300) == 0300 ? 0 : EACCES)
          << call.name << " in " << std::oct << mode;
      std::string command = "rm -rf " + p("dir");
      ASSERT_EQ(system(command.c_str()), 0);
    }
  }
}

TEST_F(Posix, StickyDirectoriesProtectWhatOthersOwn) {
  for (mode_t type : kTypes) {
    for (unsigned dir_owner : {kUser, kOther}) {
      for (unsigned owner : {kUser, kOther, 0u}) {
        const bool may = dir_owner == kUser || owner == kUser;
        make("t", S_IFDIR, 01777);
        own("t", dir_owner, dir_owner);
        make("t/v", type);
        own("t/v", owner, owner);
        make("t/mine", type);
        own("t/mine", kUser, kUser);
        // A directory of others would also have to be writable to move elsewhere; here it stays.
        auto from = [&] { return err(rename(p("t/v").c_str(), p("t/w").c_str())); };
        auto onto = [&] { return err(rename(p("t/mine").c_str(), p("t/v").c_str())); };
        auto gone = [&] {
          return err(S_ISDIR(type) ? rmdir(p("t/v").c_str()) : unlink(p("t/v").c_str()));
        };
        const int want = may ? 0 : EPERM;
        EXPECT_EQ(as(kUser, from), want) << std::oct << type;
        rename(p("t/w").c_str(), p("t/v").c_str());
        EXPECT_EQ(as(kUser, gone), want) << std::oct << type;
        if (may) {
          make("t/v", type);
          own("t/v", owner, owner);
        }
        EXPECT_EQ(as(kUser, onto), want) << std::oct << type;
        std::string command = "rm -rf " + p("t");
        ASSERT_EQ(system(command.c_str()), 0);
      }
    }
  }
}

TEST_F(Posix, ChownTakesSetIdBitsAndAsksWho) {
  for (mode_t type : {S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR}) {
    for (mode_t mode : {06555, 06444, 04555, 02111}) {
      make("n", type, 0644);
      auto reset = [&] {
        own("n", kUser, kGroup);
        ASSERT_EQ(chmod(p("n").c_str(), mode), 0);
      };
      auto by = [&](unsigned uid, unsigned gid, unsigned extra, unsigned to, unsigned to_gid) {
        return as_user(uid, gid, extra, [&] { return err(chown(p("n").c_str(), to, to_gid)); });
      };
      mode_t cleared = mode;
      if (!S_ISDIR(type)) cleared &= ~(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0u));
      reset();
      EXPECT_EQ(by(kUser, kGroup, kExtra, -1, kExtra), 0);
      EXPECT_EQ(at("n").st_mode & 07777, cleared) << std::oct << type << " " << mode;
      EXPECT_EQ(at("n").st_gid, kExtra);
      reset();
      EXPECT_EQ(err(chown(p("n").c_str(), kUser, kGroup)), 0);
      EXPECT_EQ(at("n").st_mode & 07777, cleared) << "by root, to what it is";
      reset();
      EXPECT_EQ(err(chown(p("n").c_str(), -1, -1)), 0);
      EXPECT_EQ(at("n").st_mode & 07777, cleared) << "by root, to nobody";
      reset();
      EXPECT_EQ(by(kUser, kGroup, 0, kOther, -1), EPERM);
      EXPECT_EQ(by(kUser, kGroup, 0, -1, kExtra), EPERM) << "not a group of his";
      EXPECT_EQ(by(kOther, kGroup, 0, -1, kGroup), EPERM);
      EXPECT_EQ(by(kUser, kGroup, 0, kUser, kGroup), 0) << "to what it is";
      remove("n");
    }
  }
}

TEST_F(Posix, AWriteTakesSetGidFromThoseOutsideTheGroup) {
  for (mode_t mode : {06777, 06767, 02767, 04777}) {
    for (bool member : {false, true}) {
      write_file(p("f"), "0123456789");
      own("f", 0, kGroup);
      ASSERT_EQ(chmod(p("f").c_str(), mode), 0);
      EXPECT_EQ(as_user(kUser, kUser, member ? kGroup : 0,
                        [&] { return err(write(open(p("f").c_str(), O_WRONLY), "x", 1)); }),
                0);
      mode_t want = mode & ~S_ISUID;
      if ((mode & S_IXGRP) || !member) want &= ~S_ISGID;
      EXPECT_EQ(at("f").st_mode & 07777, want) << std::oct << mode << " member " << member;
      remove("f");
    }
  }
}

TEST_F(Posix, DevicesAreRoots) {
  ASSERT_EQ(chmod(dir().c_str(), 0777), 0);
  for (mode_t type : {S_IFCHR, S_IFBLK})
    EXPECT_EQ(as(kUser, [&] { return err(mknod(p("n").c_str(), type | 0644, makedev(1, 3))); }),
              EPERM);
  for (mode_t type : {S_IFREG, S_IFIFO, S_IFSOCK}) {
    EXPECT_EQ(as(kUser, [&] { return err(mknod(p("n").c_str(), type | 0644, 0)); }), 0);
    EXPECT_EQ(at("n").st_uid, kUser);
    remove("n");
  }
  EXPECT_EQ(err(mknod(p("n").c_str(), S_IFDIR | 0755, 0)), EPERM);
  EXPECT_EQ(err(mknod(p("n").c_str(), S_IFLNK | 0755, 0)), EINVAL);
}

// -- names and paths
// -------------------------------------------------------------------------------

std::vector<std::pair<const char*, std::function<int(const std::string&)>>> calls_on() {
  using S = const std::string&;
  return {
      {"open", [](S n) { return err(open(n.c_str(), O_RDONLY)); }},
      {"creat", [](S n) { return err(open(n.c_str(), O_CREAT | O_RDONLY, 0644)); }},
      {"chmod", [](S n) { return err(chmod(n.c_str(), 0644)); }},
      {"chown", [](S n) { return err(chown(n.c_str(), 0, 0)); }},
      {"lchown", [](S n) { return err(lchown(n.c_str(), 0, 0)); }},
      {"truncate", [](S n) { return err(truncate(n.c_str(), 0)); }},
      {"mkdir", [](S n) { return err(mkdir(n.c_str(), 0755)); }},
      {"mkfifo", [](S n) { return err(mkfifo(n.c_str(), 0644)); }},
      {"mknod", [](S n) { return err(mknod(n.c_str(), S_IFCHR | 0644, 0)); }},
      {"symlink", [](S n) { return err(symlink("t", n.c_str())); }},
      {"link from", [](S n) { return err(link(n.c_str(), (n + "2").c_str())); }},
      {"rename from", [](S n) { return err(rename(n.c_str(), (n + "2").c_str())); }},
      {"rmdir", [](S n) { return err(rmdir(n.c_str())); }},
      {"unlink", [](S n) { return err(unlink(n.c_str())); }},
      {"utimensat", [](S n) { return err(utimensat(AT_FDCWD, n.c_str(), nullptr, 0)); }},
  };
}

TEST_F(Posix, EveryCallSaysWhatIsWrongWithItsPath) {
  make("f", S_IFREG);
  ASSERT_EQ(symlink("loop1", p("loop2").c_str()), 0);
  ASSERT_EQ(symlink("loop2", p("loop1").c_str()), 0);
  const std::string long_name(256, 'n');
  std::string long_path = dir();
  while (long_path.size() < 4096) long_path += "/.";
  for (auto& [name, call] : calls_on()) {
    EXPECT_EQ(call(p("f/x")), ENOTDIR) << name;
    EXPECT_EQ(call(p("f/x/y")), ENOTDIR) << name;
    EXPECT_EQ(call(p("none/x")), ENOENT) << name;
    EXPECT_EQ(call(p("loop1/x")), ELOOP) << name;
    EXPECT_EQ(call(p(long_name)), ENAMETOOLONG) << name;
    EXPECT_EQ(call(p(long_name + "/x")), ENAMETOOLONG) << name;
    EXPECT_EQ(call(long_path), ENAMETOOLONG) << name;
    EXPECT_EQ(call(""), ENOENT) << name;
  }
  // The longest that are allowed.
  const std::string name(255, 'n');
  std::string path = dir() + "/";
  while (path.size() + 2 <= 4095 - 1) path += "./";
  path += std::string(4095 - path.size(), 'p');
  for (const std::string& longest : {p(name), path}) {
    for (mode_t type : {S_IFREG, S_IFIFO}) {
      EXPECT_EQ(err(mknod(longest.c_str(), type | 0644, 0)), 0);
      EXPECT_EQ(err(chmod(longest.c_str(), 0600)), 0);
      EXPECT_EQ(err(rename(longest.c_str(), p("short").c_str())), 0);
      EXPECT_EQ(err(link(p("short").c_str(), longest.c_str())), 0);
      EXPECT_EQ(err(unlink(longest.c_str())), 0);
      EXPECT_EQ(err(unlink(p("short").c_str())), 0);
    }
    EXPECT_EQ(err(mkdir(longest.c_str(), 0755)), 0);
    EXPECT_EQ(err(rmdir(longest.c_str())), 0);
  }
  EXPECT_EQ(err(symlink(std::string(4096, 't').c_str(), p("s").c_str())), ENAMETOOLONG);
}

TEST_F(Posix, RenameMeetsEveryType) {
  auto rank_of = [](mode_t type) { return S_ISDIR(type); };
  for (mode_t from : kTypes) {
    for (mode_t to : kTypes) {
      make("a", from);
      make("b", to);
      const int want = rank_of(from) == rank_of(to) ? 0 : rank_of(to) ? EISDIR : ENOTDIR;
      const auto before = at("a");
      EXPECT_EQ(err(rename(p("a").c_str(), p("b").c_str())), want) << std::oct << from << " " << to;
      if (!want) {
        EXPECT_EQ(at("b").st_ino, before.st_ino);
      }
      remove("a");
      remove("b");
      make("a", from);
      make("b", to);
      const auto a = at("a"), b = at("b");
      EXPECT_EQ(err(renameat2(AT_FDCWD, p("a").c_str(), AT_FDCWD, p("b").c_str(), RENAME_EXCHANGE)),
                0);
      EXPECT_EQ(at("a").st_ino, b.st_ino);
      EXPECT_EQ(at("b").st_ino, a.st_ino);
      EXPECT_EQ(
          err(renameat2(AT_FDCWD, p("a").c_str(), AT_FDCWD, p("b").c_str(), RENAME_NOREPLACE)),
          EEXIST);
      remove("a");
      remove("b");
    }
  }
}

TEST_F(Posix, ExchangedDirectoriesKnowTheirParents) {
  for (const char* d : {"p", "q", "p/a", "q/b", "p/a/in"}) make(d, S_IFDIR, 0755);
  ASSERT_EQ(renameat2(AT_FDCWD, p("p/a").c_str(), AT_FDCWD, p("q/b").c_str(), RENAME_EXCHANGE), 0);
  struct stat st{};
  ASSERT_EQ(stat(p("q/b/in/../..").c_str(), &st), 0);
  EXPECT_EQ(st.st_ino, at("q").st_ino);
  ASSERT_EQ(stat(p("p/a/..").c_str(), &st), 0);
  EXPECT_EQ(st.st_ino, at("p").st_ino);
  make("f", S_IFREG);
  ASSERT_EQ(renameat2(AT_FDCWD, p("f").c_str(), AT_FDCWD, p("q/b").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(at("q").st_nlink, 2u);
  EXPECT_EQ(at("f").st_nlink, 3u) << "with a directory in it";
}

TEST_F(Posix, OpenFlagsAndWhatTheyMeet) {
  make("f", S_IFREG);
  make("d", S_IFDIR, 0755);
  ASSERT_EQ(symlink("f", p("l").c_str()), 0);
  ASSERT_EQ(symlink("none", p("dangling").c_str()), 0);
  ASSERT_EQ(symlink("d", p("ld").c_str()), 0);
  make("p", S_IFIFO);
  make("s", S_IFSOCK);
  struct Row {
    const char* name;
    int flags, want;
  };
  for (const Row& row : {
           Row{"f", O_CREAT | O_EXCL | O_RDWR, EEXIST},
           Row{"l", O_CREAT | O_EXCL | O_RDWR, EEXIST},
           Row{"dangling", O_CREAT | O_EXCL | O_RDWR, EEXIST},
           Row{"dangling", O_RDONLY, ENOENT},
           Row{"l", O_NOFOLLOW | O_RDONLY, ELOOP},
           Row{"l", O_NOFOLLOW | O_PATH, 0},
           Row{"l", O_DIRECTORY | O_RDONLY, ENOTDIR},
           Row{"ld", O_DIRECTORY | O_RDONLY, 0},
           Row{"ld", O_DIRECTORY | O_NOFOLLOW | O_RDONLY, ENOTDIR},
           Row{"f", O_DIRECTORY, ENOTDIR},
           Row{"d", O_RDWR, EISDIR},
           Row{"d", O_WRONLY, EISDIR},
           Row{"d", O_RDONLY | O_TRUNC, EISDIR},
           Row{"d", O_CREAT | O_RDONLY, EISDIR},
           Row{"p", O_WRONLY | O_NONBLOCK, ENXIO},
           Row{"s", O_RDWR, ENXIO},
           Row{"f/", O_RDONLY, ENOTDIR},
           Row{"new/", O_CREAT | O_RDWR, EISDIR},
       })
    EXPECT_EQ(err(open(p(row.name).c_str(), row.flags, 0644)), row.want)
        << row.name << " " << std::oct << row.flags;
  EXPECT_EQ(err(open(p("dangling").c_str(), O_CREAT | O_RDWR, 0644)), 0) << "makes what it names";
  EXPECT_EQ(err(access(p("none").c_str(), F_OK)), 0);
}

TEST_F(Posix, ARunningProgramIsNotWritten) {
  ASSERT_EQ(system(("cp /bin/sleep " + p("sleep")).c_str()), 0);
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  pid_t child = fork();
  if (child == 0) {
    execl(p("sleep").c_str(), "sleep", "600", nullptr);
    _exit(127);
  }
  close(ready[1]);
  char c;
  EXPECT_EQ(read(ready[0], &c, 1), 0) << "execve(2) has closed the child's end";
  close(ready[0]);
  EXPECT_EQ(err(open(p("sleep").c_str(), O_WRONLY)), ETXTBSY);
  EXPECT_EQ(err(open(p("sleep").c_str(), O_RDWR)), ETXTBSY);
  EXPECT_EQ(err(truncate(p("sleep").c_str(), 1)), ETXTBSY);
  EXPECT_EQ(err(open(p("sleep").c_str(), O_RDONLY)), 0);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(err(open(p("sleep").c_str(), O_WRONLY)), 0);
}

}  // namespace
}  // namespace graftfs::mounttest
