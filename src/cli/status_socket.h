#pragma once
// How `info` and `umount` reach the daemon that serves a volume: a unix socket in the volume's
// directory. Whoever connects is sent one JSON object.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"

namespace graftfs::cli {

inline constexpr char kSocketName[] = "control";
// Sockets of processes that serve: PID.RANK, PID.status.
inline constexpr char kSocketsDir[] = "sockets";
// Of a mount of a volume that others serve; there may be several.
std::string mount_socket(const std::string& mountpoint);

// The daemon's side. Owned by the daemon, on the loop's thread. Destroying it removes the socket;
// after a crash a dead one stays, which the next daemon replaces.
class StatusSocket {
 public:
  // `status` makes the object that is sent.
  static Result<std::unique_ptr<StatusSocket>> listen(EventLoop& loop, const std::string& volume,
                                                      std::function<std::string()> status,
                                                      const std::string& name = kSocketName);
  ~StatusSocket();

 private:
  StatusSocket(EventLoop& loop, std::string path, std::function<std::string()> status)
      : loop_(loop), path_(std::move(path)), status_(std::move(status)) {}
  void accept();

  EventLoop& loop_;
  std::string path_;
  std::function<std::string()> status_;
  int socket_ = -1;
};

// Who serves a volume.
struct Served {
  pid_t pid = 0;
  std::string status;  // JSON; empty where the daemon did not answer in time
};
// Nullopt: nobody does.
std::optional<Served> ask_daemon(const std::string& volume, const std::string& name = kSocketName);

// Waits until the process is gone. False: it is still there after the time.
bool wait_for_exit(pid_t pid, int timeout_ms);

}  // namespace graftfs::cli
