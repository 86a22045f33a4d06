#pragma once
// Which inodes the kernel knows.

#include <cstdint>

#include "base/ids.h"
#include "types/ino_table.h"

namespace graftfs::fuse {

// Counts, for each ino, how many answers named it and were not yet taken back by FORGET. An open
// file, a mapping, a working directory: each keeps the kernel's inode, so an inode whose count is
// above 0 may be in use and one at 0 is not. That makes it the mount's only kind of hold: files
// are not opened at the rank at all, and an inode that lost its last name is released when the
// kernel forgets it.
class KernelRefs {
 public:
  void add(Ino ino, bool privileged) {
    Refs r = refs_.get(ino);
    ++r.count;
    r.privileged |= privileged;
    refs_.set(ino, r);
  }
  // Takes `count` back. True: it was the last, and the rank is to be told that an inode without
  // a name is not held any more.
  bool forget(Ino ino, uint64_t count);
  // The inode lost its last name. True: the kernel does not know it, it can be released now.
  bool orphaned(Ino ino);
  // Whether the kernel was shown a setuid or setgid bit, which a write clears behind its back.
  bool privileged(Ino ino) const;
  void set_privileged(Ino ino, bool value);
  bool knows(Ino ino) const { return refs_.get(ino).count > 0; }
  size_t size() const { return refs_.size(); }

 private:
  struct Refs {
    uint64_t count : 62 = 0;
    uint64_t orphan : 1 = 0;
    uint64_t privileged : 1 = 0;
    friend bool operator==(const Refs&, const Refs&) = default;
  };
  InoTable<Refs> refs_;
};

}  // namespace graftfs::fuse
