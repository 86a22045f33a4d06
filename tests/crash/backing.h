#pragma once
// What a volume lies on, and how its power is cut.

#include <cstdint>
#include <string>

namespace graftfs::crash {

enum class BackingKind : uint8_t { xfs, ext4 };
const char* name_of(BackingKind kind);

// A file system of its own in an image on a loop device. Used from one thread (cut() from any).
// Lifetime: unmounts when it ends; what still uses it then keeps only itself alive.
class Backing {
 public:
  // `megabytes`: size of the image; XFS needs 300.
  Backing(BackingKind kind, uint64_t megabytes);
  ~Backing();
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  BackingKind kind() const { return kind_; }
  const std::string& dir() const { return dir_; }
  // The power goes, at this moment: what is not on the device is lost (the ioctl of XFS and ext4
  // without a flush of their logs), and everything fails. cycle() follows.
  void cut();
  // The power comes back: unmounts, attaches the image anew and mounts it, which recovers it.
  // Whatever used the directory must have ended.
  void cycle();

 private:
  void mount();
  void unmount();
  BackingKind kind_;
  std::string dir_, image_;
  int root_fd_ = -1;  // for cut(): a path could not be opened after it
};

}  // namespace graftfs::crash
