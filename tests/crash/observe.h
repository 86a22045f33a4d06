#pragma once
// What a real file system shows, and whether it is a state of the oracle.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "oracle.h"

namespace graftfs::crash {

struct Observed {
  std::string error;  // of the first call that failed; then nothing else counts
  uint64_t ino = 0;
  uint32_t mode = 0, uid = 0, gid = 0, links = 0;
  uint64_t size = 0;
  int64_t mtime = 0;
  std::string bytes, target;
  std::map<std::string, std::string> xattrs;
  std::map<std::string, Observed> children;
};

Observed observe(const std::string& path);

// Empty: `seen` is the state `expected`. Else what differs first. `loose`: bytes that may stand
// in files instead of those expected.
std::string difference(const Oracle& expected, const Observed& seen,
                       const std::vector<Patch>& loose);

}  // namespace graftfs::crash
