#pragma once
// Requests and messages, for people.

#include <string>

#include "types/wire.h"

namespace graftfs::sim {

std::string describe_request(const Request& request);
// "" for what clients say and hear, which is described as the requests.
std::string describe_message(const Message& message);

}  // namespace graftfs::sim
