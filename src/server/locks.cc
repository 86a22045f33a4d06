#include "server/locks.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "server/leases.h"

namespace graftfs {

Outcome Locks::acquire(SessionId session, const LockArgs& args) {
  const LockRange& want = args.range;
  const Waiter waiter{session, want.ino, args.number};
  const bool waited = waiting_.erase(waiter) > 0;
  if (auto ended = ended_.extract(waiter); !ended.empty()) return stop(ended.mapped());
  if (!core_.state().sessions.contains(session)) return stop(EIO);  // it ended while this waited
  if (!table_.conflict(session, want)) {
    // A weaker one than before may let others in.
    const bool had = table_.has(session, want.ino, want.owner, want.kind);
    table_.set(session, want);
    KILL_POINT("lock.granted");
    if (had) wake(want.ino);
    return {};
  }
  if (want.kind == LockKind::flock && table_.has(session, want.ino, want.owner, want.kind)) {
    // As Linux has it: the old one is given back first, and may be lost.
    table_.unset(session, want);
    wake(want.ino);
  }
  if (args.op != LockOp::wait) {
    // Who asks again and again waits, too.
    core_.executor().post([this, alive = alive_, session, want] {
      if (*alive) evict_silent(session, want);
    });
    return stop(EAGAIN);
  }
  std::set<Owner> seen;
  if (want.kind == LockKind::posix && waits_for({session, want.owner}, session, want, seen)) {
    MARK("lock.deadlock");
    return stop(EDEADLK);
  }
  waiting_[waiter] = want;
  if (!waited && args.number != kUntimed) {
    // Whatever the client has asked since is kept there until this is answered.
    core_.executor().post_after(kLongest, [this, alive = alive_, waiter] {
      if (*alive) end(waiter, ETIMEDOUT);
    });
  }
  if (want.kind == LockKind::data) ask_back(session, want);
  watch();
  return std::unexpected(Stop{0, Need{Need::lock, want.ino, {}, 0}, {}, {}});
}

// Whether who stands against it waits, in the end, for `me`.
bool Locks::waits_for(const Owner& me, SessionId session, const LockRange& want,
                      std::set<Owner>& seen) const {
  for (const LockTable::Held& held : table_.conflicts(session, want)) {
    const Owner owner{held.session, held.range.owner};
    if (owner == me) return true;
    if (!seen.insert(owner).second) continue;
    for (const auto& [waiter, range] : waiting_)
      if (waiter.session == owner.first && range.owner == owner.second &&
          range.kind == LockKind::posix && waits_for(me, waiter.session, range, seen))
        return true;
  }
  return false;
}

void Locks::release(SessionId session, const LockRange& range) {
  table_.unset(session, range);
  if (auto claimed = claimed_.find(session); claimed != claimed_.end())
    std::erase(claimed->second, range);
  if (!waiting_.empty()) wake(range.ino);
}

void Locks::end(const Waiter& waiter, int err) {
  auto at = waiting_.find(waiter);
  if (at == waiting_.end()) return;  // it has it, or never came
  auto [ended, fresh] = ended_.emplace(waiter, err);
  if (err == EINTR) ended->second = err;
  wake(at->second.ino);
}

void Locks::wake(Ino ino) {
  core_.executor().post([this, alive = alive_, ino] {
    if (*alive) core_.wake(Need{Need::lock, ino, {}, 0});
  });
}

void Locks::forget(Ino ino) {
  table_.forget(ino);
  std::erase_if(waiting_, [&](const auto& waiting) {
    if (waiting.second.ino == ino) ended_.erase(waiting.first);
    return waiting.second.ino == ino;
  });
  wake(ino);
}

void Locks::session_gone(SessionId session) {
  claimed_.erase(session);
  for (Ino ino : table_.drop(session)) wake(ino);
  for (const auto& [waiter, range] : waiting_)
    if (waiter.session == session) wake(range.ino);
  std::erase_if(waiting_, [&](const auto& waiting) { return waiting.first.session == session; });
}

// -- the right to write ---------------------------------------------------------------------------

void Locks::ask_back(SessionId session, const LockRange& want) {
  SessionLines* lines = core_.leases().lines();
  if (!lines) return;
  for (const LockTable::Held& held : table_.conflicts(session, want))
    lines->send(held.session,
                msg::DataRecall{.order = core_.leases().next_order(), .ino = want.ino});
}

// -- holders that are not there any more ----------------------------------------------------------

// They are evicted as soon as somebody waits for them.
void Locks::watch() {
  SessionLines* lines = core_.leases().lines();
  if (!lines || std::exchange(watching_, true)) return;
  core_.executor().post_after(lines->lease() / 8, [this, alive = alive_] {
    if (!*alive) return;
    watching_ = false;
    const std::map<Waiter, LockRange> waiting = waiting_;
    for (const auto& [waiter, range] : waiting) evict_silent(waiter.session, range);
    if (!waiting_.empty()) watch();
  });
}

void Locks::evict_silent(SessionId session, const LockRange& want) {
  SessionLines* lines = core_.leases().lines();
  if (!lines) return;
  const Nanos patience = lines->lease() + lines->lease() / 4;
  for (const LockTable::Held& held : table_.conflicts(session, want)) {
    if (core_.executor().now() - lines->heard(held.session) < patience) continue;
    MARK("lock.evicted");
    lines->evict(held.session, want.kind == LockKind::data
                                   ? "others wait to write to a file that it may write to, and it "
                                     "is silent"
                                   : "others wait for a file that it has locked, and it is silent");
    session_gone(held.session);
  }
}

// -- sessions that come back ----------------------------------------------------------------------

void Locks::claim(SessionId session, std::vector<LockRange> locks) {
  std::vector<LockRange> known = table_.of(session);
  std::sort(known.begin(), known.end());
  std::sort(locks.begin(), locks.end());
  const auto is_in = [](const std::vector<LockRange>& all, const LockRange& lock) {
    return std::binary_search(all.begin(), all.end(), lock);
  };
  for (const LockRange& lock : known)
    if (!is_in(locks, lock)) release(session, lock);
  std::erase_if(locks, [&](const LockRange& lock) { return is_in(known, lock); });
  claimed_.erase(session);
  if (!locks.empty()) {
    claimed_[session] = locks;
    core_.tasks().spawn(claim_task(session, std::move(locks)));
  }
  // It may not have heard that others wait.
  for (const auto& [waiter, range] : waiting_)
    if (range.kind == LockKind::data) ask_back(waiter.session, range);
}

Task<void> Locks::claim_task(SessionId session, std::vector<LockRange> locks) {
  for (const LockRange& lock : locks) {
    auto place = co_await core_.find_inode(lock.ino);
    const bool ours = place && (place->what == Place::ours || place->what == Place::frozen);
    if (ours && !claim_one(session, lock)) co_return;
  }
}

void Locks::claim_made_again(SessionId session) {
  const auto claimed = claimed_.find(session);
  if (claimed == claimed_.end()) return;
  const std::vector<LockRange> locks = claimed->second;
  for (const LockRange& lock : locks) {
    if (!core_.was_made_again(lock.ino)) continue;
    MARK("lock.claimed_of_made_again");
    if (!claim_one(session, lock)) return;
  }
}

// Once; not where it was given back meanwhile. False: the session is over.
bool Locks::claim_one(SessionId session, const LockRange& lock) {
  const auto claimed = claimed_.find(session);
  if (claimed == claimed_.end() || !core_.state().sessions.contains(session)) return false;
  if (std::erase(claimed->second, lock) == 0) return true;
  if (!table_.conflict(session, lock)) {
    table_.set(session, lock);
    return true;
  }
  // It came too late: what it does under that lock would not be what it believes.
  MARK("lock.claim_refused");
  if (SessionLines* lines = core_.leases().lines())
    lines->evict(session, fmt::format("it claims a lock on inode {:#x} that another one has been "
                                      "granted since",
                                      lock.ino.v));
  return false;
}

}  // namespace graftfs
