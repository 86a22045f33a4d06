#pragma once
// Making an empty volume.

#include <string>

#include "base/result.h"
#include "cli/setting_flags.h"

namespace graftfs::cli {

// `force`: empties a volume that is there and that nobody uses. A crash in the middle leaves
// something that is not a volume, or one without a root, which the first mount completes.
Result<void> format_volume(const std::string& volume, const SettingFlags& flags, bool force);

}  // namespace graftfs::cli
