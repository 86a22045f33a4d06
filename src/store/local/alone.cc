#include "store/local/alone.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <mutex>
#include <set>

#include "store/local/volume_file.h"

namespace graftfs::local {
namespace {

std::mutex held_mutex;
std::set<std::pair<uint64_t, uint64_t>> held;  // lock files, by device and inode

}  // namespace

Alone::Identity Alone::identity_of(const Fd& lock_file) {
  struct stat st = {};
  if (::fstat(lock_file.get(), &st) != 0) return {};
  return {st.st_dev, st.st_ino};
}

Alone::Alone(Fd lock) : lock_(std::move(lock)) {
  std::lock_guard guard(held_mutex);
  held.insert(identity_of(lock_));
}

Alone::~Alone() {
  std::lock_guard guard(held_mutex);
  held.erase(identity_of(lock_));
}

bool Alone::holds(const Fd& lock_file) {
  std::lock_guard guard(held_mutex);
  return held.contains(identity_of(lock_file));
}

Result<std::unique_ptr<Alone>> Alone::take(const std::string& volume) {
  TRY(read_volume_file(volume));
  const std::string name = volume + "/lock";
  Fd lock(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return os_fail(errno, "open", name);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0)
    return std::unique_ptr<Alone>(new Alone(std::move(lock)));
  if (errno != EWOULDBLOCK) return os_fail(errno, "lock", name);
  return fail(EBUSY, volume + " is in use by another process; wait until it is done");
}

}  // namespace graftfs::local
