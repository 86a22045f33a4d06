#include "server/holds.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "server/leases.h"

namespace graftfs {

Task<void> HoldQueries::ask(std::vector<Ino> inos) {
  SessionLines* lines = core_.leases().lines();
  if (!lines || inos.empty() || ended_) co_return;
  ++number_;
  since_ = core_.executor().now();
  asked_ = std::move(inos);
  for (const auto& [session, state] : core_.state().sessions) waiting_.insert(session);
  for (SessionId session : waiting_) lines->send(session, msg::HoldQuery{number_, asked_});
  KILL_POINT("purge.asked");
  while (!waiting_.empty() && core_.leases().lines() && !ended_) {
    evict_silent();
    if (waiting_.empty()) break;
    // A bell for the answers, a pause for those who say nothing.
    core_.executor().post_after(core_.leases().lines()->lease() / 4, [this, alive = alive_] {
      if (*alive) answered_.ring();
    });
    co_await answered_.next();
  }
  waiting_.clear();
  asked_.clear();
}

void HoldQueries::evict_silent() {
  SessionLines* lines = core_.leases().lines();
  const Nanos now = core_.executor().now();
  std::vector<SessionId> silent;
  for (SessionId session : waiting_)
    if (!lines->connected(session) &&
        now - std::max(since_, lines->heard(session)) >= kPatience * lines->lease())
      silent.push_back(session);
  for (SessionId session : silent) {
    MARK("purge.evicted");
    lines->evict(session, fmt::format("it may refer to removed files, and has not been heard of "
                                      "for {} s",
                                      (now - std::max(since_, lines->heard(session))) / kSecond));
    waiting_.erase(session);
  }
}

void HoldQueries::receive(SessionId session, const msg::HoldAnswer& answer) {
  if (answer.number != number_ || !waiting_.erase(session)) return;
  for (Ino ino : answer.held) {
    // Only what was asked for: others it holds by opening them.
    if (std::find(asked_.begin(), asked_.end(), ino) == asked_.end()) continue;
    MARK("purge.still_referred_to");
    core_.add_hold(session, {.ino = ino, .count = 0});
  }
  if (waiting_.empty()) answered_.ring();
}

void HoldQueries::session_gone(SessionId session) {
  if (waiting_.erase(session) && waiting_.empty()) answered_.ring();
}

void HoldQueries::attached(SessionId session) {
  SessionLines* lines = core_.leases().lines();
  if (lines && waiting_.contains(session)) lines->send(session, msg::HoldQuery{number_, asked_});
}

void HoldQueries::sweep() {
  SessionLines* lines = core_.leases().lines();
  if (!lines || ended_ || std::exchange(sweeping_, true)) return;
  core_.executor().post_after(kPatience * lines->lease(), [this, alive = alive_] {
    if (!*alive) return;
    sweeping_ = false;
    if (!core_.leases().lines()) return;
    std::set<std::pair<Ino, SessionId>> young;
    for (Ino ino : core_.held())
      for (const auto& [session, hold] : core_.holds(ino))
        if (hold.count == 0 && !old_.contains({ino, session})) young.emplace(ino, session);
    for (const auto& [ino, session] : std::exchange(old_, std::move(young))) {
      for (const auto& [holder, hold] : core_.holds(ino))
        if (holder == session && hold.count == 0) {
          MARK("purge.old_hold");
          core_.drop_hold(ino, session, 1);
        }
    }
    sweep();
  });
}

void HoldQueries::end() {
  ended_ = true;
  answered_.ring();
}

}  // namespace graftfs
