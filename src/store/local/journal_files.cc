#include "store/local/journal_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>

#include "base/fault.h"

namespace graftfs::local {
namespace {

// Since Linux 6.8: a mount id that is never given again while the machine runs.
constexpr unsigned kStatxMountIdUnique = 0x4000;
constexpr size_t kZeroChunk = 256 << 10;

std::string segment_file(SegmentId id) { return fmt::format("{:016x}.seg", id.v); }

bool parse_hex(std::string_view text, uint64_t& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_segment(std::string_view name, SegmentId& id) {
  return name.size() == 20 && name.ends_with(".seg") && parse_hex(name.substr(0, 16), id.v);
}

Result<std::vector<std::string>> names_in(int dir, const std::string& shown) {
  int fd = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* d = fd < 0 ? nullptr : ::fdopendir(fd);
  if (!d) return os_fail(errno, "list", shown);
  std::vector<std::string> names;
  while (dirent* e = ::readdir(d)) names.emplace_back(e->d_name);
  ::closedir(d);
  return names;
}

std::string boot_id() {
  auto text = read_small_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", "the boot id");
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

}  // namespace

JournalFiles::JournalFiles(std::shared_ptr<Volume> volume, RankId rank, JournalOptions options)
    : volume_(std::move(volume)), rank_(rank), options_(options),
      dir_name_(fmt::format("{}/journal/rank-{}", volume_->path, rank)) {}

std::string JournalFiles::name_of(SegmentId id) const { return shown(segment_file(id)); }

Result<void> JournalFiles::usable(SegmentId id) const {
  TRY(volume_->alive());
  switch (closed.load(std::memory_order_relaxed)) {
    [[likely]] case 0:
      return {};
    case ESTALE:
      return fail(ESTALE, name_of(id) + ": this process has given the journal up");
    default:
      return fail(EIO, name_of(id) + ": an earlier sync failed; mount the volume again");
  }
}

Result<void> JournalFiles::open_dir(bool create) {
  std::string parent_name = volume_->path + "/journal";
  TRY_ASSIGN(Fd parent, open_at(volume_->fd.get(), "journal", O_RDONLY | O_DIRECTORY, parent_name));
  std::string name = fmt::format("rank-{}", rank_);
  if (create) {
    if (::mkdirat(parent.get(), name.c_str(), 0700) == 0) {
      TRY(fsync_fd(parent.get(), parent_name));
    } else if (errno != EEXIST) {
      return os_fail(errno, "create", dir_name_);
    }
  }
  TRY_ASSIGN(dir_, open_at(parent.get(), name, O_RDONLY | O_DIRECTORY, dir_name_));
  return {};
}

bool JournalFiles::is_trusted(const OwnerRecord& previous) const {
  std::string mount = mount_of_dir();
  return !mount.empty() && previous.mount == mount && !previous.boot_id.empty() &&
         previous.boot_id == boot_id();
}

Result<void> JournalFiles::open_for_reading() {
  TRY(open_dir(false));
  survived_ = is_trusted(read_owner());
  return {};
}

Result<void> JournalFiles::own() {
  TRY(volume_->alive());
  TRY(open_dir(true));
  TRY_ASSIGN(lock_, open_at(dir_.get(), "lock", O_RDWR | O_CREAT, shown("lock")));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    int e = errno;
    lock_ = Fd();
    if (e != EWOULDBLOCK) return os_fail(e, "lock", shown("lock"));
    OwnerRecord owner = read_owner();
    return fail(EBUSY, fmt::format("{} is already mounted by process {}; unmount it there first",
                                   volume_->path,
                                   owner.pid ? fmt::format("{}", owner.pid) : "(unknown)"));
  }
  survived_ = is_trusted(read_owner());
  TRY(scan());
  // Whoever comes after a crash from here on must doubt what this owner doubts: synced() ends it.
  // An empty journal leaves nothing to doubt.
  TRY_ASSIGN(auto segments, list());
  trusted_ = survived_ || segments.empty();
  return write_owner(trusted_);
}

Result<void> JournalFiles::scan() {
  TRY_ASSIGN(auto names, names_in(dir_.get(), dir_name_));
  std::lock_guard lock(mutex_);
  free_.clear();
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    bool unfinished = name.starts_with("new-");
    uint64_t number = 0;
    struct stat st = {};
    if (name.starts_with("free-")) {
      if (parse_hex(name.substr(5), number)) next_file_ = std::max(next_file_, number + 1);
      if (::fstatat(dir_.get(), name.c_str(), &st, 0) == 0 &&
          static_cast<uint64_t>(st.st_size) == options_.segment_capacity &&
          static_cast<int>(free_.size()) < options_.max_recycled) {
        free_.push_back(name);
      } else {
        unfinished = true;  // of another capacity
      }
    }
    if (unfinished && ::unlinkat(dir_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
      return os_fail(errno, "remove", shown(name));
    }
  }
  return {};
}

void JournalFiles::release() {
  closed = ESTALE;
  lock_ = Fd();
}

void JournalFiles::distrust() {
  MARK("store.local.journal.distrusted");
  // Best effort: the disk is failing. A power cut makes the record's boot id old anyway.
  (void)write_owner(false);
}

std::string JournalFiles::mount_of_dir() const {
  struct statx sx = {};
  if (::statx(dir_.get(), "", AT_EMPTY_PATH, kStatxMountIdUnique, &sx) == 0 &&
      (sx.stx_mask & kStatxMountIdUnique)) {
    return fmt::format("unique-{}", sx.stx_mnt_id);
  }
  if (::statx(dir_.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) == 0 &&
      (sx.stx_mask & STATX_MNT_ID)) {
    return fmt::format("{}-{}:{}", sx.stx_mnt_id, sx.stx_dev_major, sx.stx_dev_minor);
  }
  return {};
}

Result<void> JournalFiles::write_owner(bool trusted) {
  std::string text = fmt::format("pid = {}\nboot = {}\nmount = {}\n", ::getpid(), boot_id(),
                                 trusted ? mount_of_dir() : "");
  // Not synced: after a power cut the boot id differs from any that may be found here.
  return replace_small_file(dir_.get(), "owner", text, false, shown("owner"));
}

OwnerRecord JournalFiles::read_owner() {
  OwnerRecord record;
  auto text = read_small_file(dir_.get(), "owner", shown("owner"));
  if (!text) return record;
  auto field = [&](std::string_view key) -> std::string {
    size_t at = text->find(std::string(key) + " = ");
    if (at == std::string::npos || (at > 0 && (*text)[at - 1] != '\n')) return {};
    at += key.size() + 3;
    size_t end = text->find('\n', at);
    return end == std::string::npos ? std::string() : text->substr(at, end - at);
  };
  std::string pid = field("pid");
  std::from_chars(pid.data(), pid.data() + pid.size(), record.pid);
  record.boot_id = field("boot");
  record.mount = field("mount");
  return record;
}

Result<std::vector<SegmentInfo>> JournalFiles::list() {
  TRY(volume_->alive());
  TRY_ASSIGN(auto names, names_in(dir_.get(), dir_name_));
  std::vector<SegmentInfo> list;
  for (const std::string& name : names) {
    SegmentInfo info;
    struct stat st = {};
    if (!parse_segment(name, info.id)) continue;
    if (::fstatat(dir_.get(), name.c_str(), &st, 0) != 0) {
      if (errno == ENOENT) continue;  // a reader beside a running owner
      return os_fail(errno, "open", shown(name));
    }
    info.capacity = st.st_size;
    list.push_back(info);
  }
  std::sort(list.begin(), list.end(), [](auto& a, auto& b) { return a.id < b.id; });
  return list;
}

Result<std::string> JournalFiles::prepare_file(uint64_t kept) {
  TRY(volume_->alive());
  if (!volume_->space.has(options_.segment_capacity, kept)) {
    return os_fail(ENOSPC, "allocate a segment in", dir_name_);
  }
  uint64_t number;
  {
    std::lock_guard lock(mutex_);
    number = next_file_++;
  }
  std::string name = fmt::format("new-{:04x}", number), done = fmt::format("free-{:04x}", number);
  auto fill = [&]() -> Result<void> {
    TRY_ASSIGN(Fd fd, open_at(dir_.get(), name, O_WRONLY | O_CREAT | O_EXCL, shown(name)));
    uint64_t capacity = options_.segment_capacity;
    if (::fallocate(fd.get(), 0, 0, capacity) != 0 && errno != EOPNOTSUPP) {
      return os_fail(errno, "allocate", shown(name));
    }
    // Written, so that a later sync finds no unwritten extents to convert.
    static const std::string zeros(kZeroChunk, '\0');
    for (uint64_t at = 0; at < capacity; at += kZeroChunk) {
      std::string_view chunk(zeros.data(), std::min<uint64_t>(kZeroChunk, capacity - at));
      TRY(pwrite_all(fd.get(), chunk, at, shown(name)));
    }
    TRY(volume_->alive());
    if (::fsync(fd.get()) != 0) return os_fail(errno, "sync", shown(name));
    if (::renameat(dir_.get(), name.c_str(), dir_.get(), done.c_str()) != 0) {
      return os_fail(errno, "rename", shown(name));
    }
    return {};
  };
  Result<void> filled = fill();
  if (filled) return done;
  ::unlinkat(dir_.get(), name.c_str(), 0);
  return std::unexpected(std::move(filled).error());
}

void JournalFiles::prepare_spares() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (closed || static_cast<int>(free_.size()) >= options_.spares) return;
    }
    auto name = prepare_file(volume_->space.for_segments());
    if (!name) return;
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(*name));
  }
}

