#pragma once
// Which bytes of an object are held.

#include <algorithm>
#include <cstdint>
#include <map>

namespace graftfs::rados {

// Ranges that do not touch each other.
class Extents {
 public:
  void add(uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    auto it = first_reaching(begin);
    while (it != ranges_.end() && it->first <= end) {
      begin = std::min(begin, it->first);
      end = std::max(end, it->second);
      it = ranges_.erase(it);
    }
    ranges_[begin] = end;
  }
  void remove(uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    auto it = first_reaching(begin);
    while (it != ranges_.end() && it->first < end) {
      auto [from, to] = *it;
      it = ranges_.erase(it);
      if (from < begin) ranges_[from] = begin;
      if (to > end) ranges_[end] = to;
    }
  }
  uint64_t end() const { return ranges_.empty() ? 0 : ranges_.rbegin()->second; }
  bool empty() const { return ranges_.empty(); }
  // The first byte that is held, from `at`; UINT64_MAX: none.
  uint64_t next_data(uint64_t at) const {
    for (auto it = ranges_.begin(); it != ranges_.end(); ++it)
      if (it->second > at) return std::max(at, it->first);
    return UINT64_MAX;
  }
  // The first that is not.
  uint64_t next_hole(uint64_t at) const {
    for (auto [from, to] : ranges_)
      if (from <= at && at < to) return to;
    return at;
  }
  // What is held, in units of `unit` bytes.
  uint64_t units(uint64_t unit) const {
    uint64_t count = 0, counted = 0;  // units below `counted` are
    for (auto [from, to] : ranges_) {
      uint64_t first = std::max(counted, from / unit), last = (to + unit - 1) / unit;
      if (last > first) count += last - first;
      counted = std::max(counted, last);
    }
    return count;
  }

 private:
  std::map<uint64_t, uint64_t>::iterator first_reaching(uint64_t begin) {
    auto it = ranges_.upper_bound(begin);
    if (it != ranges_.begin() && std::prev(it)->second >= begin) --it;
    return it;
  }
  std::map<uint64_t, uint64_t> ranges_;  // begin -> end
};

}  // namespace graftfs::rados
