#include "fuse/open_files.h"

#include <algorithm>

namespace graftfs::fuse {

uint64_t OpenFiles::open(Ino ino) {
  open_[ino].push_back(++last_);
  return last_;
}

void OpenFiles::close(Ino ino, uint64_t handle) {
  void_.erase(handle);
  auto at = open_.find(ino);
  if (at == open_.end()) return;
  std::vector<uint64_t>& handles = at->second;
  auto found = std::find(handles.begin(), handles.end(), handle);
  if (found != handles.end()) handles.erase(found);
  if (handles.empty()) open_.erase(at);
}

void OpenFiles::lost_lock(Ino ino) {
  auto at = open_.find(ino);
  if (at != open_.end()) void_.insert(at->second.begin(), at->second.end());
}

}  // namespace graftfs::fuse
