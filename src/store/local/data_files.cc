#include "store/local/data_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>

#include "base/fault.h"

namespace graftfs::local {
namespace {

Result<DataInfo> info_of(const DataFile& file, const DataFiles& files) {
  struct stat st;
  if (::fstat(file.fd.get(), &st) != 0) return os_fail(errno, "stat", files.name_of(file.ino));
  return DataInfo{static_cast<uint64_t>(st.st_blocks)};
}

constexpr const char* kSealName = "user.graftfs";
constexpr size_t kMostSealBytes = 4096;

// "" where it has none.
Result<std::string> read_seal(int fd, const std::string& shown) {
  std::string bytes(kMostSealBytes, '\0');
  ssize_t n = ::fgetxattr(fd, kSealName, bytes.data(), bytes.size());
  if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) return std::string();
  if (n < 0) return os_fail(errno, "read the checksums of", shown);
  bytes.resize(n);
  return bytes;
}

Result<void> load_seal(Seal& seal, const DataFile& file, const DataFiles& files) {
  TRY_ASSIGN(std::string bytes, read_seal(file.fd.get(), files.name_of(file.ino)));
  // A crash may have left that of a file that was cut to nothing.
  if (file.size == 0) bytes.clear();
  return seal.load(bytes, files.name_of(file.ino));
}

Result<void> refresh_size(DataFile& file, const DataFiles& files) {
  struct stat st;
  if (::fstat(file.fd.get(), &st) != 0) return os_fail(errno, "stat", files.name_of(file.ino));
  file.size = st.st_size;
  return {};
}

// A data file as its seal sees it.
class Sealed final : public SealedFile {
 public:
  Sealed(const DataFile& file, const DataFiles& files, bool wait = true)
      : file_(file), files_(files), wait_(wait) {}
  Result<void> read(uint64_t offset, char* out, size_t length) const override {
    TRY(files_.volume().alive());
    if (wait_) return read_file(file_, offset, out, length, files_);
    iovec v{out, length};
    ssize_t n = ::preadv2(file_.fd.get(), &v, 1, offset, RWF_NOWAIT);
    if (n < 0 || (static_cast<size_t>(n) < length && offset + n < file_.size)) return fail(EAGAIN);
    std::memset(out + n, 0, length - n);
    return {};
  }
  uint64_t next_data(uint64_t offset) const override {
    off_t at = ::lseek(file_.fd.get(), offset, SEEK_DATA);
    return at >= 0 ? at : errno == ENXIO ? UINT64_MAX : offset;
  }
  Result<void> write_seal(std::string_view bytes, bool durable) override {
    const int fd = file_.fd.get();
    const std::string shown = files_.name_of(file_.ino);
    const int e = bytes.empty() ? ::fremovexattr(fd, kSealName)
                                : ::fsetxattr(fd, kSealName, bytes.data(), bytes.size(), 0);
    if (e != 0 && errno != ENODATA) return os_fail(errno, "write the checksums of", shown);
    if (!durable) return {};
    MARK("store.local.data.seal_synced");
    return fsync_fd(fd, shown);
  }
  std::string name() const override { return files_.name_of(file_.ino); }

