// ioctl(2): the shutdown that XFS and ext4 offer.

#include <sys/ioctl.h>
#include <sys/uio.h>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN. The number says that the kernel writes the argument,
// but it is read, so FUSE does not bring it along.
constexpr unsigned kShutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kLastShutdownFlag = 2;

void ioctl(fuse_req_t r, fuse_ino_t, unsigned cmd, void* arg, fuse_file_info*, unsigned,
           const void*, size_t, size_t) {
  Req req(r);
  if (cmd != kShutdown) return req.err(ENOTTY);
  State& state = req.state();
  if (!state.options().shut_down) return req.err(ENOTTY);
  Credentials cred = req.cred();
  if (!cred.is_root()) return req.err(EPERM);
  uint32_t flags = 0;
  iovec local{&flags, sizeof flags};
  iovec remote{arg, sizeof flags};
  if (process_vm_readv(cred.pid, &local, 1, &remote, 1, 0) != sizeof flags) return req.err(EFAULT);
  if (flags > kLastShutdownFlag) return req.err(EINVAL);
  auto shared = std::make_shared<Req>(std::move(req));
  state.options().shut_down(flags, [shared](int error) {
    if (!shared->get()) return;
    if (error) return shared->err(error);
    shared->state().set_shut_down();
    fuse_reply_ioctl(shared->get(), 0, nullptr, 0);
    shared->answered();
  });
}

}  // namespace

void add_ioctl_ops(fuse_lowlevel_ops& ops) { ops.ioctl = ioctl; }

}  // namespace graftfs::fuse
