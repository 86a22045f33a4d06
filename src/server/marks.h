#pragma once
// What operations on several authorities have marked as busy.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace graftfs {

// A name in a directory; an inode or a directory itself, where the name is "".
struct Mark {
  Ino ino;
  std::string name;
  friend auto operator<=>(const Mark&, const Mark&) = default;
};

// Owned by TwoParty, in memory only: after a start it is made again from what the rank's state
// says. Operations are numbered; each mark belongs to one.
class Marks {
 public:
  // All of them, or, where one is somebody else's, none.
  bool take(uint64_t op, const std::vector<Mark>& marks);
  // True: there were any.
  bool release(uint64_t op);
  // Whose mark it is, other than `self`'s.
  std::optional<uint64_t> find(Ino ino, std::string_view name, uint64_t self) const;
  // Whose marks there are on names of the directory.
  template <class F>
  void for_each_name(Ino dir, F&& f) const {
    for (auto it = marks_.upper_bound(Mark{dir, {}}); it != marks_.end() && it->first.ino == dir;
         ++it)
      f(it->second);
  }
  bool empty() const { return marks_.empty(); }
  template <class F>
  bool any_ino(F&& f) const {
    for (const auto& [mark, op] : marks_)
      if (f(mark.ino)) return true;
    return false;
  }

 private:
  std::map<Mark, uint64_t> marks_;
};

}  // namespace graftfs
