// Directories that are to be at a certain rank (extended attribute graftfs.pin): their authority
// moves them there, one after the other, and tries again until they are.
#include <charconv>

#include "base/fault.h"
#include "server/migrate.h"

namespace graftfs {
namespace {

constexpr Nanos kTryAgain = kSecond;

}  // namespace

std::optional<RankId> parse_pin(std::string_view text) {
  uint16_t rank = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (error != std::errc{} || end != text.data() + text.size() || RankId{rank} == kNobody)
    return std::nullopt;
  return RankId{rank};
}

std::optional<RankId> pin_of(const Inode& inode) {
  const auto& xattrs = inode.xattrs();
  auto pin = xattrs.find(kPinName);
  return pin == xattrs.end() ? std::nullopt : parse_pin(pin->second);
}

void Migrations::pinned(Ino dir) {
  if (!core_.peers() || stopping_) return;
  pins_.insert(dir);
  if (pinning_) return;
  pinning_ = true;
  core_.executor().post([this, alive = alive_] {
    if (*alive) next_pin();
  });
}

// Those of the cache: after a recovery, what was pinned and not moved before the crash.
void Migrations::find_pins() {
  if (!core_.peers()) return;
  std::vector<Ino> found;
  core_.cache().for_each_dir([&](const Dir& dir) {
    if (!dir.is_foreign() && dir.inode().extra && pin_of(dir.inode())) found.push_back(dir.ino());
  });
  for (Ino dir : found) pinned(dir);
}

void Migrations::next_pin() {
  while (!pins_.empty() && !stopping_) {
    const Ino ino = *pins_.begin();
    pins_.erase(pins_.begin());
    const Dir* dir = core_.cache().find_dir(ino);
    auto rank = dir && !dir->is_foreign() ? pin_of(dir->inode()) : std::nullopt;
    if (!rank || *rank == core_.id()) continue;
    MARK("migration.pin.moves");
    return start(ino, *rank, [this, alive = alive_, ino](Result<void> moved) {
      if (!*alive) return;
      const int err = moved ? 0 : moved.error().code;
      // Not the time for it; else it is elsewhere, or cannot be moved at all.
      if (err == EBUSY || err == ECANCELED || err == EHOSTDOWN)
        later(kTryAgain, [this, ino] { pinned(ino); });
      core_.executor().post([this, alive] {
        if (*alive) next_pin();
      });
    });
  }
  pinning_ = false;
}

}  // namespace graftfs
