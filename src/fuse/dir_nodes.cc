#include "fuse/dir_nodes.h"

namespace graftfs::fuse {

uint64_t DirNodes::found(Ino ino, NodeName at) {
  if (ino == kRootIno) return ino.v;
  Dir& dir = dirs_[ino];
  if (at.parent && dir.at != at) {
    if (dir.at.parent) ++dir.count;
    put(ino, dir, at);
  }
  return ino.v | uint64_t{dir.count} << kInoBits;
}

void DirNodes::asked_for(uint64_t node) {
  const Ino ino = ino_of_node(node);
  const auto count = static_cast<uint16_t>(node >> kInoBits);
  if (ino == kRootIno) return;
  auto it = dirs_.find(ino);
  if (it != dirs_.end() && it->second.count == count) return;
  Dir& dir = dirs_[ino];
  unput(ino, dir);
  dir = {count, {}};
}

void DirNodes::moved(NodeName from, NodeName to, bool exchange) {
  auto at_from = at_.find(from), at_to = at_.find(to);
  const Ino moved = at_from == at_.end() ? Ino{} : at_from->second;
  const Ino back = at_to == at_.end() || !exchange ? Ino{} : at_to->second;
  if (moved) unput(moved, dirs_.at(moved));
  if (back) unput(back, dirs_.at(back));
  if (moved) put(moved, dirs_.at(moved), to);
  if (back) put(back, dirs_.at(back), from);
}

void DirNodes::forget(Ino ino) {
  auto it = dirs_.find(ino);
  if (it == dirs_.end()) return;
  unput(ino, it->second);
  dirs_.erase(it);
}

void DirNodes::put(Ino ino, Dir& dir, NodeName at) {
  unput(ino, dir);
  dir.at = at;
  at_[at] = ino;
}

// Another directory may be at that name by now.
void DirNodes::unput(Ino ino, const Dir& dir) {
  auto it = at_.find(dir.at);
  if (it != at_.end() && it->second == ino) at_.erase(it);
}

}  // namespace graftfs::fuse
