#pragma once
// Who may use the last free space of the disk.

#include <atomic>
#include <cstdint>

namespace graftfs::local {

// On a full disk the journal must go on (without it nothing can be removed, nor the volume be
// mounted), then the directories (without them the journal cannot be trimmed), and only then file
// data. So each leaves a part of the last space to those before it. Any thread.
class Space {
 public:
  // `fd`: the volume's directory; it outlives this.
  void open(int fd);

  // Kept free by file data; by large and by small commits of directories; by journal segments,
  // except the first after a start.
  uint64_t for_data() const { return reserve_; }
  uint64_t for_large_commits() const { return reserve_ / 2; }
  uint64_t for_small_commits() const { return reserve_ / 4; }
  uint64_t for_segments() const { return reserve_ / 8; }

  // Whether `bytes` more leave `kept` free.
  bool has(uint64_t bytes, uint64_t kept) const;
  // The same for file data, asking the disk only now and then.
  bool has_for_data(uint64_t bytes);

 private:
  uint64_t free() const;
  int fd_ = -1;
  uint64_t reserve_ = 0;
  std::atomic<int64_t> granted_{0};  // to file data, since the disk was asked
};

}  // namespace graftfs::local
