#include "fuse/groups.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

namespace graftfs::fuse {

bool ProcGroups::load(int32_t pid) const {
  if (pid <= 0) return false;
  if (pid_ != pid) {
    groups_.clear();
    int fd = ::open(fmt::format("/proc/{}/status", pid).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;  // the caller is gone: it has no groups
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = ::read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, n);
    ::close(fd);
    size_t at = text.find("\nGroups:");
    if (at == std::string::npos) return false;
    const char* p = text.c_str() + at + 8;
    for (char* end;; p = end) {
      while (*p == ' ' || *p == '\t') ++p;
      if (*p < '0' || *p > '9') break;
      groups_.push_back(static_cast<uint32_t>(std::strtoul(p, &end, 10)));
    }
    pid_ = pid;
  }
  return true;
}

bool ProcGroups::is_member(int32_t pid, uint32_t gid) const {
  return load(pid) && std::find(groups_.begin(), groups_.end(), gid) != groups_.end();
}

std::vector<uint32_t> ProcGroups::groups_of(int32_t pid) const {
  return load(pid) ? groups_ : std::vector<uint32_t>{};
}

}  // namespace graftfs::fuse
