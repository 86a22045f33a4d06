#pragma once

#include <absl/container/flat_hash_map.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

namespace graftfs::null_fs {

struct Inode;

// A name in a directory. Its position in the directory's list never changes, so
// the position is the listing cookie.
struct DirectoryEntry {
  std::string name;
  Inode* inode;
};

// The entries of one directory in the order in which they were made. A removed
// entry leaves a hole, so cookies stay valid while entries come and go.
class Directory {
 public:
  explicit Directory(Inode* parent) : parent_(parent) {}

  Inode* parent() const { return parent_; }
  void set_parent(Inode* parent) { parent_ = parent; }
  bool empty() const { return live_ == 0; }

  Inode* find(std::string_view name) const;
  void insert(std::string_view name, Inode* inode);
  void erase(std::string_view name);
  // Puts another inode under a name that exists.
  void replace(std::string_view name, Inode* inode);

  // The first entry after `cookie` (0: the first of all) and its own cookie,
  // which goes up by at least 1; nullptr at the end.
  const DirectoryEntry* next(uint64_t& cookie) const;

 private:
  Inode* parent_;
  uint64_t first_cookie_ = kFirstCookie;  // of entries_.front()
  std::deque<std::unique_ptr<DirectoryEntry>> entries_;
  // Keys point into entries_. In parts, so that growing one never stops everyone
  // for the time it takes to move a million names.
  using Names = absl::flat_hash_map<std::string_view, uint64_t>;
  static constexpr size_t kParts = 64;
  std::array<Names, kParts> by_name_;
  uint64_t live_ = 0;

  Names& part_of(std::string_view name) { return by_name_[part_index(name)]; }
  const Names& part_of(std::string_view name) const { return by_name_[part_index(name)]; }
  static size_t part_index(std::string_view name);

  static constexpr uint64_t kFirstCookie = 3;  // 1 and 2 are "." and ".."
};

// The bytes of one file, up to the last byte ever written; what lies beyond, up
// to the size, reads as zeros.
class FileData {
 public:
  FileData() = default;
  FileData(const FileData&) = delete;
  FileData& operator=(const FileData&) = delete;
  ~FileData() { std::free(bytes_); }

  const char* bytes() const { return bytes_; }
  uint64_t length() const { return length_; }
  // False when there is no memory for it; nothing is changed then.
  bool write(uint64_t offset, const char* from, size_t count);
  void truncate(uint64_t length);

 private:
  char* bytes_ = nullptr;
  uint64_t length_ = 0;
  uint64_t capacity_ = 0;
};

// The kernel knows an inode by its address. It lives until it has neither a
// name nor a kernel lookup.
struct Inode {
  struct stat attributes = {};
  uint64_t lookups = 0;
  std::unique_ptr<Directory> directory;  // directories only
  FileData data;                         // regular files only
  std::string target;                    // symbolic links only
};

// The whole file system in memory. The caller holds its own lock; nothing here
// survives the process. Errors are errno values, 0 is success.
class MemoryTree {
 public:
  MemoryTree();
  MemoryTree(const MemoryTree&) = delete;
  MemoryTree& operator=(const MemoryTree&) = delete;
  ~MemoryTree();

  Inode* root() { return root_; }
  uint64_t inode_count() const { return inode_count_; }

  // A new inode under `name`; the type is in `mode`.
  int make(Inode* parent, std::string_view name, mode_t mode, uid_t uid, gid_t gid, dev_t device,
           Inode** made);
  int link(Inode* inode, Inode* parent, std::string_view name);
  int unlink(Inode* parent, std::string_view name);
  int rmdir(Inode* parent, std::string_view name);
  int rename(Inode* from, std::string_view from_name, Inode* to, std::string_view to_name,
             unsigned flags);
  void forget(Inode* inode, uint64_t lookups);

 private:
  void drop_name(Inode* parent, std::string_view name, Inode* inode);
  void free_if_unused(Inode* inode);
  void free_below(Inode* inode);

  Inode* root_;
  uint64_t next_ino_ = 1;
  uint64_t inode_count_ = 0;
};

timespec coarse_now();

}  // namespace graftfs::null_fs
