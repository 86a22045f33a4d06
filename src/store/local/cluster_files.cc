#include "store/local/cluster_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "base/crc32c.h"
#include "base/fault.h"
#include "store/fence.h"

namespace graftfs::local {
namespace {

// How many versions of a key are kept. A listing that runs meanwhile could miss the newest only if
// as many were set and removed before it ended.
constexpr uint64_t kKeptVersions = 8;
constexpr int kListings = 100;
constexpr time_t kTemporarySeconds = 60;
constexpr std::string_view kVolatile = "node-";
constexpr std::string_view kChecksum = "checksum = ";

// "cluster/keys/revoked-1" is kept in keys+revoked-1.N.
Result<std::string> file_of(std::string_view key) {
  std::string name(key.substr(std::min(key.size(), kClusterPrefix.size())));
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (c == '/')
      c = '+';
    else if (!plain)
      return fail(EINVAL, fmt::format("'{}' cannot be a key of cluster state", key));
  }
  if (!key.starts_with(kClusterPrefix) || name.empty() || name.size() > 200)
    return fail(EINVAL, fmt::format("'{}' cannot be a key of cluster state", key));
  return name;
}
std::string key_of(std::string name) {
  std::replace(name.begin(), name.end(), '+', '/');
  return std::string(kClusterPrefix) + name;
}
std::string version_file(const std::string& name, uint64_t version) {
  return fmt::format("{}.{}", name, version);
}

}  // namespace

