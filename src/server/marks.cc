#include "server/marks.h"

namespace graftfs {

bool Marks::take(uint64_t op, const std::vector<Mark>& marks) {
  for (const Mark& mark : marks)
    if (find(mark.ino, mark.name, op)) return false;
  for (const Mark& mark : marks) marks_[mark] = op;
  return true;
}

bool Marks::release(uint64_t op) {
  return std::erase_if(marks_, [op](const auto& item) { return item.second == op; }) > 0;
}

std::optional<uint64_t> Marks::find(Ino ino, std::string_view name, uint64_t self) const {
  auto it = marks_.find(Mark{ino, std::string(name)});
  if (it == marks_.end() || it->second == self) return std::nullopt;
  return it->second;
}

}  // namespace graftfs
