#include "base/result.h"

#include <cstring>

namespace graftfs {

std::string describe(const Error& error) {
  return error.message.empty() ? std::string(std::strerror(error.code)) : error.message;
}

}  // namespace graftfs
