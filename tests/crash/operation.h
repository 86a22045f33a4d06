#pragma once
// The operations that the crash enumerator puts in sequence.

#include <cstdint>
#include <string>
#include <vector>

namespace graftfs::crash {

enum class OpKind : uint8_t {
  create,
  mkdir,
  symlink,
  mkfifo,
  link,
  unlink,
  rmdir,
  rename,
  exchange,
  rename_new,
  write,
  append,
  append_sync,
  truncate,
  allocate,
  allocate_keep,
  punch,
  zero,
  copy,
  setxattr,
  removexattr,
  chmod,
  chown,
  utimens,
};

// Paths are relative to the directory of the sequence.
struct Operation {
  OpKind kind;
  std::string path;
  std::string to;  // rename, link, copy: the other path; symlink: the target; xattr: its name
  uint64_t offset = 0, length = 0;  // truncate: length is the new size
  uint32_t number = 0;              // mode, owner
};

// Every kind, in every shape that the prepared tree offers.
const std::vector<Operation>& all_operations();
std::string describe(const Operation& op);

// The prepared tree that every sequence starts from: makes it in the empty directory `dir`.
// 0 or an errno.
int prepare(const std::string& dir);

// Carries `op` out below `dir` by system calls. 0 or an errno.
int carry_out(const std::string& dir, const Operation& op);

// The bytes that a write of `length` at `offset` writes; differ by place and by writer.
std::string bytes_for(uint64_t seed, uint64_t offset, uint64_t length);
uint64_t writer_of(const Operation& op);

// What stands in the prepared tree.
inline constexpr uint64_t kF1Size = 6000, kF2Size = 100, kBigSize = 16384;
inline constexpr int64_t kUtimensSeconds = 1234567890, kUtimensNanos = 987654321;
inline constexpr uint32_t kOtherUid = 1234, kOtherGid = 4321;

}  // namespace graftfs::crash
