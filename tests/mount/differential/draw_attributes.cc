// Calls on attributes, extended attributes and ACLs.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "differential/draw.h"

namespace graftfs::mounttest {
namespace {

Step draw_chmod(Draw& d) {
  const mode_t mode = d.mode();
  const int slot = d.slot();
  if (d.one_in(4))
    return {fmt::format("fchmod({}, {:o})", slot, mode),
            [=](Caller& c) { return outcome(fchmod(c.fds[slot], mode)); }};
  const auto path = d.path();
  return {fmt::format("chmod({}, {:o})", q(path), mode),
          [=](Caller&) { return outcome(chmod(path.c_str(), mode)); }};
}

// Who does not own a file may say chown(-1, -1), but not when that would take set-uid or set-gid:
// EPERM. A FUSE file system cannot tell it from what precedes a write, and takes nothing.
bool would_take(uid_t uid, gid_t gid, const Caller& c, const struct stat& st) {
  return uid == -1u && gid == -1u && c.who.uid != 0 && c.who.uid != st.st_uid &&
         (st.st_mode & (S_ISUID | S_ISGID));
}

Step draw_chown(Draw& d) {
  const uid_t uid = d.one_in(2) ? -1u : d.uid();
  const gid_t gid = d.one_in(3) ? -1u : d.gid();
  const int slot = d.slot();
  if (d.one_in(4))
    return {fmt::format("fchown({}, {}, {})", slot, int(uid), int(gid)), [=](Caller& c) {
              struct stat st{};
              if (fstat(c.fds[slot], &st) == 0 && would_take(uid, gid, c, st))
                return std::string("-");
              return outcome(fchown(c.fds[slot], uid, gid));
            }};
  const auto path = d.path();
  const int flags = d.of({0, AT_SYMLINK_NOFOLLOW});
  return {fmt::format("fchownat({}, {}, {}, {:#x})", q(path), int(uid), int(gid), flags),
          [=](Caller& c) {
            struct stat st{};
            if (fstatat(AT_FDCWD, path.c_str(), &st, flags) == 0 && would_take(uid, gid, c, st))
              return std::string("-");
            return outcome(fchownat(AT_FDCWD, path.c_str(), uid, gid, flags));
          }};
}

timespec draw_time(Draw& d) {
  return {d.of<time_t>({0, 1, -1, -2'000'000'000, 1'000'000'000, 4'294'967'296, 10'000'000'000}),
          d.of<long>({0, 1, 999'999'999, 123'456'789, UTIME_NOW, UTIME_NOW, UTIME_OMIT, UTIME_OMIT,
                      1'000'000'000, -1})};
}

Step draw_utimens(Draw& d) {
  const timespec at = draw_time(d), mt = draw_time(d);
  const bool now = d.one_in(5);
  const auto text = now ? std::string("now")
                        : fmt::format("{}.{} {}.{}", at.tv_sec, at.tv_nsec, mt.tv_sec, mt.tv_nsec);
  // The access time is looked at here, because later it may move; and only where it was set,
  // because a listing that the kernel has remembered does not move it.
  const bool sets_atime = now || at.tv_nsec != UTIME_OMIT;
  auto seen = [sets_atime](int r, const struct stat& st) {
    if (r != 0 || !sets_atime) return outcome(r);
    const bool clock = st.st_atim.tv_sec > 1'600'000'000 && st.st_atim.tv_sec < 4'000'000'000;
    return clock ? std::string("ok clock")
                 : fmt::format("ok {}.{}", st.st_atim.tv_sec, st.st_atim.tv_nsec);
  };
  const int slot = d.slot();
  if (d.one_in(4))
    return {fmt::format("futimens({}, {})", slot, text), [=](Caller& c) {
              timespec times[] = {at, mt};
              struct stat st{};
              int r = futimens(c.fds[slot], now ? nullptr : times);
              const int error = errno;
              fstat(c.fds[slot], &st);
              errno = error;
              return seen(r, st);
            }};
  const auto path = d.path();
  const int flags = d.of({0, 0, AT_SYMLINK_NOFOLLOW});
  return {fmt::format("utimensat({}, {}, {:#x})", q(path), text, flags), [=](Caller&) {
            timespec times[] = {at, mt};
            struct stat st{};
            int r = utimensat(AT_FDCWD, path.c_str(), now ? nullptr : times, flags);
            const int error = errno;
            fstatat(AT_FDCWD, path.c_str(), &st, flags);
            errno = error;
            return seen(r, st);
          }};
}

std::string draw_acl(Draw& d) {
  std::string out("\2\0\0\0", 4);
  auto add = [&](uint16_t tag, uint32_t id) {
    const uint16_t perm = static_cast<uint16_t>(d.below(8));
    out.append(reinterpret_cast<const char*>(&tag), 2);
    out.append(reinterpret_cast<const char*>(&perm), 2);
    out.append(reinterpret_cast<const char*>(&id), 4);
  };
  const bool user = d.one_in(2), group = d.one_in(2);
  add(1, -1u);
  if (user) add(2, d.of<uint32_t>({1001, 1002}));
  if (!d.one_in(20)) add(4, -1u);
  if (group) add(8, d.of<uint32_t>({2001, 2002}));
  if (((user || group) && !d.one_in(20)) || d.one_in(5)) add(16, -1u);
  add(32, -1u);
  if (d.one_in(20)) out.resize(out.size() - 3);
  if (d.one_in(20)) out.resize(4);
  return out;
}

struct Attribute {
  std::string name, value;
};
Attribute draw_xattr(Draw& d) {
  Attribute a;
  a.name = d.of<const char*>({"user.a", "user.b", "trusted.t", "security.s", "security.capability",
                              "system.posix_acl_access", "system.posix_acl_access",
                              "system.posix_acl_default", "system.other", "nonsense", "user.", ""});
  if (d.one_in(40)) a.name = "user." + std::string(d.of({249, 250, 251, 252}), 'n');
  if (a.name.starts_with("system.posix_acl")) {
    a.value = draw_acl(d);
  } else if (a.name == "security.capability") {
    a.value = std::string("\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  } else {
    a.value.assign(d.below(60), static_cast<char>('a' + d.below(26)));
  }
  return a;
}

Step draw_setxattr(Draw& d) {
  const Attribute a = draw_xattr(d);
  const int flags = d.of<int>({0, 0, 0, XATTR_CREATE, XATTR_REPLACE, 3});
  const int slot = d.slot();
  // ext4 leaves ctime alone where the value is what it was; XFS and GraftFS do not ask.
  auto same = [a](ssize_t n, const std::string& got) {
    return n == ssize_t(a.value.size()) && got.compare(0, n, a.value) == 0;
  };
  const std::string text = fmt::format("{}, {}, {:#x}", q(a.name), digest(a.value), flags);
  if (d.one_in(5))
    return {fmt::format("fsetxattr({}, {})", slot, text), [=](Caller& c) {
              std::string got(1000, '\0');
              if (same(fgetxattr(c.fds[slot], a.name.c_str(), got.data(), got.size()), got))
                return std::string("-");
              return outcome(
                  fsetxattr(c.fds[slot], a.name.c_str(), a.value.data(), a.value.size(), flags));
            }};
  const auto path = d.path();
  const bool follow = !d.one_in(4);
  return {fmt::format("{}setxattr({}, {})", follow ? "" : "l", q(path), text), [=](Caller&) {
            std::string got(1000, '\0');
            if (same((follow ? getxattr : lgetxattr)(path.c_str(), a.name.c_str(), got.data(),
                                                     got.size()),
                     got))
              return std::string("-");
            return outcome((follow ? setxattr : lsetxattr)(path.c_str(), a.name.c_str(),
                                                           a.value.data(), a.value.size(), flags));
          }};
}

Step draw_getxattr(Draw& d) {
  const auto name = draw_xattr(d).name, path = d.path();
  const size_t size = d.of<size_t>({0, 1, 1000});
  const bool follow = !d.one_in(4);
  return {fmt::format("{}getxattr({}, {}, {})", follow ? "" : "l", q(path), q(name), size),
          [=](Caller&) {
            std::string value(size, '\0');
            ssize_t n = (follow ? getxattr : lgetxattr)(path.c_str(), name.c_str(),
                                                        size ? value.data() : nullptr, size);
            if (n < 0 || size == 0) return outcome_value(n);
            value.resize(n);
            return digest(value);
          }};
}

Step draw_listxattr(Draw& d) {
  const auto path = d.path();
  const size_t size = d.of<size_t>({0, 3, 5000});
  return {fmt::format("listxattr({}, {})", q(path), size), [=](Caller&) {
            std::string names(size, '\0');
            return outcome_value(listxattr(path.c_str(), size ? names.data() : nullptr, size));
          }};
}

Step draw_removexattr(Draw& d) {
  const auto name = draw_xattr(d).name, path = d.path();
  const bool follow = !d.one_in(4);
  return {fmt::format("{}removexattr({}, {})", follow ? "" : "l", q(path), q(name)), [=](Caller&) {
            return outcome((follow ? removexattr : lremovexattr)(path.c_str(), name.c_str()));
          }};
}

}  // namespace

Step draw_attribute_call(Draw& d) {
  switch (d.below(12)) {
    case 0 ... 2:
      return draw_chmod(d);
    case 3 ... 5:
      return draw_chown(d);
    case 6 ... 7:
      return draw_utimens(d);
    case 8 ... 9:
      return draw_setxattr(d);
    case 10:
      return d.one_in(2) ? draw_getxattr(d) : draw_listxattr(d);
    default:
      return draw_removexattr(d);
  }
}

}  // namespace graftfs::mounttest
