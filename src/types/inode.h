#pragma once
// What is known of a file, and its encoding (docs/formats/items.md).

#include <sys/stat.h>

#include <map>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/executor.h"
#include "base/ids.h"

namespace graftfs {

// Everything stat(2) tells, without the device number.
struct Stat {
  Ino ino;
  uint32_t mode = 0;  // type and permissions, as in <sys/stat.h>
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  uint64_t size = 0;    // bytes; of a directory: its entries
  uint64_t blocks = 0;  // 512-byte units
  uint32_t rdev = 0;    // as the kernel's new_encode_dev()
  Timespec atime, mtime, ctime, btime;

  bool is_dir() const { return S_ISDIR(mode); }
  bool is_regular() const { return S_ISREG(mode); }
  bool is_symlink() const { return S_ISLNK(mode); }
  friend bool operator==(const Stat&, const Stat&) = default;
};

// The rarer parts. Shared between copies and never changed in place: a change makes a new one.
struct InodeExtra {
  std::string symlink;                        // target
  std::map<std::string, std::string> xattrs;  // full name ("user.a") -> value
  friend bool operator==(const InodeExtra&, const InodeExtra&) = default;
};

struct Inode : Stat {
  std::shared_ptr<const InodeExtra> extra;  // null: none

  const std::string& symlink() const;
  const std::map<std::string, std::string>& xattrs() const;
  // A copy of the extra, to change and to put back with set_extra().
  InodeExtra copy_extra() const { return extra ? *extra : InodeExtra{}; }
  void set_extra(InodeExtra e);
};
bool operator==(const Inode& a, const Inode& b);

inline constexpr uint32_t kMaxLink = 65000;          // of a file, as ext4
inline constexpr uint32_t kMaxDirLink = 2147483647;  // of a directory, as XFS
inline constexpr size_t kNameMax = 255;
inline constexpr size_t kPathMax = 4096;  // a symlink's target is shorter
inline constexpr size_t kXattrNameMax = 255;
inline constexpr size_t kXattrValueMax = 64 << 10;  // the kernel's XATTR_SIZE_MAX
// What listxattr can return, the kernel's XATTR_LIST_MAX: names, each with its NUL.
inline constexpr size_t kXattrNamesMax = 64 << 10;
// Names and values of one inode. More than ext4 has room for; an event with the four inodes that a
// rename may change still fits into a segment.
inline constexpr size_t kXattrTotalMax = 96 << 10;
inline constexpr int64_t kMaxFileSize = INT64_MAX - 4096;

void encode_inode(ByteWriter& w, const Inode& inode);
// On malformed bytes r.ok() is false afterwards.
void decode_inode(ByteReader& r, Inode& inode);
void encode_time(ByteWriter& w, Timespec t);
Timespec decode_time(ByteReader& r);

}  // namespace graftfs
