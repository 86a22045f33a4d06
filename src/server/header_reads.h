#pragma once
// Which headers that were read may be old by the time they are here.

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "base/ids.h"

namespace graftfs {

// Of a directory that is not cached nothing can be pinned while its header is read. It may come,
// be changed, be written back and be evicted before the answer arrives, which then is older than
// what the store has: so whoever reads asks here whether it was committed meanwhile. Owned by the
// rank.
class HeaderReads {
 public:
  // From before the first read until what was read is in the cache.
  class Reader {
   public:
    explicit Reader(HeaderReads& reads)
        : reads_(reads), begun_(reads.begun_.insert(reads.commits_)) {}
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() {
      reads_.begun_.erase(begun_);
      reads_.forget();
    }
    uint64_t now() const { return reads_.commits_; }
    bool is_old(Ino dir, uint64_t read_at) const {
      auto it = reads_.committed_.find(dir);
      return it != reads_.committed_.end() && it->second > read_at;
    }

   private:
    HeaderReads& reads_;
    std::multiset<uint64_t>::iterator begun_;
  };
  void committed(Ino dir) {
    ++commits_;
    if (begun_.empty()) return;
    committed_[dir] = commits_;
    order_.push_back({commits_, dir});
  }

 private:
  // What no reader asks for any more.
  void forget() {
    while (!order_.empty() && (begun_.empty() || order_.front().first <= *begun_.begin())) {
      auto [number, dir] = order_.front();
      order_.pop_front();
      auto it = committed_.find(dir);
      if (it != committed_.end() && it->second == number) committed_.erase(it);
    }
  }

  uint64_t commits_ = 0;
  std::multiset<uint64_t> begun_;      // of each reader, when it came
  std::map<Ino, uint64_t> committed_;  // since the first of them did
  std::deque<std::pair<uint64_t, Ino>> order_;
};

}  // namespace graftfs
