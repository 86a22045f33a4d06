#include "store/local/space.h"

#include <sys/statvfs.h>

#include <algorithm>

#include "base/fault.h"

namespace graftfs::local {
namespace {

constexpr uint64_t kLeastReserve = 16 << 20, kMostReserve = 256 << 20;
constexpr uint64_t kMostGranted = 16 << 20;

}  // namespace

void Space::open(int fd) {
  fd_ = fd;
  struct statvfs st;
  if (::fstatvfs(fd, &st) != 0) return;
  uint64_t total = st.f_blocks * st.f_frsize;
  reserve_ = std::min(std::clamp(total / 32, kLeastReserve, kMostReserve), total / 8);
}

uint64_t Space::free() const {
  struct statvfs st;
  if (::fstatvfs(fd_, &st) != 0) return UINT64_MAX / 2;  // the call that needs it will say why
  return st.f_bavail * st.f_frsize;
}

bool Space::has(uint64_t bytes, uint64_t kept) const { return free() >= kept + bytes; }

bool Space::has_for_data(uint64_t bytes) {
  auto wanted = static_cast<int64_t>(bytes);
  if (granted_.fetch_sub(wanted, std::memory_order_relaxed) >= wanted) [[likely]]
    return true;
  uint64_t now = free();
  if (now < reserve_ + bytes) {
    MARK("store.local.data.reserve_reached");
    granted_ = 0;
    return false;
  }
  // A part of what there is, since others use the disk as well.
  granted_ = static_cast<int64_t>(std::min(kMostGranted, (now - reserve_ - bytes) / 8));
  return true;
}

}  // namespace graftfs::local
