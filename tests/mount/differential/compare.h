#pragma once
// The same calls on two file systems.

#include <cstdint>
#include <string>
#include <vector>

#include "differential/caller.h"

namespace graftfs::mounttest {

// Runs the sequence of `seed` in both directories. Empty where nothing is different; else the
// shortest sequence found that shows the first difference, and both texts of its last call.
std::string compare(const std::string& subject, const std::string& reference, uint64_t seed,
                    size_t steps);

// The calls of a sequence and what came of each.
std::string transcript(const std::string& dir, uint64_t seed, size_t steps);

// A file system to compare with: a small ext4 in an image of its own, which is the same on every
// machine. Empty dir(), and why(), where it cannot be mounted.
class Reference {
 public:
  Reference();
  ~Reference();
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;
  const std::string& dir() const { return dir_; }
  const std::string& why() const { return why_; }

 private:
  std::string root_, dir_, why_;
};

}  // namespace graftfs::mounttest
