#include "fuse/kernel_refs.h"

#include <algorithm>

namespace graftfs::fuse {

bool KernelRefs::forget(Ino ino, uint64_t count) {
  auto at = refs_.find(ino);
  if (at == refs_.end()) return false;
  Refs& r = at->second;
  r.count -= std::min<uint64_t>(count, r.count);
  if (r.count) return false;
  bool release = r.orphan;
  refs_.erase(at);
  return release;
}

bool KernelRefs::orphaned(Ino ino) {
  auto at = refs_.find(ino);
  if (at == refs_.end()) return true;
  at->second.orphan = 1;
  return false;
}

bool KernelRefs::privileged(Ino ino) const {
  auto at = refs_.find(ino);
  return at != refs_.end() && at->second.privileged;
}

void KernelRefs::set_privileged(Ino ino, bool value) {
  auto at = refs_.find(ino);
  if (at != refs_.end()) at->second.privileged = value;
}

}  // namespace graftfs::fuse
