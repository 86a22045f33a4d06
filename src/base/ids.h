#pragma once
// Strong types for the numbers that must not be mixed up.

#include <fmt/format.h>

#include <compare>
#include <cstdint>
#include <functional>

namespace graftfs {

// A number that only equals, orders and prints; arithmetic is explicit through `.v`.
template <class Tag, class Rep>
struct StrongId {
  Rep v = 0;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : v(value) {}
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  constexpr explicit operator bool() const { return v != 0; }
  constexpr StrongId next() const { return StrongId(v + 1); }
  template <class H>
  friend H AbslHashValue(H h, StrongId id) {
    return H::combine(std::move(h), id.v);
  }
};

using Ino = StrongId<struct InoTag, uint64_t>;          // 0: none
using Lsn = StrongId<struct LsnTag, uint64_t>;          // 0: before the first event
using Version = StrongId<struct VersionTag, uint64_t>;  // of a directory; 0: unknown
using SegmentId = StrongId<struct SegmentTag, uint64_t>;
using RankId = StrongId<struct RankTag, uint16_t>;
using Epoch = StrongId<struct EpochTag, uint32_t>;
using SessionId = StrongId<struct SessionTag, uint64_t>;  // 0: the rank itself

inline constexpr Ino kRootIno{1};
// Every rank has two hidden directories, whose inos follow from its number.
inline constexpr uint64_t kHiddenInoBase = 0x1000;
inline constexpr uint64_t kFirstFreeIno = 0x100000;
constexpr Ino linked_dir_ino(RankId rank) { return Ino{kHiddenInoBase + rank.v * 2u}; }
constexpr Ino orphans_dir_ino(RankId rank) { return Ino{kHiddenInoBase + rank.v * 2u + 1}; }
constexpr bool is_hidden_dir(Ino ino) {
  return ino.v >= kHiddenInoBase && ino.v < kHiddenInoBase + 2 * 65536;
}
// ~orphans of some rank; every other hidden one is a ~linked.
constexpr bool is_orphans_dir(Ino ino) {
  return is_hidden_dir(ino) && (ino.v - kHiddenInoBase) % 2 == 1;
}

}  // namespace graftfs

template <class Tag, class Rep>
struct fmt::formatter<graftfs::StrongId<Tag, Rep>> : fmt::formatter<Rep> {
  template <class Context>
  auto format(graftfs::StrongId<Tag, Rep> id, Context& context) const {
    return fmt::formatter<Rep>::format(id.v, context);
  }
};
template <class Tag, class Rep>
struct std::hash<graftfs::StrongId<Tag, Rep>> {
  size_t operator()(graftfs::StrongId<Tag, Rep> id) const { return std::hash<Rep>{}(id.v); }
};
