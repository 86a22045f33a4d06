#pragma once
// A request, for people.

#include <string>

#include "types/request.h"

namespace graftfs::sim {

std::string describe_request(const Request& request);

}  // namespace graftfs::sim
