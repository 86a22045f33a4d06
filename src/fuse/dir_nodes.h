#pragma once
// Under which node numbers the kernel of a shared mount knows directories.

#include <absl/container/flat_hash_map.h>

#include <cstdint>

#include "base/ids.h"
#include "types/entry.h"
#include "types/ino_bits.h"

namespace graftfs::fuse {

// Of which node, by which name. Node 0: unknown.
struct NodeName {
  uint64_t parent = 0;
  NameHash name = 0;
  friend bool operator==(const NodeName&, const NodeName&) = default;
  template <class H>
  friend H AbslHashValue(H h, const NodeName& n) {
    return H::combine(std::move(h), n.parent, n.name);
  }
};

inline Ino ino_of_node(uint64_t node) { return Ino{node & ((uint64_t{1} << kInoBits) - 1)}; }

// The kernel has one dentry for the inode of a directory. Where another client has moved it, the
// kernel's lookup of the new name has to move that dentry, and for this it can only try to get its
// locks, of which a rename between two directories has one already: its caller is answered ESTALE
// (d_splice_alias()). So a directory that turns up at another name gets another node number, and is
// another inode for the kernel, with a dentry of its own. The number's upper bits count that,
// the lower ones are the ino: a node that the kernel still has in use, or that somebody holds a
// file handle of, keeps its meaning.
//
// Follows the kernel's dentries, not the tree. Owned by the mount's State, on its thread; a
// directory is in here as long as the kernel knows any of its nodes.
class DirNodes {
 public:
  // The node of a directory that is found, or made, at `at`.
  uint64_t found(Ino ino, NodeName at);
  // The kernel asks for this very node, by a handle.
  void asked_for(uint64_t node);
  // The kernel has moved what it had at `from`, and, in an exchange, what it had at `to`.
  void moved(NodeName from, NodeName to, bool exchange);
  // The kernel knows no node of it any more.
  void forget(Ino ino);
  size_t size() const { return dirs_.size(); }

 private:
  struct Dir {
    uint16_t count = 0;
    NodeName at;
  };
  void put(Ino ino, Dir& dir, NodeName at);
  void unput(Ino ino, const Dir& dir);

  absl::flat_hash_map<Ino, Dir> dirs_;
  absl::flat_hash_map<NodeName, Ino> at_;
};

}  // namespace graftfs::fuse
