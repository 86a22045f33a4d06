#pragma once
// A sparse file in memory that knows, sector by sector, what is durable and what is only written.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"

namespace graftfs {

inline constexpr uint64_t kSectorSize = 512;

// Owned by a MemoryDisk. Every change carries a sequence number that only grows; synced(seq)
// makes everything up to it durable. Between two syncs each sector keeps the versions it had:
// a power cut leaves any one of them, each sector for itself, which is what a disk with a
// volatile cache and a kernel that writes back when it likes can leave. Copyable, so that a test
// can crash the same state in several ways.
class SectorFile {
 public:
  void write(uint64_t offset, std::string_view bytes, uint64_t seq);
  // The disk lies: all of it is to be read, and of some of its sectors (all, without `random`)
  // nothing ever reaches the disk.
  void write_lost(uint64_t offset, std::string_view bytes, uint64_t seq, Random* random);
  // A torn write: each sector that is touched is written or not.
  void write_torn(uint64_t offset, std::string_view bytes, uint64_t seq, Random& random);
  // The first of its sectors only, any number of them.
  void write_start(uint64_t offset, std::string_view bytes, uint64_t seq, Random& random);
  void read(uint64_t offset, char* out, uint64_t length) const;
  // Bytes from `size` on read as zeros; whole sectors are given back.
  void truncate(uint64_t size, uint64_t seq);
  // The range reads as zeros; whole sectors are given back, or kept if `keep`.
  void zero(uint64_t offset, uint64_t length, bool keep, uint64_t seq);
  // Holes in the range become zeros that take space.
  void allocate(uint64_t offset, uint64_t length, uint64_t seq);

  // The first offset >= `offset` that is data (UINT64_MAX: none), or in a hole.
  uint64_t next_data(uint64_t offset) const;
  uint64_t next_hole(uint64_t offset) const;
  uint64_t sectors() const { return sectors_; }
  // Behind the last sector that is not a hole.
  uint64_t end() const;
  // How many sectors a write of this range would take in addition.
  uint64_t missing(uint64_t offset, uint64_t length) const;

  bool unsynced() const { return !dirty_.empty(); }
  void synced(uint64_t up_to);
  // The kernel could not write back and says so once: what was unsynced up to `up_to` will never
  // be durable. Some of it is still to be read (page cache), some is gone already.
  void sync_failed(uint64_t up_to, Random* random);
  void power_cut(Random& random);
  // Flips one bit at rest: of the durable version and of every later one. False where nothing
  // is stored.
  bool flip_bit(uint64_t bit);

 private:
  using Bytes = std::optional<std::string>;  // nullopt: a hole
  struct Version {
    uint64_t seq = 0;
    Bytes bytes;
  };
  struct Sector {
    std::vector<Version> versions;  // [0] is durable, the last one is what reads see
    bool lost = false;              // a failed sync covered it: only [0] survives a power cut
    bool lied = false;              // the same, and no sync will say so
  };

  Bytes& change(uint64_t sector, uint64_t seq);
  const Bytes* find(uint64_t sector) const;
  void set_current(Sector& sector, uint64_t index, size_t version);
  void erase_if_empty(uint64_t index);
  template <class Choose>
  void write_sectors(uint64_t offset, std::string_view bytes, uint64_t seq, Choose choose);

  std::map<uint64_t, Sector> map_;
  std::set<uint64_t> dirty_;  // sectors with more than one version
  std::set<uint64_t> lied_;   // the same, and nobody waits for a sync of them
  uint64_t sectors_ = 0;      // whose current version is not a hole
};

}  // namespace graftfs