Result<void> ClusterFiles::open() {
  if (::mkdirat(volume_->fd.get(), "cluster", 0700) == 0) {
    TRY(fsync_fd(volume_->fd.get(), volume_->path));
  } else if (errno != EEXIST) {
    return os_fail(errno, "create", volume_->path + "/cluster");
  }
  TRY_ASSIGN(dir_, open_at(volume_->fd.get(), "cluster", O_RDONLY | O_DIRECTORY,
                           volume_->path + "/cluster"));
  // What writers left that died.
  int fd = ::openat(dir_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* d = fd < 0 ? nullptr : ::fdopendir(fd);
  if (!d) return os_fail(errno, "list", volume_->path + "/cluster");
  std::vector<std::string> left;
  while (dirent* e = ::readdir(d)) {
    if (std::string_view(e->d_name).starts_with("tmp-")) left.emplace_back(e->d_name);
  }
  ::closedir(d);
  for (const std::string& name : left) {
    struct stat st = {};
    if (::fstatat(dir_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_mtime + kTemporarySeconds < ::time(nullptr)) {
      ::unlinkat(dir_.get(), name.c_str(), 0);
    }
  }
  return {};
}

// Of each key the highest version that is listed; `wanted` is the name of one key, or a prefix.
Result<std::vector<std::pair<std::string, uint64_t>>> ClusterFiles::versions(
    std::string_view wanted, bool prefix) const {
  int fd = ::openat(dir_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* d = fd < 0 ? nullptr : ::fdopendir(fd);
  if (!d) return os_fail(errno, "list", volume_->path + "/cluster");
  std::map<std::string, uint64_t> newest;
  while (dirent* e = ::readdir(d)) {
    std::string_view entry = e->d_name;
    size_t dot = entry.rfind('.');
    if (dot == std::string_view::npos || entry.starts_with("tmp-") || dot == 0) continue;
    std::string_view name = entry.substr(0, dot);
    uint64_t version = 0;
    auto [end, error] =
        std::from_chars(entry.data() + dot + 1, entry.data() + entry.size(), version);
    if (error != std::errc() || end != entry.data() + entry.size() || version == 0) continue;
    if (prefix ? !name.starts_with(wanted) : name != wanted) continue;
    uint64_t& known = newest[std::string(name)];
    known = std::max(known, version);
  }
  ::closedir(d);
  return std::vector<std::pair<std::string, uint64_t>>(newest.begin(), newest.end());
}

// The value without its checksum; ENOENT where the file is gone.
Result<std::string> ClusterFiles::read_version(const std::string& name) const {
  TRY_ASSIGN(std::string text, read_small_file(dir_.get(), name, shown(name)));
  size_t at = text.rfind(kChecksum);
  if (at == std::string::npos ||
      text.substr(at) != fmt::format("{}{:08x}\n", kChecksum, crc32c(text.substr(0, at)))) {
    // What is not synced may be torn after a power cut; those who wrote it are gone.
    if (name.starts_with(kVolatile)) return std::string();
    return damaged(
        fmt::format("{} is damaged: its checksum does not match; restore it from a "
                    "backup, or remove it while nobody has the volume open",
                    shown(name)));
  }
  text.resize(at);
  return text;
}

Result<StateValue> ClusterFiles::read_newest(const std::string& name) const {
  for (int i = 0; i < kListings; ++i) {
    TRY_ASSIGN(auto found, versions(name, false));
    if (found.empty()) return StateValue{};
    uint64_t version = found[0].second;
    // The listing may have been overtaken.
    while (::faccessat(dir_.get(), version_file(name, version + 1).c_str(), F_OK, 0) == 0)
      ++version;
    auto value = read_version(version_file(name, version));
    if (value) return StateValue{version, std::move(*value)};
    if (value.error().code != ENOENT) return std::unexpected(std::move(value).error());
    MARK("store.local.cluster.overtaken");
  }
  return fail(EAGAIN, shown(name) + " changes faster than it can be read; try again");
}

Result<StateValue> ClusterFiles::get(const std::string& key) const {
  TRY(volume_->alive());
  TRY_ASSIGN(std::string name, file_of(key));
  return read_newest(name);
}

Result<std::vector<std::pair<std::string, StateValue>>> ClusterFiles::list(
    const std::string& prefix) const {
  TRY(volume_->alive());
  std::vector<std::pair<std::string, StateValue>> list;
  std::string start;
  if (prefix.size() > kClusterPrefix.size()) {
    TRY_ASSIGN(start, file_of(prefix));
  }
  TRY_ASSIGN(auto found, versions(start, true));
  for (auto& [name, version] : found) {
    TRY_ASSIGN(StateValue value, read_newest(name));
    if (value.version > 0) list.emplace_back(key_of(name), std::move(value));
  }
  return list;
}

std::string ClusterFiles::temporary() const {
  uint64_t random = 0;
  CHECK(::getrandom(&random, sizeof random, 0) == sizeof random);
  return fmt::format("tmp-{:016x}", random);
}

Result<uint64_t> ClusterFiles::set(const std::string& key, uint64_t expected,
                                   std::string_view value) const {
  TRY(volume_->alive());
  TRY_ASSIGN(std::string name, file_of(key));
  const bool durable = !name.starts_with(kVolatile);
  auto stale = [&](uint64_t version) {
    return fail(ESTALE, fmt::format("state '{}' is at version {}, not {}", key, version, expected));
  };
  TRY_ASSIGN(auto before, versions(name, false));
  uint64_t newest = before.empty() ? 0 : before[0].second;
  if (newest != expected) return stale(newest);

  std::string text(value);
  text += fmt::format("{}{:08x}\n", kChecksum, crc32c(text));
  std::string made = temporary(), target = version_file(name, expected + 1);
  {
    TRY_ASSIGN(Fd fd, open_at(dir_.get(), made, O_WRONLY | O_CREAT | O_EXCL, shown(made)));
    Result<void> written = pwrite_all(fd.get(), text, 0, shown(made));
    if (written && durable) written = fsync_fd(fd.get(), shown(made));
    if (!written) {
      ::unlinkat(dir_.get(), made.c_str(), 0);
      return std::unexpected(std::move(written).error());
    }
  }
  KILL_POINT("store.cluster.linking");
  int error = ::linkat(dir_.get(), made.c_str(), dir_.get(), target.c_str(), 0) == 0 ? 0 : errno;
  ::unlinkat(dir_.get(), made.c_str(), 0);
  if (error == EEXIST) return stale(expected + 1);
  if (error) return os_fail(error, "create", shown(target));
  // Where this process slept before it linked, that version may have been there and gone: then the
  // newest is far ahead.
  TRY_ASSIGN(auto after, versions(name, false));
  uint64_t now = after.empty() ? expected + 1 : after[0].second;
  if (now >= expected + kKeptVersions) {
    MARK("store.local.cluster.late");
    ::unlinkat(dir_.get(), target.c_str(), 0);
    return stale(now);
  }
  if (durable) TRY(fsync_fd(dir_.get(), volume_->path + "/cluster"));
  // One, as a rule; more where a crash came between. Ascending: see is_newest().
  uint64_t keep_from = expected + 2 > kKeptVersions ? expected + 2 - kKeptVersions : 1;
  uint64_t oldest = keep_from;
  while (oldest > 1 &&
         ::faccessat(dir_.get(), version_file(name, oldest - 1).c_str(), F_OK, 0) == 0) {
    --oldest;
  }
  for (; oldest < keep_from; ++oldest) {
    ::unlinkat(dir_.get(), version_file(name, oldest).c_str(), 0);
  }
  return expected + 1;
}

Result<void> ClusterFiles::remove(const std::string& key) const {
  TRY(volume_->alive());
  TRY_ASSIGN(std::string name, file_of(key));
  TRY_ASSIGN(auto found, versions(name, false));
  if (found.empty()) return {};
  uint64_t newest = found[0].second;
  for (uint64_t version = newest > 2 * kKeptVersions ? newest - 2 * kKeptVersions : 1;
       version <= newest; ++version) {
    if (::unlinkat(dir_.get(), version_file(name, version).c_str(), 0) != 0 && errno != ENOENT)
      return os_fail(errno, "remove", shown(version_file(name, version)));
  }
  return {};
}

Result<bool> ClusterFiles::is_newest(const std::string& key, uint64_t version) const {
  TRY(volume_->alive());
  TRY_ASSIGN(std::string name, file_of(key));
  // In this order: the next one is removed only after this one.
  if (::faccessat(dir_.get(), version_file(name, version + 1).c_str(), F_OK, 0) == 0) return false;
  if (errno != ENOENT) return os_fail(errno, "read", shown(version_file(name, version + 1)));
  if (::faccessat(dir_.get(), version_file(name, version).c_str(), F_OK, 0) == 0) return true;
  if (errno != ENOENT) return os_fail(errno, "read", shown(version_file(name, version)));
  return false;
}

Result<void> Fence::holds() const {
  if (given_up_)
    return fail(ESTALE, fmt::format("this process has given the journal of rank {} up", rank_));
  TRY_ASSIGN(bool newest, files_->is_newest(fence_key(rank_), version_));
  if (newest) return {};
  MARK("store.local.fenced");
  return fail(ESTALE, fmt::format("another process has taken rank {} from this one", rank_));
}

void Fences::set(RankId rank, std::shared_ptr<Fence> fence) {
  std::lock_guard lock(mutex_);
  fences_[rank] = std::move(fence);
}

std::shared_ptr<Fence> Fences::get(RankId rank) const {
  std::lock_guard lock(mutex_);
  auto it = fences_.find(rank);
  return it == fences_.end() ? nullptr : it->second;
}

Result<void> Fences::hold() const {
  std::map<RankId, std::shared_ptr<Fence>> all;
  {
    std::lock_guard lock(mutex_);
    all = fences_;
  }
  for (const auto& [rank, fence] : all) TRY(fence->holds());
  return {};
}

}  // namespace graftfs::local
