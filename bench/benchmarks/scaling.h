#pragma once
// What `scaling` measures, for those who compare with it.

#include "harness/benchmark.h"

namespace graftfs::bench {

inline constexpr size_t kScalingDepth = 512;  // requests under way at each rank

struct ScalingRate {
  double per_second = 0, busy_cores = 0;
};

// So many creates, at ranks in this process with a thread and a subtree each, by a client in each
// rank's thread.
ScalingRate creates_at_ranks(const Context& context, const std::string& label, size_t ranks,
                             size_t total);

}  // namespace graftfs::bench
