#pragma once

#include <cstdint>
#include <filesystem>

#include "harness/benchmark.h"

namespace graftfs::bench {

// A tree of real files as one archive: /usr/include whole, then the directories
// of /usr/share in the order of their names until there are enough files, with
// their links, modes and times.
struct RealTree {
  std::filesystem::path archive;
  uint64_t files = 0;  // regular ones
  uint64_t directories = 0;
  uint64_t links = 0;  // symbolic ones
  uint64_t bytes = 0;  // in regular files
};

// Makes the archive in `directory`. Throws when the machine has fewer than
// `least_files` files in the two places.
RealTree make_real_tree(const std::filesystem::path& directory, uint64_t least_files);

}  // namespace graftfs::bench
