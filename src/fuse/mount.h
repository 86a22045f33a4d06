#pragma once
// A volume as a mounted file system.

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "client/client.h"

namespace graftfs {

struct MountOptions {
  std::string mountpoint;
  std::string source = "graftfs";  // as shown by mount(8)
  bool read_only = false;
  bool allow_other = true;  // only root may choose; others get what /etc/fuse.conf permits
  // How long the kernel may answer from what it knows. This mount is the volume's only client,
  // and every change goes through its kernel, so there is no reason to ask again soon.
  double entry_timeout_s = 86400;  // of names, also of those that do not exist
  double attr_timeout_s = 86400;
  // Others change the volume, too: the timeouts are to be 0, and what the kernel has of a file is
  // checked whenever it is read.
  bool shared = false;
  // How far the kernel reads ahead in a file that is read from front to back, bytes: in requests of
  // 1 MiB, several at a time. Only root may say so; for others it is what the kernel has, 128 KiB.
  size_t read_ahead = 1u << 20;
  bool handle_signals = true;         // SIGINT, SIGTERM, SIGHUP unmount
  bool debug = false;                 // libfuse prints every request
  size_t max_requests = 4096;         // under way at once; then the kernel waits
  size_t max_data_bytes = 64u << 20;  // of file data in their buffers
  // The shutdown ioctl of XFS and ext4 (root only): stop as after a power cut. `flags` are
  // XFS's: 0 everything is made durable first, 1 the journal is, 2 nothing is. `done(errno)`
  // answers the caller. Everything fails with EIO afterwards. Unset: the ioctl is refused.
  std::function<void(uint32_t flags, std::function<void(int)> done)> shut_down;
};

namespace fuse {
class State;
}

// Serves a mount point from an event loop, without threads of its own.
//
// Owner and thread: whoever mounts, on the loop's thread. Lifetime: destroying it unmounts (what
// is open fails with ENOTCONN) and must come before the Client's end and the loop's. Completion:
// mount() returns when the mount point is there; its requests are served once the loop runs. A
// crash of the process leaves a dead mount point that `umount` removes; nothing that was answered
// is lost, because the kernel holds back no writes (mmap-ed pages excepted, until msync). An
// error of the connection ends it like an unmount.
class FuseMount {
 public:
  static Result<std::unique_ptr<FuseMount>> mount(EventLoop& loop, Client& client,
                                                  MountOptions options);
  ~FuseMount();

  // `fn` is posted to the loop once the file system is unmounted, by whomever, and every request
  // that was under way has been answered by the client.
  void on_unmounted(Fn fn);
  // Writes back what the kernel holds, unmounts (lazily, if it is busy) and ends. Needs the
  // running loop; on_unmounted tells when it is done.
  void unmount();
  // The inode has lost its last name. True: the kernel still knows it; when it does not any more
  // the client is told to release it.
  bool refers_to(Ino ino);
  // Who had locked the file has lost that: whoever has it open now is answered EIO until it is
  // closed.
  void lost_lock(Ino ino);

 private:
  explicit FuseMount(std::shared_ptr<fuse::State> state) : state_(std::move(state)) {}
  std::shared_ptr<fuse::State> state_;
};

}  // namespace graftfs
