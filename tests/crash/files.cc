#include "files.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdlib>

namespace graftfs::crash {

int write_at(const std::string& path, int flags, uint64_t offset, std::string_view bytes) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644);
  if (fd < 0) return errno;
  int err = 0;
  while (!bytes.empty() && err == 0) {
    ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n <= 0) {
      err = n < 0 ? errno : EIO;
      break;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  if (::close(fd) != 0 && err == 0) err = errno;
  return err;
}

int read_all(const std::string& path, std::string& bytes) {
  bytes.clear();
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  struct stat st;
  int err = ::fstat(fd, &st) == 0 ? 0 : errno;
  if (err == 0) bytes.resize(static_cast<size_t>(st.st_size) + 1);
  size_t got = 0;
  while (err == 0 && got < bytes.size()) {
    ssize_t n = ::read(fd, bytes.data() + got, bytes.size() - got);
    if (n < 0) err = errno;
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  bytes.resize(got);
  ::close(fd);
  return err;
}

int sync_path(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int err = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return err;
}

int shut_down(int fd, uint32_t flags) {
  return ::ioctl(fd, _IOR('X', 125, uint32_t), &flags) == 0 ? 0 : errno;
}

bool is_gone(int err) {
  return err == EIO || err == ENOTCONN || err == ECONNABORTED || err == EINTR;
}

uint64_t checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t setting(const char* name, uint64_t usual) {
  const char* value = std::getenv(name);
  return value && *value ? std::strtoull(value, nullptr, 10) : usual;
}

}  // namespace graftfs::crash
