#pragma once
// One file under random reads, writes, mappings, cuts, holes and copies, against its bytes in
// memory.

#include <cstdint>
#include <string>

namespace graftfs::mounttest {

// Empty where the file always held what it should; else the calls up to the first difference.
std::string check_file(const std::string& path, uint64_t seed, int steps);

}  // namespace graftfs::mounttest
