// What a sequence of calls left in a tree.

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "differential/caller.h"

namespace graftfs::mounttest {
namespace {

constexpr int64_t kReadWhole = 1 << 20;
constexpr int kDepth = 8;

int64_t ns(const statx_timestamp& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

// Times that a caller has set are compared; of those that the clock gave only whether they moved.
std::string shown(const statx_timestamp& t) {
  const bool clock = t.tv_sec > 1'600'000'000 && t.tv_sec < 4'000'000'000;
  return clock ? "clock" : fmt::format("{}.{:09}", t.tv_sec, t.tv_nsec);
}

std::string xattrs_of(const std::string& path) {
  std::string names(4096, '\0');
  ssize_t n = llistxattr(path.c_str(), names.data(), names.size());
  if (n <= 0) return n < 0 ? " listxattr:" + outcome(n) : "";
  std::vector<std::string> all;
  for (const char* p = names.data(); p < names.data() + n; p += strlen(p) + 1) all.emplace_back(p);
  std::ranges::sort(all);
  std::string out;
  for (const auto& name : all) {
    std::string value(4096, '\0');
    ssize_t size = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size >= 0) value.resize(size);
    out += " " + name + "=" + (size < 0 ? outcome(size) : digest(value));
  }
  return out;
}

std::string content_of(const std::string& path, int64_t size) {
  int fd = open(path.c_str(), O_RDONLY | O_NOATIME | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return " open:" + outcome(fd);
  std::string bytes(std::min(size, kReadWhole) + 1, '\0');
  ssize_t n = pread(fd, bytes.data(), bytes.size(), 0);
  close(fd);
  if (n < 0) return " read:" + outcome(n);
  bytes.resize(n);
  return " data=" + digest(bytes);
}

std::string target_of(const std::string& path) {
  std::string target(5000, '\0');
  ssize_t n = readlink(path.c_str(), target.data(), target.size());
  if (n < 0) return " readlink:" + outcome(n);
  target.resize(n);
  return " -> " + (n > 40 ? digest(target) : target);
}

std::string attributes(const struct statx& x) {
  std::string out =
      fmt::format("{:06o} links {} {}:{}", x.stx_mode, x.stx_nlink, x.stx_uid, x.stx_gid);
  if (!S_ISDIR(x.stx_mode)) out += fmt::format(" size {}", x.stx_size);
  if (x.stx_rdev_major || x.stx_rdev_minor)
    out += fmt::format(" dev {}:{}", x.stx_rdev_major, x.stx_rdev_minor);
  return out;
}

}  // namespace

void View::look_into(const std::string& path, bool thorough, int depth) {
  DIR* d = opendir(path.c_str());
  if (!d) {
    lines_[path] += " opendir:" + outcome(-1);
    return;
  }
  std::vector<std::string> names;
  while (dirent* e = readdir(d)) names.emplace_back(e->d_name);
  closedir(d);
  std::ranges::sort(names);
  if (std::ranges::adjacent_find(names) != names.end()) lines_[path] += " a name is listed twice";
  for (const auto& name : names)
    if (name != "." && name != "..")
      look((path == "/" ? path : path + "/") + name, thorough, depth + 1);
}

void View::look(const std::string& path, bool thorough, int depth) {
  std::string& line = lines_[path];
  struct statx x{};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x) != 0) {
    line = "lstat:" + outcome(-1);
    return;
  }
  line = attributes(x) + " mtime " + shown(x.stx_mtime);
  Times now{ns(x.stx_mtime), ns(x.stx_ctime), static_cast<int64_t>(x.stx_size), ""};
  auto before = times_before_.find(x.stx_ino);
  const bool same = before != times_before_.end() && before->second.ctime_ns == now.ctime_ns &&
                    before->second.mtime_ns == now.mtime_ns && before->second.size == now.size;
  if (before != times_before_.end()) {
    if (before->second.mtime_ns != now.mtime_ns) moved_ += " mtime(" + path + ")";
    if (before->second.ctime_ns != now.ctime_ns) moved_ += " ctime(" + path + ")";
    if (now.ctime_ns < before->second.ctime_ns) moved_ += " backwards";
  }
  if (S_ISLNK(x.stx_mode)) line += target_of(path);
  if (S_ISREG(x.stx_mode)) {
    now.content = same && !thorough ? before->second.content : content_of(path, now.size);
    line += now.content;
  }
  line += xattrs_of(path);
  if (thorough) {
    struct statx fresh{};
    statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS,
          &fresh);
    // A sparse file that was cut gets its true blocks a moment later.
    if (attributes(fresh) != attributes(x) || ns(fresh.stx_mtime) != now.mtime_ns ||
        ns(fresh.stx_ctime) != now.ctime_ns)
      line += " the kernel remembers what is not so: " + attributes(fresh);
  }
  times_[x.stx_ino] = now;
  if (S_ISDIR(x.stx_mode) && depth < kDepth) look_into(path, thorough, depth);
}

std::string View::changes(Caller& caller, bool thorough) {
  lines_.clear();
  times_.clear();
  moved_.clear();
  look("/", thorough, 0);
  for (int i = 0; i < kSlots; ++i) {
    struct statx x{};
    if (caller.fds[i] < 0) continue;
    std::string& line = lines_["descriptor " + std::to_string(i)];
    line = statx(caller.fds[i], "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) == 0
               ? attributes(x)
               : "fstat:" + outcome(-1);
  }
  std::string out;
  for (const auto& [path, line] : lines_) {
    auto old = before_.find(path);
    if (old == before_.end() || old->second != line) out += path + ": " + line + "\n";
  }
  for (const auto& [path, line] : before_)
    if (!lines_.contains(path)) out += "- " + path + "\n";
  if (!moved_.empty()) out += "moved:" + moved_ + "\n";
  before_ = lines_;
  times_before_ = times_;
  return out;
}

}  // namespace graftfs::mounttest