Result<std::shared_ptr<Fd>> JournalFiles::create(SegmentId id) {
  TRY(usable(id));
  std::string target = segment_file(id);
  if (::faccessat(dir_.get(), target.c_str(), F_OK, 0) == 0) {
    return fail(EEXIST, name_of(id) + " exists already");
  }
  std::string name;
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      name = std::move(free_.front());
      free_.erase(free_.begin());
    }
  }
  if (name.empty()) {
    MARK("store.local.journal.no_spare");
    // The first after a start is what mounting takes.
    TRY_ASSIGN(name, prepare_file(made_ == 0 ? 0 : volume_->space.for_segments()));
  } else {
    MARK("store.local.journal.spare_used");
  }
  if (::renameat2(dir_.get(), name.c_str(), dir_.get(), target.c_str(), RENAME_NOREPLACE) != 0) {
    return os_fail(errno, "create", name_of(id));
  }
  TRY(fsync_fd(dir_.get(), dir_name_));
  uint64_t none = 0;
  made_.compare_exchange_strong(none, id.v);
  return open(id, true);
}

void JournalFiles::synced(SegmentId id) {
  if (trusted_ || made_ == 0 || id.v < made_) return;
  // Where this fails, the next owner doubts what it need not.
  trusted_ = write_owner(true).has_value();
}

