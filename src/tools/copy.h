#pragma once
// Copies a volume to another store, such that the copy is the same volume: inos, journals, state.
//
// It goes through the contract of store.h, in pieces, so memory does not grow with the volume. The
// target remembers how far it is (state `copy/progress`), and is no volume to anybody else until it
// is done (kCopyKey): a copy that was cut off goes on where it was, unless the source has been in
// use meanwhile.

#include <functional>
#include <string>

#include "store/store.h"

namespace graftfs::tools {

// State of a volume that is being made by a copy; nobody else uses it.
inline constexpr char kCopyKey[] = "copy/progress";
// ECANCELED, with a sentence, where the volume is such a one.
Task<Result<void>> check_not_copying(StateStore& state, std::string volume);

struct CopyReport {
  uint64_t dirs = 0, entries = 0, files = 0, data_bytes = 0, segments = 0;
  bool resumed = false;
};

struct CopyOptions {
  bool verify = true;  // read both again, and compare
  std::function<void(const CopyReport&)> progress;
};

// Both stores are on the caller's executor, and this caller's alone: every journal of the source is
// owned meanwhile (EBUSY where it cannot be), and all of the target. After an error the target is
// as far as it came. EUCLEAN where the copy is not what the source is.
Task<Result<CopyReport>> copy_volume(Store& from, Store& to, CopyOptions options);

}  // namespace graftfs::tools
