#pragma once
// GraftFS as a process that can be killed.

#include <sys/types.h>

#include <string>
#include <vector>

namespace graftfs::crash {

// Runs a program to its end; returns its exit status (128 + signal), and what it printed.
int run_program(const std::vector<std::string>& argv, std::string& output);

// One volume, one mount point, and the process between them while there is one. Used from one
// thread (kill_now() from any). The process dies with the thread that started it.
class DaemonProcess {
 public:
  // `flags`: of `graftfs mount`. Formats nothing.
  DaemonProcess(std::string volume, std::string mountpoint, std::vector<std::string> flags);
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  static void format(const std::string& volume);

  // Starts it and returns when the file system is there; recovery has ended then.
  void start();
  // Starts it and does not wait.
  void begin_start();
  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  void kill_now();  // kill -9, no more
  // Reaps it (killing it if it still runs) and removes the mount it left.
  void clean_up();
  // A clean unmount; false, with the log's end in `why`, if it did not end with success.
  bool unmount(std::string& why);

  const std::string& volume() const { return volume_; }
  const std::string& dir() const { return dir_; }
  std::string log_end() const;
  // `graftfs fsck VOLUME`, of a volume that is not mounted. True if there is nothing wrong or this
  // program has no such command yet.
  bool fsck(std::string& report) const;
  static bool has_fsck();

 private:
  bool reap(bool wait);
  std::string volume_, dir_, log_;
  std::vector<std::string> flags_;
  pid_t pid_ = -1;
  int status_ = 0;
};

}  // namespace graftfs::crash
