#pragma once
// Random sequences of system calls, from a seed.

#include <random>

#include "differential/caller.h"

namespace graftfs::mounttest {

// Draws what calls work on. The same seed gives the same sequence on every machine.
class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t n) { return random_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class T>
  T of(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }
  // Of few names, so that calls meet each other; now and then an odd one.
  std::string path() { return path(Likely::anything); }
  std::string dir_path() { return path(Likely::directory); }
  std::string file_path() { return path(Likely::file); }
  int slot() { return static_cast<int>(below(kSlots)); }
  mode_t mode();
  uint64_t offset();
  uint64_t length();
  std::string bytes();
  uid_t uid();
  gid_t gid();
  Identity identity();

 private:
  enum class Likely : uint8_t { anything, directory, file };
  std::string path(Likely last);
  std::string name(Likely what);
  std::mt19937_64 random_;
};

// A path in a text; long ones are abbreviated.
std::string q(const std::string& path);

// Each draws one call of its group.
Step draw_name_call(Draw& d);
Step draw_attribute_call(Draw& d);
Step draw_data_call(Draw& d);

std::vector<Step> draw_sequence(uint64_t seed, size_t steps);

}  // namespace graftfs::mounttest
