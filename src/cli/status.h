#pragma once
// What a running daemon tells of itself.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/settings.h"
#include "server/rank.h"
#include "store/volume.h"

namespace graftfs::cli {

nlohmann::json describe_rank(const Rank& rank, const Volume& volume, const std::string& mountpoint,
                             const Settings& settings, Nanos uptime, Nanos start_took);

}  // namespace graftfs::cli
