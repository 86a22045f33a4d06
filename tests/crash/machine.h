#pragma once
// A volume, its process and the disk below it: crashed and recovered as one.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backing.h"
#include "daemon_process.h"

namespace graftfs::crash {

using Random = std::mt19937_64;

struct MachineOptions {
  BackingKind backing = BackingKind::ext4;
  bool power = false;  // a crash is a power cut; else the process is killed
  bool strict = false;
  uint64_t megabytes = 512;        // of the image
  std::vector<std::string> flags;  // more of `graftfs mount`
};

// Used from one thread, crash() from any. A new one is formatted and mounted.
class Machine {
 public:
  explicit Machine(const MachineOptions& options);
  ~Machine();

  const MachineOptions& options() const { return options_; }
  bool is_power() const { return options_.power; }
  // Where the volume is mounted.
  const std::string& dir() const { return daemon_->dir(); }
  DaemonProcess& daemon() { return *daemon_; }
  Backing& backing() { return backing_; }

  // At this moment: the power is cut, or the process killed.
  void crash();
  // Cleans up, checks the volume (what fsck finds is added to `problems`), mounts it again.
  // `interruptions`: so often the recovery itself is crashed, at a random moment.
  void recover(Random& random, int interruptions, std::vector<std::string>& problems);
  size_t crashes() const { return crashes_; }

 private:
  MachineOptions options_;
  Backing backing_;
  std::unique_ptr<DaemonProcess> daemon_;
  size_t crashes_ = 0;
};

}  // namespace graftfs::crash
