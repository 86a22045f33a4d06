#include "observe.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace graftfs::crash {
namespace {

// Clocks of files may be those of the last tick.
constexpr int64_t kClockSlack = 20'000'000;

std::string failed(const char* call, const std::string& path) {
  return fmt::format("{} {}: {}", call, path, std::strerror(errno));
}

std::string read_xattrs(const std::string& path, Observed& o) {
  char names[4096], value[4096];
  ssize_t n = ::llistxattr(path.c_str(), names, sizeof names);
  if (n < 0) return failed("llistxattr", path);
  for (char* name = names; name < names + n; name += std::strlen(name) + 1) {
    ssize_t size = ::lgetxattr(path.c_str(), name, value, sizeof value);
    if (size < 0) return failed("lgetxattr", path);
    o.xattrs[name] = std::string(value, static_cast<size_t>(size));
  }
  return "";
}

std::string read_bytes(const std::string& path, Observed& o) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open", path);
  o.bytes.resize(o.size + 1);  // one more: nothing may follow
  size_t got = 0;
  ssize_t n;
  while ((n = ::read(fd, o.bytes.data() + got, o.bytes.size() - got)) > 0)
    got += static_cast<size_t>(n);
  std::string error = n < 0 ? failed("read", path) : "";
  ::close(fd);
  o.bytes.resize(got);
  return error;
}

std::string read_children(const std::string& path, Observed& o) {
  DIR* dir = ::opendir(path.c_str());
  if (!dir) return failed("opendir", path);
  errno = 0;
  std::string error;
  while (dirent* entry = ::readdir(dir)) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    auto [it, is_new] = o.children.emplace(name, observe(path + "/" + name));
    if (!is_new) error = fmt::format("readdir {}: {} is listed twice", path, name);
    if (error.empty() && entry->d_type != IFTODT(it->second.mode))
      error = fmt::format("readdir {}: {} is listed with type {}", path, name, entry->d_type);
    errno = 0;
  }
  if (errno) error = failed("readdir", path);
  ::closedir(dir);
  return error;
}

class Comparison {
 public:
  Comparison(const Oracle& oracle, const std::vector<Patch>& loose)
      : oracle_(oracle), loose_(loose) {}

  std::string compare(int id, const Observed& seen, const std::string& path) {
    if (!seen.error.empty()) return seen.error;
    const OracleNode& want = oracle_.node(id);
    auto number = [&](const char* what, auto expected, auto is) {
      return fmt::format("{} of {} is {}, not {}", what, path, is, expected);
    };
    if (want.mode != seen.mode)
      return fmt::format("mode of {} is {:o}, not {:o}", path, seen.mode, want.mode);
    if (want.uid != seen.uid) return number("uid", want.uid, seen.uid);
    if (want.gid != seen.gid) return number("gid", want.gid, seen.gid);
    if (uint32_t links = oracle_.links(id); links != seen.links)
      return number("link count", links, seen.links);
    auto [it, is_new] = inos_.emplace(id, seen.ino);
    if (it->second != seen.ino)
      return fmt::format("{} is not the file that it was linked to", path);
    if (seen.mtime < want.mtime.from - kClockSlack || seen.mtime > want.mtime.to + kClockSlack)
      return fmt::format("mtime of {} is {}, not within [{}, {}]", path, seen.mtime,
                         want.mtime.from, want.mtime.to);
    if (want.target != seen.target) return number("target", want.target, seen.target);
    if (std::string d = compare_xattrs(want, seen, path); !d.empty()) return d;
    if (S_ISREG(want.mode)) return compare_bytes(id, want, seen, path);
    return compare_children(want, seen, path);
  }

 private:
  static std::string compare_xattrs(const OracleNode& want, const Observed& seen,
                                    const std::string& path) {
    for (const auto& [name, value] : want.xattrs) {
      auto it = seen.xattrs.find(name);
      if (it == seen.xattrs.end()) return fmt::format("xattr {} of {} is missing", name, path);
      if (it->second != value) return fmt::format("xattr {} of {} has another value", name, path);
    }
    for (const auto& [name, value] : seen.xattrs)
      if (!want.xattrs.contains(name)) return fmt::format("{} has an xattr {}", path, name);
    return "";
  }

  std::string compare_bytes(int id, const OracleNode& want, const Observed& seen,
                            const std::string& path) const {
    if (want.bytes.size() != seen.size)
      return fmt::format("size of {} is {}, not {}", path, seen.size, want.bytes.size());
    if (seen.bytes.size() != seen.size)
      return fmt::format("{} has {} bytes, but {} were read", path, seen.size, seen.bytes.size());
    if (want.bytes == seen.bytes) return "";
    for (size_t i = 0; i < want.bytes.size(); ++i) {
      if (want.bytes[i] == seen.bytes[i] || may_be(id, i, seen.bytes[i])) continue;
      return fmt::format("byte {} of {} is {:#04x}, not {:#04x}", i, path,
                         static_cast<unsigned char>(seen.bytes[i]),
                         static_cast<unsigned char>(want.bytes[i]));
    }
    return "";
  }

  bool may_be(int id, size_t at, char byte) const {
    for (const Patch& p : loose_) {
      if (p.node != id || at < p.offset || at >= p.offset + p.bytes.size()) continue;
      if (p.bytes[at - p.offset] == byte) return true;
    }
    return false;
  }

  std::string compare_children(const OracleNode& want, const Observed& seen,
                               const std::string& path) {
    for (const auto& [name, child] : want.children) {
      auto it = seen.children.find(name);
      if (it == seen.children.end()) return fmt::format("{}/{} is missing", path, name);
      if (std::string d = compare(child, it->second, path + "/" + name); !d.empty()) return d;
    }
    for (const auto& [name, child] : seen.children)
      if (!want.children.contains(name)) return fmt::format("{}/{} is there", path, name);
    return "";
  }

  const Oracle& oracle_;
  const std::vector<Patch>& loose_;
  std::map<int, uint64_t> inos_;
};

}  // namespace

Observed observe(const std::string& path) {
  Observed o;
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) {
    o.error = failed("lstat", path);
    return o;
  }
  o.ino = st.st_ino, o.mode = st.st_mode, o.uid = st.st_uid, o.gid = st.st_gid;
  o.links = static_cast<uint32_t>(st.st_nlink);
  o.size = static_cast<uint64_t>(st.st_size);
  o.mtime = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
  o.error = read_xattrs(path, o);
  if (!o.error.empty()) return o;
  if (S_ISREG(st.st_mode)) {
    o.error = read_bytes(path, o);
  } else if (S_ISDIR(st.st_mode)) {
    o.error = read_children(path, o);
  } else if (S_ISLNK(st.st_mode)) {
    char target[4096];
    ssize_t n = ::readlink(path.c_str(), target, sizeof target);
    if (n < 0) {
      o.error = failed("readlink", path);
    } else {
      o.target.assign(target, static_cast<size_t>(n));
    }
  }
  return o;
}

std::string difference(const Oracle& expected, const Observed& seen,
                       const std::vector<Patch>& loose) {
  return Comparison(expected, loose).compare(Oracle::kRoot, seen, ".");
}

}  // namespace graftfs::crash
