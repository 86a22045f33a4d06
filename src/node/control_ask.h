#pragma once
// The asking side of Controls (control.h): one question on a connection of its own.

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "base/task.h"
#include "net/net.h"

namespace graftfs::node {

// Makes a connection with the role `control`.
using DialControlFn = std::function<void(net::ConnectFn)>;

// The answer, or why there is none: the rank's own words, EHOSTDOWN where it cannot be reached or
// goes away, ETIMEDOUT after `limit`; what it has begun by then goes on. Runs on the executor;
// destroying the task gives up. Nothing survives a crash of either side.
Task<Result<nlohmann::json>> ask_control(Executor& executor, RankId rank, DialControlFn dial,
                                         nlohmann::json request, Nanos limit);

}  // namespace graftfs::node
