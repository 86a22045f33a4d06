#include "backing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "sandbox.h"

namespace graftfs::crash {
namespace {

// XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN are the same number, and so is "do not flush the log".
constexpr unsigned long kShutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kNoLogFlush = 2;

// An open descriptor of a loop device over the image; the device goes with its last user.
int attach_loop(const std::string& image, std::string& device) {
  int image_fd = ::open(image.c_str(), O_RDWR | O_CLOEXEC);
  if (image_fd < 0) give_up("cannot open " + image);
  int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) give_up("cannot open /dev/loop-control");
  for (int attempt = 0; attempt < 200; ++attempt) {
    int number = ::ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) give_up("no free loop device");
    device = fmt::format("/dev/loop{}", number);
    int fd = ::open(device.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      ::usleep(1000);
      continue;
    }
    loop_config config{};
    config.fd = static_cast<uint32_t>(image_fd);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
      ::close(control);
      ::close(image_fd);
      return fd;
    }
    int error = errno;
    ::close(fd);
    errno = error;
    if (error != EBUSY) give_up("cannot attach " + image + " to " + device);
    ::usleep(1000);  // somebody else was faster
  }
  give_up("cannot attach " + image + " to a loop device");
}

}  // namespace

const char* name_of(BackingKind kind) {
  switch (kind) {
    case BackingKind::xfs:
      return "xfs";
    case BackingKind::ext4:
      return "ext4";
  }
  return "";
}

Backing::Backing(BackingKind kind, uint64_t megabytes) : kind_(kind) {
  dir_ = Sandbox::get().path(name_of(kind));
  if (::mkdir(dir_.c_str(), 0755) != 0) give_up("cannot make " + dir_);
  image_ = dir_ + ".image";
  int fd = ::open(image_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(megabytes << 20)) != 0)
    give_up("cannot make " + image_);
  ::close(fd);
  std::string command =
      kind == BackingKind::xfs
          ? fmt::format("mkfs.xfs -q {0} >{0}.log 2>&1", image_)
          : fmt::format("mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard {0} >{0}.log 2>&1",
                        image_);
  if (std::system(command.c_str()) != 0)
    give_up_plain(fmt::format("mkfs.{} failed: install {}", name_of(kind),
                              kind == BackingKind::xfs ? "xfsprogs" : "e2fsprogs"));
  mount();
}

Backing::~Backing() {
  if (root_fd_ >= 0) ::close(root_fd_);
  ::umount2(dir_.c_str(), MNT_DETACH);
  ::unlink(image_.c_str());
}

void Backing::mount() {
  std::string device;
  int loop = attach_loop(image_, device);
  int mounted = ::mount(device.c_str(), dir_.c_str(), name_of(kind_), 0, nullptr);
  int error = errno;
  ::close(loop);
  errno = error;
  if (mounted != 0) give_up(fmt::format("cannot mount {} on {}", device, dir_));
  root_fd_ = ::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root_fd_ < 0) give_up("cannot open " + dir_);
}

void Backing::unmount() {
  ::close(root_fd_);
  root_fd_ = -1;
  for (int i = 0; i < 5000; ++i) {
    if (::umount2(dir_.c_str(), 0) == 0) return;
    if (errno != EBUSY) break;
    ::usleep(1000);  // files of a process that was just killed are closed a moment later
  }
  give_up("cannot unmount " + dir_);
}

void Backing::cut() {
  uint32_t flags = kNoLogFlush;
  if (::ioctl(root_fd_, kShutdown, &flags) != 0)
    give_up(fmt::format("cannot shut down the {} on {}", name_of(kind_), dir_));
}

void Backing::cycle() {
  unmount();
  mount();
}

}  // namespace graftfs::crash