 private:
  const DataFile& file_;
  const DataFiles& files_;
  bool wait_;
};

// Locks are held by other processes for as long as one of their calls takes; but one may have been
// stopped there. `try_lock` is 0 or sets errno.
template <class F>
Result<void> lock(F try_lock, bool wait, const DataFile& file, const DataFiles& files) {
  constexpr auto kLongest = std::chrono::seconds(10);
  const auto begin = std::chrono::steady_clock::now();
  while (try_lock() != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK && errno != EACCES)
      return os_fail(errno, "lock", files.name_of(file.ino));
    if (!wait) return fail(EAGAIN);
    TRY(files.volume().alive());
    if (std::chrono::steady_clock::now() - begin > kLongest) {
      return fail(EIO, files.name_of(file.ino) +
                           ": another process has had it locked for 10 s; if one of this volume's "
                           "is stopped, let it go on, or end it");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return {};
}

// While two processes break the seal of one file, each keeps what the other has taken off it.
Result<void> break_seal(DataFile& file, const DataFiles& files,
                        const std::function<Result<void>(SealedFile&)>& fn) {
  struct flock whole = {
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
  auto try_lock = [&] { return ::fcntl(file.fd.get(), F_OFD_SETLK, &whole); };
  TRY(lock(try_lock, true, file, files));
  Result<void> result = load_seal(file.seal, file, files);
  if (result) {
    Sealed sealed(file, files);
    result = fn(sealed);
  }
  whole.l_type = F_UNLCK;
  ::fcntl(file.fd.get(), F_OFD_SETLK, &whole);
  return result;
}

Result<void> before_change(DataFile& file, uint64_t offset, uint64_t length,
                           const DataFiles& files) {
  if (!file.seal.covers(offset, length)) [[likely]]
    return {};
  return break_seal(file, files,
                    [&](SealedFile& f) { return file.seal.before_change(f, offset, length); });
}

Result<void> before_cut(DataFile& file, uint64_t size, const DataFiles& files) {
  if (file.seal.size() <= size) [[likely]]
    return {};
  return break_seal(file, files, [&](SealedFile& f) { return file.seal.before_cut(f, size); });
}

// Before each change of its bytes: nobody seals it from here on, its size is what it is now, and
// bytes from `valid_size` on are void.
Result<void> begin_change(DataFile& file, uint64_t valid_size, const DataFiles& files) {
  TRY(lock_to_change(file, true, files));
  TRY(refresh_size(file, files));
  if (file.size <= valid_size) [[likely]]
    return {};
  MARK("store.local.data.voided");
  TRY(before_cut(file, valid_size, files));
  if (::ftruncate(file.fd.get(), valid_size) != 0) {
    return os_fail(errno, "truncate", files.name_of(file.ino));
  }
  file.size = valid_size;
  return {};
}

Result<void> punch(DataFile& file, uint64_t offset, uint64_t length, const DataFiles& files) {
  if (length == 0) return {};
  if (::fallocate(file.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
    return os_fail(errno, "punch a hole into", files.name_of(file.ino));
  }
  return {};
}

Result<void> copy_bytes(const DataFile& from, uint64_t from_offset, DataFile& to,
                        uint64_t to_offset, uint64_t length, const DataFiles& files) {
  bool by_hand = from.ino == to.ino;  // the ranges may overlap
  std::string buffer;
  while (length > 0) {
    TRY(files.volume().alive());
    if (!by_hand) {
      loff_t in = from_offset, out = to_offset;
      ssize_t n = ::copy_file_range(from.fd.get(), &in, to.fd.get(), &out, length, 0);
      if (n > 0) {
        from_offset += n, to_offset += n, length -= n;
        to.size = std::max(to.size, to_offset);
        continue;
      }
      if (n < 0 && errno == ENOSPC) return os_fail(errno, "copy to", files.name_of(to.ino));
      by_hand = true;
    }
    buffer.resize(std::min<uint64_t>(length, 1 << 20));
    TRY(read_file(from, from_offset, buffer.data(), buffer.size(), files));
    TRY(pwrite_all(to.fd.get(), buffer, to_offset, files.name_of(to.ino)));
    from_offset += buffer.size(), to_offset += buffer.size(), length -= buffer.size();
    to.size = std::max(to.size, to_offset);
  }
  return {};
}

}  // namespace

std::string DataFiles::file_name(Ino ino) { return fmt::format("{:016x}", ino.v); }

std::string DataFiles::name_of(Ino ino) const {
  return fmt::format("{}/data/{:02x}/{}", volume_->path, fan_of(ino), file_name(ino));
}

Result<void> DataFiles::open_dirs() {
  TRY_ASSIGN(data_,
             open_at(volume_->fd.get(), "data", O_RDONLY | O_DIRECTORY, volume_->path + "/data"));
  return {};
}

int DataFiles::dir(int fan, bool create) const {
  std::lock_guard lock(dirs_mutex_);
  Fd& fd = dirs_[fan];
  if (fd) return fd.get();
  std::string name = fmt::format("{:02x}", fan);
  fd = Fd(::openat(data_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT && create) {
    if (::mkdirat(data_.get(), name.c_str(), 0700) != 0 && errno != EEXIST) return -1;
    dirs_made_ = true;
    fd = Fd(::openat(data_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  return fd.get();
}

int DataFiles::open_fd(int dir, const std::string& name, Make make, bool& made) const {
  constexpr int kFlags = O_RDWR | O_CLOEXEC;
  if (make == Make::likely_new) {
    int fd = ::openat(dir, name.c_str(), kFlags | O_CREAT | O_EXCL, 0600);
    made = fd >= 0;
    if (made || errno != EEXIST) return fd;
  }
  int fd = ::openat(dir, name.c_str(), kFlags);
  if (fd >= 0 || errno != ENOENT || make == Make::no) return fd;
  made = true;
  return ::openat(dir, name.c_str(), kFlags | O_CREAT, 0600);
}

Result<std::shared_ptr<DataFile>> DataFiles::open(Ino ino, Make make) {
  if (auto it = open_.find(ino); it != open_.end()) {
    used_.splice(used_.begin(), used_, it->second.used);
    return it->second.file;
  }
  auto file = std::make_shared<DataFile>();
  file->ino = ino;
  file->seal = Seal(ino);
  std::string name = file_name(ino);
  int dir = this->dir(fan_of(ino), make != Make::no);
  int fd = dir < 0 ? -1 : open_fd(dir, name, make, file->created);
  if (fd < 0 && errno == ENOENT) return std::shared_ptr<DataFile>();
  if (fd < 0) return os_fail(errno, "open", name_of(ino));
  file->fd = Fd(fd);
  if (file->created) {
    // Nobody can have sealed it yet.
    file->locked = ::flock(fd, LOCK_SH | LOCK_NB) == 0;
  } else {
    TRY(refresh_size(*file, *this));
    TRY(load_seal(file->seal, *file, *this));
  }
  if (open_.size() >= max_open_) {
    MARK("store.local.data.fd_evicted");
    open_.erase(used_.back());
    used_.pop_back();
  }
  used_.push_front(ino);
  open_.emplace(ino, Open{file, used_.begin()});
  return file;
}

void DataFiles::forget(Ino ino) {
  auto it = open_.find(ino);
  if (it == open_.end()) return;
  used_.erase(it->second.used);
  open_.erase(it);
}

Result<void> DataFiles::sync_dir(int fan) const {
  std::string shown = fmt::format("{}/data/{:02x}", volume_->path, fan);
  int fd = dir(fan, false);
  if (fd < 0) return os_fail(errno, "open", shown);
  TRY(fsync_fd(fd, shown));
  if (!dirs_made_.exchange(false)) return {};
  Result<void> synced = fsync_fd(data_.get(), volume_->path + "/data");
  if (!synced) dirs_made_ = true;
  return synced;
}

Result<void> DataFiles::unlink(Ino ino) const {
  TRY(volume_->alive());
  std::string name = file_name(ino);
  int fd = dir(fan_of(ino), false);
  if ((fd < 0 || ::unlinkat(fd, name.c_str(), 0) != 0) && errno != ENOENT) {
    return os_fail(errno, "remove", name_of(ino));
  }
  return {};
}

Result<std::vector<Ino>> DataFiles::list_all() const {
  std::vector<Ino> inos;
  for (int fan = 0; fan < kFanOut; ++fan) {
    TRY(volume_->alive());
    int own = dir(fan, false);
    if (own < 0 && errno == ENOENT) continue;
    int fd = own < 0 ? -1 : ::openat(own, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* d = fd < 0 ? nullptr : ::fdopendir(fd);
    if (!d) return os_fail(errno, "list", fmt::format("{}/data/{:02x}", volume_->path, fan));
    while (dirent* e = ::readdir(d)) {
      Ino ino;
      std::string_view name = e->d_name;
      auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), ino.v, 16);
      if (error != std::errc() || end != name.data() + name.size() || name.size() != 16) continue;
      if (fan_of(ino) == fan) inos.push_back(ino);
    }
    ::closedir(d);
  }
  std::sort(inos.begin(), inos.end());
  return inos;
}

Result<void> DataFiles::drop_seal(Ino ino) const {
  TRY(volume_->alive());
  bool made = false;
  const int own = dir(fan_of(ino), false);
  DataFile file{.ino = ino, .fd = Fd(own < 0 ? -1 : open_fd(own, file_name(ino), Make::no, made))};
  if (!file.fd) return {};
  return Sealed(file, *this).write_seal("", true);
}

std::vector<Ino> DataFiles::unsealed(const std::vector<Ino>& inos) const {
  std::vector<Ino> out;
  for (Ino ino : inos) {
    if (!volume_->alive()) break;
    bool made = false;
    const int own = dir(fan_of(ino), false);
    DataFile file{.ino = ino,
                  .fd = Fd(own < 0 ? -1 : open_fd(own, file_name(ino), Make::no, made))};
    file.seal = Seal(ino);
    // What cannot be read now says so to whoever wants it.
    if (!file.fd || !refresh_size(file, *this) || !load_seal(file.seal, file, *this)) continue;
    if (!file.seal.is_whole(file.size)) out.push_back(ino);
  }
  return out;
}

// ---------------------------------------------------------------------------------------------

Result<void> lock_to_change(DataFile& file, bool wait, const DataFiles& files) {
  if (file.locked) [[likely]]
    return {};
  auto try_lock = [&] { return ::flock(file.fd.get(), LOCK_SH | LOCK_NB); };
  TRY(lock(try_lock, wait, file, files));
  // Until now somebody else may have sealed it.
  TRY(refresh_size(file, files));
  TRY(load_seal(file.seal, file, files));
  file.locked = true;
  return {};
}

bool breaks_seal(const DataFile& file, uint64_t offset, uint64_t length, uint64_t valid_size) {
  return file.seal.covers(offset, length) || file.seal.size() > valid_size;
}

Result<void> check_file(const DataFile& file, uint64_t offset, uint64_t length, bool wait,
                        const DataFiles& files) {
  if (!file.seal.needs_check(offset, length)) [[likely]]
    return {};
  Result<void> checked = file.seal.check(Sealed(file, files, wait), offset, length);
  if (checked || !checked.error().is_damage()) return checked;
  // The seal is broken before the data is changed: whoever finds the same one again has seen data
  // that nobody has changed.
  Seal now(file.ino);
  TRY(load_seal(now, file, files));
  return now == file.seal ? checked : fail(ESTALE);
}

// ---------------------------------------------------------------------------------------------

namespace {

bool has_changed(const Sealing& sealing, const struct stat& st) {
  return static_cast<uint64_t>(st.st_size) != sealing.size ||
         st.st_mtim.tv_sec != sealing.changed.tv_sec ||
         st.st_mtim.tv_nsec != sealing.changed.tv_nsec;
}

}  // namespace

Result<std::unique_ptr<Sealing>> begin_sealing(std::shared_ptr<DataFile> file,
                                               uint64_t bytes_per_second, Nanos& wait,
                                               const DataFiles& files) {
  // Longer than any file system's time is coarse, so that each change from here on shows.
  constexpr double kShown = 1;
  wait = 0;
  TRY(files.volume().alive());
  struct stat st;
  timespec now;
  const std::string shown = files.name_of(file->ino);
  if (::fstat(file->fd.get(), &st) != 0) return os_fail(errno, "stat", shown);
  ::clock_gettime(CLOCK_REALTIME, &now);
  TRY_ASSIGN(std::string found, read_seal(file->fd.get(), shown));
  Seal old(file->ino);
  const uint64_t size = st.st_size;
  if (size > 0) TRY(old.load(found, shown));
  if (old.is_whole(size)) return std::unique_ptr<Sealing>();
  auto sealing = std::make_unique<Sealing>(
      Sealing{std::move(file), st.st_mtim, size, std::move(found), Resealing(old, size)});
  const double age = static_cast<double>(now.tv_sec - st.st_mtim.tv_sec) +
                     static_cast<double>(now.tv_nsec - st.st_mtim.tv_nsec) * 1e-9;
  const double due =
      std::max(kShown, static_cast<double>(sealing->work.bytes()) / bytes_per_second);
  // A clock that was set back says nothing about the time since.
  if (age < due && age > -kShown) {
    wait = static_cast<Nanos>((due - std::max(age, 0.0)) * kSecond);
    return std::unique_ptr<Sealing>();
  }
  return sealing;
}

Result<void> go_on_sealing(Sealing& sealing, const DataFiles& files) {
  Result<void> done = sealing.work.step(Sealed(*sealing.file, files));
  if (done || !done.error().is_damage()) return done;
  struct stat st;
  const bool same = ::fstat(sealing.file->fd.get(), &st) == 0 && !has_changed(sealing, st);
  return same ? done : fail(ESTALE);
}

Result<void> end_sealing(Sealing& sealing, const DataFiles& files) {
  DataFile& file = *sealing.file;
  const std::string shown = files.name_of(file.ino);
  TRY(files.volume().alive());
  // Whatever comes of it: who changes it next locks it again.
  file.locked = false;
  if (::flock(file.fd.get(), LOCK_EX | LOCK_NB) != 0) {
    MARK("store.local.data.seal_waits");
    return fail(EAGAIN);
  }
  struct stat st;
  Result<void> done = fail(ESTALE);
  if (::fstat(file.fd.get(), &st) == 0 && !has_changed(sealing, st)) {
    auto found = read_seal(file.fd.get(), shown);
    if (found && *found == sealing.found) {
      MARK("store.local.data.sealed");
      done = Sealed(file, files).write_seal(sealing.work.seal().encode(), false);
      if (done) file.seal = sealing.work.seal();
    }
  }
  ::flock(file.fd.get(), LOCK_UN);
  return done;
}

void unlock(DataFile& file) {
  if (std::exchange(file.locked, false)) ::flock(file.fd.get(), LOCK_UN);
}

// ---------------------------------------------------------------------------------------------

namespace {

Result<void> room_for(uint64_t bytes, const DataFile& file, const DataFiles& files) {
  if (files.volume().space.has_for_data(bytes)) [[likely]]
    return {};
  return os_fail(ENOSPC, "write", files.name_of(file.ino));
}

}  // namespace

Result<DataInfo> write_file(DataFile& file, uint64_t offset, std::string_view bytes,
                            uint64_t valid_size, const DataFiles& files) {
  TRY(begin_change(file, valid_size, files));
  TRY(before_change(file, offset, bytes.size(), files));
  if (offset + bytes.size() > file.size) TRY(room_for(bytes.size(), file, files));
  ssize_t n = ::pwrite(file.fd.get(), bytes.data(), bytes.size(), offset);
  uint64_t done = n > 0 ? n : 0;
  if (done > 0) file.size = std::max(file.size, offset + done);
  if (done != bytes.size()) [[unlikely]] {
    // What a failure in the middle leaves is not known.
    Result<void> rest =
        pwrite_all(file.fd.get(), bytes.substr(done), offset + done, files.name_of(file.ino));
    struct stat st;
    if (::fstat(file.fd.get(), &st) == 0) file.size = st.st_size;
    if (!rest) return std::unexpected(std::move(rest).error());
  }
  return info_of(file, files);
}

Result<DataInfo> truncate_file(DataFile& file, uint64_t size, const DataFiles& files) {
  TRY(begin_change(file, UINT64_MAX, files));
  // Also when the size stays: space reserved beyond it goes.
  if (size <= file.size) {
    TRY(before_cut(file, size, files));
    if (::ftruncate(file.fd.get(), size) != 0) {
      return os_fail(errno, "truncate", files.name_of(file.ino));
    }
    file.size = size;
  }
  return info_of(file, files);
}

Result<DataInfo> allocate_file(DataFile& file, AllocateMode mode, uint64_t offset, uint64_t length,
                               uint64_t valid_size, const DataFiles& files) {
  TRY(begin_change(file, valid_size, files));
  if (mode == AllocateMode::allocate) TRY(room_for(length, file, files));
  if (mode != AllocateMode::allocate) TRY(before_change(file, offset, length, files));
  switch (mode) {
    case AllocateMode::punch_hole:
      TRY(punch(file, offset, length, files));
      break;
    case AllocateMode::zero_range: {
      int e =
          ::fallocate(file.fd.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
      if (e == 0) break;
      if (errno != EOPNOTSUPP) return os_fail(errno, "zero", files.name_of(file.ino));
      TRY(punch(file, offset, length, files));
      [[fallthrough]];
    }
    case AllocateMode::allocate:
      if (::fallocate(file.fd.get(), FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
        return os_fail(errno, "allocate", files.name_of(file.ino));
      }
  }
  return info_of(file, files);
}

Result<uint64_t> seek_file(const DataFile& file, uint64_t offset, bool data, uint64_t size,
                           const DataFiles& files) {
  off_t at = ::lseek(file.fd.get(), offset, data ? SEEK_DATA : SEEK_HOLE);
  if (at < 0 && errno == ENXIO) {
    // Beyond the file's end, which within `size` is a hole.
    if (data) return fail(ENXIO);
    return offset;
  }
  if (at < 0) return os_fail(errno, "seek in", files.name_of(file.ino));
  uint64_t found = at;
  if (data && found >= size) return fail(ENXIO);
  return std::min(found, size);
}

Result<DataInfo> copy_file(const DataFile* from, uint64_t from_offset, DataFile& to,
                           uint64_t to_offset, uint64_t length, uint64_t valid_size,
                           const DataFiles& files) {
  if (from && from->ino == to.ino && from_offset < to_offset + length &&
      to_offset < from_offset + length) {
    return fail(EINVAL, files.name_of(to.ino) + ": the ranges to copy overlap");
  }
  if (from) TRY(check_file(*from, from_offset, length, true, files));
  TRY(begin_change(to, valid_size, files));
  TRY(before_change(to, to_offset, length, files));
  uint64_t end = from_offset + length;
  // Stretch by stretch: what is a hole in the source becomes one in the target.
  for (uint64_t at = from_offset; at < end;) {
    uint64_t data = end;
    if (from && at < from->size) {
      auto found = seek_file(*from, at, true, end, files);
      if (found) data = *found;
      if (!found && found.error().code != ENXIO) data = at;
    }
    TRY(punch(to, to_offset + (at - from_offset), data - at, files));
    at = data;
    if (at >= end) break;
    TRY_ASSIGN(uint64_t hole, seek_file(*from, at, false, end, files));
    hole = std::max(hole, at + 1);
    TRY(room_for(hole - at, to, files));
    TRY(copy_bytes(*from, at, to, to_offset + (at - from_offset), hole - at, files));
    at = hole;
  }
  return info_of(to, files);
}

Result<void> read_file(const DataFile& file, uint64_t offset, char* out, size_t length,
                       const DataFiles& files) {
  while (length > 0) {
    ssize_t n = ::pread(file.fd.get(), out, length, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return os_fail(errno, fmt::format("read at offset {} of", offset), files.name_of(file.ino));
    }
    if (n == 0) break;
    out += n, offset += n, length -= n;
  }
  std::memset(out, 0, length);
  return {};
}

size_t read_cached(DataFile& file, uint64_t offset, char* out, size_t length) {
  size_t got = 0;
  while (got < length) {
    // Where it seems to end it is asked again: another process may have made it longer.
    struct stat st;
    if (offset + got >= file.size && ::fstat(file.fd.get(), &st) == 0) file.size = st.st_size;
    if (offset + got >= file.size) {
      std::memset(out + got, 0, length - got);
      return length;
    }
    iovec v{out + got, length - got};
    ssize_t n = ::preadv2(file.fd.get(), &v, 1, offset + got, RWF_NOWAIT);
    if (n <= 0) break;
    got += n;
  }
  return got;
}

}  // namespace graftfs::local
