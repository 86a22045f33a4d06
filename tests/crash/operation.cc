#include "operation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace graftfs::crash {
namespace {

using K = OpKind;

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  int fd() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

int err(long result) { return result < 0 ? errno : 0; }

int write_at(const File& file, const std::string& bytes, uint64_t offset) {
  ssize_t n = ::pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (n < 0) return errno;
  return static_cast<size_t>(n) == bytes.size() ? 0 : EIO;
}

int make_file(const std::string& path, uint64_t seed, uint64_t size) {
  File file(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (!file.ok()) return errno;
  return size == 0 ? 0 : write_at(file, bytes_for(seed, 0, size), 0);
}

}  // namespace

const std::vector<Operation>& all_operations() {
  static const std::vector<Operation> ops = {
      {K::create, "new"},
      {K::create, "d/new"},
      {K::mkdir, "new"},
      {K::mkdir, "d/new"},
      {K::symlink, "new", "f1"},
      {K::symlink, "d/new", "../nowhere"},
      {K::mkfifo, "new"},
      {K::link, "f1", "new"},
      {K::link, "h1", "d/new"},
      {K::link, "x", "e/new"},
      {K::unlink, "f1"},
      {K::unlink, "h1"},
      {K::unlink, "d/in"},
      {K::unlink, "s"},
      {K::rmdir, "e"},
      {K::rmdir, "d"},  // not empty
      {K::rename, "f1", "new"},
      {K::rename, "f1", "f2"},
      {K::rename, "f1", "d/new"},
      {K::rename, "d/in", "new"},
      {K::rename, "d", "new"},
      {K::rename, "d", "e"},
      {K::rename, "e", "d/new"},
      {K::rename, "h1", "h2"},  // the same file: nothing happens
      {K::rename, "h1", "f1"},
      {K::rename, "f2", "h1"},
      {K::exchange, "f1", "f2"},
      {K::exchange, "f1", "d"},
      {K::exchange, "d/in", "f2"},
      {K::rename_new, "f1", "new"},
      {K::rename_new, "f1", "f2"},  // EEXIST
      {K::append, "f1", "", 0, 3000},
      {K::append, "f2", "", 0, 40000},
      {K::append, "h1", "", 0, 500},
      {K::append_sync, "f2", "", 0, 5000},
      {K::write, "f1", "", 1000, 2000},
      {K::write, "big", "", 0, kBigSize},
      {K::write, "f1", "", 5000, 4000},  // across the end
      {K::write, "f1", "", 20000, 500},  // beyond the end
      {K::write, "x", "", 0, 4096},      // into an empty file
      {K::truncate, "f1", "", 0, 100},
      {K::truncate, "f1", "", 0, 0},
      {K::truncate, "f1", "", 0, 50000},
      {K::truncate, "big", "", 0, 8192},
      {K::allocate, "f1", "", 0, 30000},
      {K::allocate_keep, "f1", "", 0, 30000},
      {K::punch, "big", "", 4096, 8192},
      {K::zero, "big", "", 1000, 7000},
      {K::zero, "f1", "", 4000, 4000},
      {K::copy, "big", "f1", 0, 8192},
      {K::setxattr, "f1", "user.new", 0, 20},
      {K::setxattr, "x", "user.old", 0, 300},
      {K::setxattr, "d", "user.new", 0, 20},
      {K::removexattr, "x", "user.old"},
      {K::chmod, "f1", "", 0, 0, 0600},
      {K::chmod, "d", "", 0, 0, 0711},
      {K::chown, "f1", "", 0, 0, kOtherUid},
      {K::chown, "e", "", 0, 0, kOtherUid},
      {K::utimens, "f1"},
      {K::utimens, "d"},
      {K::utimens, "s"},
  };
  return ops;
}

std::string describe(const Operation& op) {
  switch (op.kind) {
    case K::create:
      return fmt::format("create {}", op.path);
    case K::mkdir:
      return fmt::format("mkdir {}", op.path);
    case K::symlink:
      return fmt::format("symlink {} -> {}", op.path, op.to);
    case K::mkfifo:
      return fmt::format("mkfifo {}", op.path);
    case K::link:
      return fmt::format("link {} {}", op.path, op.to);
    case K::unlink:
      return fmt::format("unlink {}", op.path);
    case K::rmdir:
      return fmt::format("rmdir {}", op.path);
    case K::rename:
      return fmt::format("rename {} {}", op.path, op.to);
    case K::exchange:
      return fmt::format("rename EXCHANGE {} {}", op.path, op.to);
    case K::rename_new:
      return fmt::format("rename NOREPLACE {} {}", op.path, op.to);
    case K::write:
      return fmt::format("write {} [{}, +{})", op.path, op.offset, op.length);
    case K::append:
      return fmt::format("append {} +{}", op.path, op.length);
    case K::append_sync:
      return fmt::format("append O_SYNC {} +{}", op.path, op.length);
    case K::truncate:
      return fmt::format("truncate {} to {}", op.path, op.length);
    case K::allocate:
      return fmt::format("fallocate {} [0, +{})", op.path, op.length);
    case K::allocate_keep:
      return fmt::format("fallocate KEEP_SIZE {} +{}", op.path, op.length);
    case K::punch:
      return fmt::format("punch hole {} [{}, +{})", op.path, op.offset, op.length);
    case K::zero:
      return fmt::format("zero range {} [{}, +{})", op.path, op.offset, op.length);
    case K::copy:
      return fmt::format("copy_file_range {} {} +{}", op.path, op.to, op.length);
    case K::setxattr:
      return fmt::format("setxattr {} {} +{}", op.path, op.to, op.length);
    case K::removexattr:
      return fmt::format("removexattr {} {}", op.path, op.to);
    case K::chmod:
      return fmt::format("chmod {} {:o}", op.path, op.number);
    case K::chown:
      return fmt::format("chown {} {}", op.path, op.number);
    case K::utimens:
      return fmt::format("utimens {}", op.path);
  }
  return "";
}

std::string bytes_for(uint64_t seed, uint64_t offset, uint64_t length) {
  std::string out(length, '\0');
  for (uint64_t i = 0; i < length; ++i) {
    uint64_t v = (offset + i + 1) * 0x9e3779b97f4a7c15ull + seed * 0xc2b2ae3d27d4eb4full;
    // Never zero, so that a hole is never taken for data.
    out[i] = static_cast<char>(1 + (v >> 40) % 255);
  }
  return out;
}

uint64_t writer_of(const Operation& op) {
  return 1000 + static_cast<uint64_t>(op.kind) * 1'000'003 + op.offset * 31 + op.length;
}

int prepare(const std::string& dir) {
  auto at = [&](const char* name) { return dir + "/" + name; };
  int e = 0;
  (e = make_file(at("f1"), 1, kF1Size)) || (e = make_file(at("f2"), 2, kF2Size)) ||
      (e = make_file(at("big"), 3, kBigSize)) || (e = make_file(at("x"), 0, 0)) ||
      (e = make_file(at("h1"), 4, 200)) || (e = err(::link(at("h1").c_str(), at("h2").c_str()))) ||
      (e = err(::mkdir(at("d").c_str(), 0755))) || (e = make_file(at("d/in"), 5, 300)) ||
      (e = err(::mkdir(at("e").c_str(), 0755))) || (e = err(::symlink("f1", at("s").c_str()))) ||
      (e = err(::setxattr(at("x").c_str(), "user.old", "value", 5, 0)));
  return e;
}

int carry_out(const std::string& dir, const Operation& op) {
  const std::string path = dir + "/" + op.path, to = dir + "/" + op.to;
  const auto offset = static_cast<off_t>(op.offset), length = static_cast<off_t>(op.length);
  auto allocate = [&](int mode) {
    File file(path, O_RDWR);
    return file.ok() ? err(::fallocate(file.fd(), mode, offset, length)) : errno;
  };
  auto rename = [&](unsigned flags) {
    return err(::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), flags));
  };
  switch (op.kind) {
    case K::create:
      return make_file(path, 0, 0);
    case K::mkdir:
      return err(::mkdir(path.c_str(), 0750));
    case K::symlink:
      return err(::symlink(op.to.c_str(), path.c_str()));
    case K::mkfifo:
      return err(::mkfifo(path.c_str(), 0640));
    case K::link:
      return err(::link(path.c_str(), to.c_str()));
    case K::unlink:
      return err(::unlink(path.c_str()));
    case K::rmdir:
      return err(::rmdir(path.c_str()));
    case K::rename:
      return rename(0);
    case K::exchange:
      return rename(RENAME_EXCHANGE);
    case K::rename_new:
      return rename(RENAME_NOREPLACE);
    case K::write: {
      File file(path, O_WRONLY);
      return file.ok() ? write_at(file, bytes_for(writer_of(op), op.offset, op.length), op.offset)
                       : errno;
    }
    case K::append:
    case K::append_sync: {
      File file(path, O_WRONLY | O_APPEND | (op.kind == K::append_sync ? O_SYNC : 0));
      if (!file.ok()) return errno;
      std::string bytes = bytes_for(writer_of(op), 0, op.length);
      ssize_t n = ::write(file.fd(), bytes.data(), bytes.size());
      return n == length ? 0 : n < 0 ? errno : EIO;
    }
    case K::truncate:
      return err(::truncate(path.c_str(), length));
    case K::allocate:
      return allocate(0);
    case K::allocate_keep:
      return allocate(FALLOC_FL_KEEP_SIZE);
    case K::punch:
      return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    case K::zero:
      return allocate(FALLOC_FL_ZERO_RANGE);
    case K::copy: {
      File from(path, O_RDONLY), target(to, O_RDWR);
      if (!from.ok() || !target.ok()) return errno;
      loff_t in = 0, out = 0;
      ssize_t n = ::copy_file_range(from.fd(), &in, target.fd(), &out, op.length, 0);
      return n == length ? 0 : n < 0 ? errno : EIO;
    }
    case K::setxattr: {
      std::string value = bytes_for(writer_of(op), 0, op.length);
      return err(::lsetxattr(path.c_str(), op.to.c_str(), value.data(), value.size(), 0));
    }
    case K::removexattr:
      return err(::lremovexattr(path.c_str(), op.to.c_str()));
    case K::chmod:
      return err(::chmod(path.c_str(), op.number));
    case K::chown:
      return err(::lchown(path.c_str(), op.number, kOtherGid));
    case K::utimens: {
      timespec times[2] = {{1, 2}, {kUtimensSeconds, kUtimensNanos}};
      return err(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
    }
  }
  return EINVAL;
}

}  // namespace graftfs::crash
