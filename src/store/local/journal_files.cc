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
#include "store/fence.h"

namespace graftfs::local {
namespace {

// Since Linux 6.8: a mount id that is never given again while the machine runs.
constexpr unsigned kStatxMountIdUnique = 0x4000;
constexpr size_t kZeroChunk = 256 << 10;

std::string segment_file(SegmentId id) { return fmt::format("{:016x}.seg", id.v); }

bool parse_number(std::string_view text, int base, uint64_t& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_segment(std::string_view name, SegmentId& id) {
  return name.size() == 20 && name.ends_with(".seg") && parse_number(name.substr(0, 16), 16, id.v);
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

JournalFiles::JournalFiles(std::shared_ptr<Volume> volume,
                           std::shared_ptr<const ClusterFiles> cluster, RankId rank,
                           JournalOptions options)
    : volume_(std::move(volume)),
      rank_(rank),
      options_(options),
      dir_name_(fmt::format("{}/journal/rank-{}", volume_->path, rank)),
      cluster_(std::move(cluster)) {}

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

// An empty descriptor where somebody else has it.
Result<Fd> JournalFiles::lock_epoch(Epoch epoch) {
  std::string name = fmt::format("lock-{}", epoch);
  TRY_ASSIGN(Fd fd, open_at(dir_.get(), name, O_RDWR | O_CREAT, shown(name)));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return os_fail(errno, "lock", shown(name));
  return Fd();
}

std::unexpected<Error> JournalFiles::is_busy() {
  OwnerRecord owner = read_owner();
  return fail(
      EBUSY,
      fmt::format("{} is already mounted by process {} (rank {}); unmount or stop it "
                  "there first",
                  volume_->path, owner.pid ? fmt::format("{}", owner.pid) : "(unknown)", rank_));
}

Result<JournalFiles::Claim> JournalFiles::claim(const OwnOptions& options) {
  TRY(volume_->alive());
  TRY(open_dir(true));
  const std::string key = fence_key(rank_);
  TRY_ASSIGN(StateValue found, cluster_->get(key));
  TRY_ASSIGN(FenceRecord fence, decode_fence(found.value, rank_));
  if (options.mode == OwnMode::take && options.from && *options.from != fence.epoch) {
    return fail(ESTALE, fmt::format("rank {} of {} has a new owner already", rank_, volume_->path));
  }
  Claim claim;
  {
    TRY_ASSIGN(Fd last, lock_epoch(fence.epoch));
    claim.proven = static_cast<bool>(last);
    if (!last && options.mode == OwnMode::if_free) return is_busy();
  }
  KILL_POINT("store.own.looked");
  // Before the fence, so that a free lock under the present epoch always proves death.
  TRY_ASSIGN(Fd lock, lock_epoch(fence.epoch.next()));
  if (!lock) return is_busy();
  KILL_POINT("store.own.locked");
  std::string value = encode_fence({fence.epoch.next(), options.node});
  TRY_ASSIGN(uint64_t version, cluster_->set(key, found.version, value));
  KILL_POINT("store.own.fenced");
  locks_.push_back(std::move(lock));
  node_ = options.node;
  before_ = fence.epoch;
  claim.fence = std::make_shared<Fence>(cluster_, rank_, fence.epoch.next(), version);
  set_fence(claim.fence);
  return claim;
}

Result<void> JournalFiles::settle(bool proven) {
  TRY(fenced_in());
  TRY(remove_old_locks());
  survived_ = is_trusted(read_owner());
  TRY(scan(proven));
  // Whoever comes after a crash from here on must doubt what this owner doubts: synced() ends it.
  // An empty journal leaves nothing to doubt.
  TRY_ASSIGN(auto segments, list());
  {
    std::lock_guard lock(mutex_);
    for (const SegmentInfo& info : segments) there_.insert(info.id);
  }
  trusted_ = survived_ || segments.empty();
  return write_owner(trusted_);
}

Result<std::shared_ptr<Fence>> JournalFiles::raise(Epoch at_least) {
  TRY(fenced_in());
  auto before = fence();
  if (before->epoch() >= at_least) return before;
  MARK("store.local.epoch_raised");
  TRY_ASSIGN(Fd lock, lock_epoch(at_least));
  if (!lock) return is_busy();
  std::string value = encode_fence({at_least, node_});
  TRY_ASSIGN(uint64_t version, cluster_->set(fence_key(rank_), before->version(), value));
  locks_.push_back(std::move(lock));
  auto raised = std::make_shared<Fence>(cluster_, rank_, at_least, version);
  set_fence(raised);
  return raised;
}

Result<void> JournalFiles::remove_old_locks() {
  TRY_ASSIGN(auto names, names_in(dir_.get(), dir_name_));
  for (const std::string& name : names) {
    uint64_t epoch = 0;
    if (!name.starts_with("lock-") || !parse_number(std::string_view(name).substr(5), 10, epoch) ||
        epoch >= fence()->epoch().v) {
      continue;
    }
    if (::unlinkat(dir_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
      return os_fail(errno, "remove", shown(name));
  }
  return {};
}

Result<void> JournalFiles::scan(bool proven) {
  TRY_ASSIGN(auto names, names_in(dir_.get(), dir_name_));
  std::lock_guard lock(mutex_);
  free_.clear();
  std::sort(names.begin(), names.end());
  const std::string usable = fmt::format("free-{}-", before_);
  for (const std::string& name : names) {
    if (!name.starts_with("free-") && !name.starts_with("new-")) continue;
    struct stat st = {};
    // Files of an owner that may still live are not taken over, nor such of another capacity.
    if (proven && name.starts_with(usable) && ::fstatat(dir_.get(), name.c_str(), &st, 0) == 0 &&
        static_cast<uint64_t>(st.st_size) == options_.segment_capacity &&
        static_cast<int>(free_.size()) < options_.max_recycled) {
      std::string mine = fmt::format("free-{}-{:04x}", fence()->epoch(), next_file_++);
      if (::renameat(dir_.get(), name.c_str(), dir_.get(), mine.c_str()) != 0)
        return os_fail(errno, "rename", shown(name));
      free_.push_back(std::move(mine));
    } else if (::unlinkat(dir_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
      return os_fail(errno, "remove", shown(name));
    }
  }
  return {};
}

std::shared_ptr<Fence> JournalFiles::fence() const {
  std::lock_guard lock(fence_mutex_);
  return fence_;
}

void JournalFiles::set_fence(std::shared_ptr<Fence> fence) {
  std::lock_guard lock(fence_mutex_);
  fence_ = std::move(fence);
}

Result<void> JournalFiles::fenced_in() const {
  auto fence = this->fence();
  return fence ? fence->holds() : Result<void>{};
}

void JournalFiles::release() {
  closed = ESTALE;
  if (auto fence = this->fence()) fence->give_up();
  locks_.clear();
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
  std::string name = fmt::format("new-{}-{:04x}", fence()->epoch(), number);
  std::string done = fmt::format("free-{}-{:04x}", fence()->epoch(), number);
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
  TRY(fenced_in());
  std::string target = segment_file(id);
  std::string name;
  {
    std::lock_guard lock(mutex_);
    if (there_.contains(id)) return fail(EEXIST, name_of(id) + " exists already");
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
  KILL_POINT("store.journal.creating");
  // One of that name that was not there when this owner began was made by an older one that woke
  // up: it counts for nothing.
  if (::renameat(dir_.get(), name.c_str(), dir_.get(), target.c_str()) != 0) {
    return os_fail(errno, "create", name_of(id));
  }
  {
    std::lock_guard lock(mutex_);
    there_.insert(id);
  }
  TRY(fsync_fd(dir_.get(), dir_name_));
  uint64_t none = 0;
  made_.compare_exchange_strong(none, id.v);
  return open(id, true);
}

void JournalFiles::synced(SegmentId id) {
  if (trusted_ || made_ == 0 || id.v < made_ || !fenced_in()) return;
  // Where this fails, the next owner doubts what it need not.
  trusted_ = write_owner(true).has_value();
}

Result<std::shared_ptr<Fd>> JournalFiles::open(SegmentId id, bool for_writing) {
  TRY_ASSIGN(Fd fd,
             open_at(dir_.get(), segment_file(id), for_writing ? O_RDWR : O_RDONLY, name_of(id)));
  return std::make_shared<Fd>(std::move(fd));
}

Result<void> JournalFiles::remove(SegmentId id) {
  TRY(usable(id));
  TRY(fenced_in());
  std::string name = segment_file(id);
  const bool mine = made_ != 0 && id.v >= made_;
  bool known;
  {
    std::lock_guard lock(mutex_);
    known = there_.erase(id) > 0;
  }
  struct stat st = {};
  if (::fstatat(dir_.get(), name.c_str(), &st, 0) != 0) {
    // An older owner that woke up may have removed what it knew to be superfluous.
    if (errno == ENOENT && known && !mine) return {};
    return os_fail(errno, "remove", name_of(id));
  }
  std::string target;
  {
    std::lock_guard lock(mutex_);
    // An older owner may still have its own open: those are not written to again.
    if (mine && static_cast<int>(free_.size()) < options_.max_recycled &&
        static_cast<uint64_t>(st.st_size) == options_.segment_capacity) {
      target = fmt::format("free-{}-{:04x}", fence()->epoch(), next_file_++);
    }
  }
  KILL_POINT("store.journal.removing");
  int e = target.empty() ? ::unlinkat(dir_.get(), name.c_str(), 0)
                         : ::renameat(dir_.get(), name.c_str(), dir_.get(), target.c_str());
  if (e != 0 && !(errno == ENOENT && !mine)) return os_fail(errno, "remove", name_of(id));
  TRY(fsync_fd(dir_.get(), dir_name_));
  if (!target.empty()) {
    MARK("store.local.journal.recycled");
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(target));
  }
  return {};
}

}  // namespace graftfs::local
