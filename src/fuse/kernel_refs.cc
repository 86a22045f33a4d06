#include "fuse/kernel_refs.h"

#include <algorithm>

namespace graftfs::fuse {

bool KernelRefs::forget(Ino ino, uint64_t count) {
  Refs r = refs_.get(ino);
  if (!r.count) return false;
  r.count -= std::min<uint64_t>(count, r.count);
  refs_.set(ino, r.count ? r : Refs{});
  return !r.count && r.orphan;
}

bool KernelRefs::orphaned(Ino ino) {
  Refs r = refs_.get(ino);
  if (!r.count) return true;
  r.orphan = 1;
  refs_.set(ino, r);
  return false;
}

bool KernelRefs::privileged(Ino ino) const { return refs_.get(ino).privileged; }

void KernelRefs::set_privileged(Ino ino, bool value) {
  Refs r = refs_.get(ino);
  if (!r.count) return;
  r.privileged = value;
  refs_.set(ino, r);
}

}  // namespace graftfs::fuse
