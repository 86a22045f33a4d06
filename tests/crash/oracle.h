#pragma once
// What POSIX says of the operations: a small tree in memory, without any file system.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "operation.h"

namespace graftfs::crash {

// Wall clock, in nanoseconds.
struct Interval {
  int64_t from = 0, to = 0;
};

struct OracleNode {
  uint32_t mode = 0;  // with the type
  uint32_t uid = 0, gid = 0;
  std::string bytes;   // of a file
  std::string target;  // of a symlink
  std::map<std::string, std::string> xattrs;
  std::map<std::string, int> children;  // of a directory: ids
  Interval mtime;                       // any time in it is right
};

// Bytes of a file that an operation changes in place. They may be on disk without the operation.
struct Patch {
  int node = 0;
  uint64_t offset = 0;
  std::string bytes;
};

struct Effect {
  int err = 0;
  std::vector<Patch> patches;
};

// A value: a copy is another state. Ids of nodes stay over copies and operations.
class Oracle {
 public:
  // The prepared tree, made within `when`, by this process's user.
  static Oracle prepared(Interval when);

  // Carries `op` out as if it ran within `when`. An operation that fails changes nothing.
  Effect apply(const Operation& op, Interval when);

  // The kernel may send a write(2) in several parts, each an operation for the file system: the
  // states, with this one before the write, of which the last part is missing.
  std::vector<Oracle> torn(const Operation& op, const Effect& effect, Interval when) const;

  const OracleNode& node(int id) const { return nodes_.at(id); }
  uint32_t links(int id) const;
  static constexpr int kRoot = 0;
  // The node at a path; -1: there is none.
  int find(const std::string& path) const;

 private:
  struct Place {
    int dir = -1;  // -1: err says why
    std::string name;
    int node = -1;
    int err = 0;
  };
  Place place(const std::string& path) const;
  int add(const Place& at, uint32_t mode, Interval when);
  int rename(const Operation& op, Interval when);
  void touch(int dir, Interval when) { nodes_[dir].mtime = when; }
  Effect change_bytes(const Operation& op, Interval when);

  std::map<int, OracleNode> nodes_;
  int next_ = 1;
};

}  // namespace graftfs::crash
