#pragma once
// Where a crash test runs: a directory of its own, mounts that nobody else sees.

#include <atomic>
#include <stdexcept>
#include <string>

namespace graftfs::crash {

// The test cannot go on: the machine, or GraftFS where it must not fail, did not do its part.
struct HarnessError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] void give_up(const std::string& what);  // with errno's text
[[noreturn]] void give_up_plain(const std::string& what);

// Why a test that mounts GraftFS and loop devices cannot run here; empty: it can.
std::string cannot_run();

// One a process, made by the main thread before any other thread. A mount namespace of its own,
// so that every mount (and with it every loop device) is gone with the last process in it, and a
// directory under TMPDIR (unset: in memory, if there is enough, because the images of loop devices
// lose what was not synced there as well, and much faster), which a process outside the namespace
// removes when this one has ended, however it did.
class Sandbox {
 public:
  static Sandbox& get();
  const std::string& dir() const { return dir_; }
  // A new path in it.
  std::string path(const std::string& name);

 private:
  Sandbox();
  ~Sandbox();
  std::string dir_;
  int alive_fd_ = -1;
  int guardian_ = -1;
  std::atomic<int> number_ = 0;
};

// The graftfs program: $GRAFTFS_BUILD/src/cli/graftfs, or that of the tree this program is in.
std::string graftfs_program();

}  // namespace graftfs::crash
