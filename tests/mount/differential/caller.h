#pragma once
// A process that makes system calls on one file system and writes down what came of each.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace graftfs::mounttest {

constexpr int kSlots = 4;    // open files
constexpr int kHandles = 2;  // of name_to_handle_at

struct Handle {
  std::string bytes;
  int type = 0;
};

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

// What a step works with. Its descriptors and its working directory are those of the process, which
// sees nothing but the directory under test (chroot).
struct Caller {
  std::array<int, kSlots> fds;
  std::array<Handle, kHandles> handles;
  Identity who;
  int root = -1;

  void become(const Identity& id);
  void as_root(const std::function<void()>& fn);
  // Puts a new descriptor where `slot` says, and closes what was there. An error leaves it.
  std::string put(int slot, int fd);
};

// One system call of a sequence: how it reads, and what it does. It answers "ok", a value or the
// name of an errno.
struct Step {
  std::string text;
  std::function<std::string(Caller&)> run;
};

std::string outcome(long r);        // "ok" or the name of errno
std::string outcome_value(long r);  // the value or the name of errno
std::string digest(const std::string& bytes);

// What can be seen of a directory tree and of the open files, as text. Left out is what file
// systems may choose: inode numbers, sizes of directories, blocks, atime.
class View {
 public:
  // The lines that are new or different since the last call, "- path" for what is gone. `thorough`
  // also reads all files and compares what the kernel remembers with what the file system says.
  std::string changes(Caller& caller, bool thorough);

 private:
  struct Times {
    int64_t mtime_ns, ctime_ns;
    int64_t size;
    std::string content;
  };
  void look(const std::string& path, bool thorough, int depth);
  void look_into(const std::string& path, bool thorough, int depth);

  std::map<std::string, std::string> lines_, before_;
  std::map<uint64_t, Times> times_, times_before_;
  std::string moved_;
};

// In a child of the process that serves the mount: lets go of what it has open, /dev/fuse above all
// (else the mount would outlive its server, and whoever waits for it), but `keep`.
void leave_parent(int keep);

// Runs the steps in a child process on `dir`, which is emptied first. One text for each step.
// Shorter than `steps` where the process died or hung, and the last text says so.
std::vector<std::string> run_steps(const std::string& dir, const std::vector<Step>& steps);

}  // namespace graftfs::mounttest
