#include "store/local/local_common.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cstring>
#include <mutex>
#include <set>

namespace graftfs::local {
namespace {

std::mutex open_volumes_mutex;
std::set<std::pair<uint64_t, uint64_t>> open_volumes;

}  // namespace

Result<void> Volume::register_open() {
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return os_fail(errno, "stat", path);
  std::pair<uint64_t, uint64_t> identity(st.st_dev, st.st_ino);
  std::lock_guard lock(open_volumes_mutex);
  if (!open_volumes.insert(identity).second) {
    return fail(EBUSY, path + " is already open in this process; close it first");
  }
  identity_ = identity;
  return {};
}

Volume::~Volume() {
  std::lock_guard lock(open_volumes_mutex);
  open_volumes.erase(identity_);
}

std::unexpected<Error> os_fail(int code, std::string_view verb, std::string_view name) {
  const char* advice = "";
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      advice = "; free some space on the file system that holds the volume";
      break;
    case EIO:
      advice = "; look for disk errors in the kernel's log before going on";
      break;
    case EMFILE:
    case ENFILE:
      advice = "; raise the limit on open files (ulimit -n)";
      break;
    case EACCES:
    case EPERM:
      advice = "; run as the user who owns the volume";
      break;
    case EROFS:
      advice = "; the file system that holds the volume is mounted read-only";
      break;
  }
  return fail(code == EDQUOT ? ENOSPC : code,
              fmt::format("cannot {} {}: {}{}", verb, name, std::strerror(code), advice));
}

Result<Fd> open_at(int dir, const std::string& name, int flags, const std::string& shown) {
  int fd = ::openat(dir, name.c_str(), flags | O_CLOEXEC, 0600);
  if (fd < 0) return os_fail(errno, "open", shown);
  return Fd(fd);
}

Result<std::string> read_small_file(int dir, const std::string& name, const std::string& shown) {
  TRY_ASSIGN(Fd fd, open_at(dir, name, O_RDONLY, shown));
  std::string bytes(64 << 10, '\0');
  ssize_t n = ::pread(fd.get(), bytes.data(), bytes.size(), 0);
  if (n < 0) return os_fail(errno, "read", shown);
  bytes.resize(n);
  return bytes;
}

Result<void> pwrite_all(int fd, std::string_view bytes, uint64_t offset, std::string_view shown) {
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_fail(errno, fmt::format("write at offset {} of", offset), shown);
    bytes.remove_prefix(n);
    offset += n;
  }
  return {};
}

Result<void> fsync_fd(int fd, std::string_view shown) {
  if (::fsync(fd) != 0) return os_fail(errno, "sync", shown);
  return {};
}

Result<void> replace_small_file(int dir, const std::string& name, std::string_view bytes,
                                bool durable, const std::string& shown) {
  std::string temporary = name + ".new";
  {
    TRY_ASSIGN(Fd fd, open_at(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC, shown));
    TRY(pwrite_all(fd.get(), bytes, 0, shown));
    if (durable) TRY(fsync_fd(fd.get(), shown));
  }
  if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0) {
    return os_fail(errno, "replace", shown);
  }
  if (durable) TRY(fsync_fd(dir, shown));
  return {};
}

}  // namespace graftfs::local
