#pragma once
// Who may write a rank's journal (docs/protocols/cluster.md).

#include <string>
#include <string_view>

#include "store/store.h"

namespace graftfs {

// The value of `cluster/fence-N`. Epoch 0: nobody ever owned the journal.
struct FenceRecord {
  Epoch epoch;
  uint64_t node = 0;
};

std::string fence_key(RankId rank);
std::string encode_fence(const FenceRecord& fence);
// EUCLEAN with a sentence. Empty bytes: epoch 0.
Result<FenceRecord> decode_fence(std::string_view bytes, RankId rank);

// Waits until the lease of an owner that is not known to be dead is over.
Task<Result<void>> wait_for_lease(Executor& executor, StateStore& state, OwnOptions options);

}  // namespace graftfs