Result<std::shared_ptr<Fd>> JournalFiles::open(SegmentId id, bool for_writing) {
  TRY_ASSIGN(Fd fd, open_at(dir_.get(), segment_file(id), for_writing ? O_RDWR : O_RDONLY,
                            name_of(id)));
  return std::make_shared<Fd>(std::move(fd));
}

Result<void> JournalFiles::remove(SegmentId id) {
  TRY(usable(id));
  std::string name = segment_file(id);
  struct stat st = {};
  if (::fstatat(dir_.get(), name.c_str(), &st, 0) != 0) return os_fail(errno, "remove", name_of(id));
  std::string target;
  {
    std::lock_guard lock(mutex_);
    if (static_cast<int>(free_.size()) < options_.max_recycled &&
        static_cast<uint64_t>(st.st_size) == options_.segment_capacity) {
      target = fmt::format("free-{:04x}", next_file_++);
    }
  }
  int e = target.empty() ? ::unlinkat(dir_.get(), name.c_str(), 0)
                         : ::renameat(dir_.get(), name.c_str(), dir_.get(), target.c_str());
  if (e != 0) return os_fail(errno, "remove", name_of(id));
  TRY(fsync_fd(dir_.get(), dir_name_));
  if (!target.empty()) {
    MARK("store.local.journal.recycled");
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(target));
  }
  return {};
}

}  // namespace graftfs::local
