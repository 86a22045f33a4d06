#pragma once
// Small helpers of the crash tests; all return 0 or an errno.

#include <cstdint>
#include <string>
#include <string_view>

namespace graftfs::crash {

// Writes all of it at `offset`; what was written before an error stays.
int write_at(const std::string& path, int flags, uint64_t offset, std::string_view bytes);
int read_all(const std::string& path, std::string& bytes);
int sync_path(const std::string& path);
// The shutdown ioctl of XFS, ext4 and GraftFS on an open directory.
int shut_down(int fd, uint32_t flags);
bool is_gone(int err);  // what operations fail with when the file system was killed
uint64_t checksum(std::string_view bytes);
// A number from the environment, for longer runs.
uint64_t setting(const char* name, uint64_t usual);

}  // namespace graftfs::crash
