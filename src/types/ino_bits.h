#pragma once
// How long an ino is.

namespace graftfs {

// Inos stay below 2^48: a million new ones a second for nine years. A mount uses the bits above
// (src/fuse/dir_nodes.h).
inline constexpr int kInoBits = 48;

}  // namespace graftfs
