#include "types/locks.h"

#include <algorithm>

namespace graftfs {
namespace {

bool overlap(const LockRange& a, const LockRange& b) {
  return a.start <= b.end && b.start <= a.end;
}

bool is_same_owner(const LockTable::Held& held, SessionId session, const LockRange& range) {
  return held.session == session && held.range.owner == range.owner &&
         held.range.kind == range.kind;
}

bool stands_against(const LockTable::Held& held, SessionId session, const LockRange& want) {
  return held.range.kind == want.kind && !is_same_owner(held, session, want) &&
         (held.range.exclusive || want.exclusive) && overlap(held.range, want);
}

}  // namespace

const LockTable::Held* LockTable::conflict(SessionId session, const LockRange& want) const {
  auto at = held_.find(want.ino);
  if (at == held_.end()) return nullptr;
  for (const Held& held : at->second)
    if (stands_against(held, session, want)) return &held;
  return nullptr;
}

std::vector<LockTable::Held> LockTable::conflicts(SessionId session, const LockRange& want) const {
  std::vector<Held> out;
  for (const Held& held : on(want.ino))
    if (stands_against(held, session, want)) out.push_back(held);
  return out;
}

void LockTable::set(SessionId session, const LockRange& range) {
  unset(session, range);
  auto& all = held_[range.ino];
  LockRange merged = range;
  // With what it touches of the same owner and the same strength it becomes one.
  std::erase_if(all, [&](const Held& held) {
    const LockRange& r = held.range;
    if (!is_same_owner(held, session, range) || r.exclusive != range.exclusive) return false;
    const bool before = r.end != UINT64_MAX && r.end + 1 == merged.start;
    const bool behind = merged.end != UINT64_MAX && merged.end + 1 == r.start;
    if (!before && !behind) return false;
    merged.start = std::min(merged.start, r.start);
    merged.end = std::max(merged.end, r.end);
    return true;
  });
  all.push_back({session, merged});
}

void LockTable::unset(SessionId session, const LockRange& range) {
  auto at = held_.find(range.ino);
  if (at == held_.end()) return;
  std::vector<Held> left;
  for (const Held& held : at->second) {
    if (!is_same_owner(held, session, range) || !overlap(held.range, range)) {
      left.push_back(held);
      continue;
    }
    if (held.range.start < range.start) {
      left.push_back(held);
      left.back().range.end = range.start - 1;
    }
    if (held.range.end > range.end) {
      left.push_back(held);
      left.back().range.start = range.end + 1;
    }
  }
  if (left.empty())
    held_.erase(at);
  else
    at->second = std::move(left);
}

bool LockTable::has(SessionId session, Ino ino, uint64_t owner, LockKind kind) const {
  auto at = held_.find(ino);
  if (at == held_.end()) return false;
  const LockRange whole{.ino = ino, .owner = owner, .kind = kind};
  return std::any_of(at->second.begin(), at->second.end(),
                     [&](const Held& held) { return is_same_owner(held, session, whole); });
}

std::vector<LockRange> LockTable::of(SessionId session) const {
  std::vector<LockRange> out;
  for (const auto& [ino, all] : held_)
    for (const Held& held : all)
      if (held.session == session) out.push_back(held.range);
  return out;
}

std::vector<LockTable::Held> LockTable::on(Ino ino) const {
  auto at = held_.find(ino);
  return at == held_.end() ? std::vector<Held>{} : at->second;
}

std::vector<Ino> LockTable::inos() const {
  std::vector<Ino> out;
  for (const auto& [ino, all] : held_) out.push_back(ino);
  return out;
}

std::vector<Ino> LockTable::drop(SessionId session) {
  std::vector<Ino> out;
  for (auto at = held_.begin(); at != held_.end();) {
    if (std::erase_if(at->second, [&](const Held& held) { return held.session == session; }))
      out.push_back(at->first);
    at = at->second.empty() ? held_.erase(at) : std::next(at);
  }
  return out;
}

}  // namespace graftfs
