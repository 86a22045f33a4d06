#pragma once
// Positions in a directory listing.

#include <cstdint>

#include "types/entry.h"

namespace graftfs::fuse {

// A listing position is one number, and the kernel may stop between any two entries and come
// back with the number of the last one it passed on. Names of the same hash need different
// numbers, then, though the rank knows only the hash. The rule: an entry's cookie is its hash,
// or one more than the cookie of the entry before it where that is not smaller. To go on behind
// cookie c, the listing starts kReach below c, where the numbering is sure to have fallen back
// to the hashes, counts forward, and skips what is not above c. Hashes that lie close to each
// other only by chance practically do not exist; a directory that was made to have more than
// kReach of them in a row is listed with entries missing.
inline constexpr uint64_t kDot = 1;
inline constexpr uint64_t kDotDot = 2;
inline constexpr uint64_t kReach = 512;

class CookieCounter {
 public:
  // The position in the rank's terms behind which entries are needed to go on behind `cookie`.
  static uint64_t start(uint64_t cookie) {
    return cookie < kFirstHash + kReach ? 0 : cookie - kReach;
  }
  uint64_t next(NameHash hash) { return last_ = hash > last_ ? hash : last_ + 1; }

 private:
  uint64_t last_ = kDotDot;
};

// How many entries to ask the rank for, to fill `bytes` of the kernel's buffer.
uint32_t entries_for(size_t bytes, bool plus);

}  // namespace graftfs::fuse
