#include "server/rank_core.h"

#include "base/check.h"

#include <algorithm>

#include "server/rank.h"

namespace graftfs {

RankId RankCore::id() const { return rank_.id(); }
Epoch RankCore::epoch() const { return rank_.epoch(); }
const RankOptions& RankCore::options() const { return rank_.options_; }
Executor& RankCore::executor() { return rank_.executor_; }
Store& RankCore::store() { return rank_.store_; }
Cache& RankCore::cache() { return rank_.cache_; }
RankState& RankCore::state() { return rank_.state_; }
Journal& RankCore::journal() { return *rank_.journal_; }
TaskScope& RankCore::tasks() { return rank_.tasks_; }
Peers* RankCore::peers() { return rank_.peers_; }
Migrations& RankCore::migrations() { return *rank_.migrations_; }
TwoParty& RankCore::two_party() { return *rank_.two_party_; }
Leases& RankCore::leases() { return *rank_.leases_; }
Locks& RankCore::locks() { return *rank_.locks_; }

// Also a refusal, which needs no journal: who has lost the rank does not know what is so.
void RankCore::send(RankId to, Body body) {
  if (!rank_.peers_) return;
  rank_.say_when({}, [this, to, body = std::move(body)]() mutable {
    rank_.peers_->send(to, Message{rank_.id(), to, std::move(body)});
  });
}

Lsn RankCore::log(const TreeEvent& event) { return rank_.log(event); }

Lsn RankCore::log_commit(const Commit& commit, const TreeEvent& event) {
  CHECK(event.type == EventType::commit);
  return rank_.log(event, &commit);
}

Lsn RankCore::log_event(EventType type, const std::string& payload) {
  Lsn lsn = rank_.log_raw(type, payload);
  if (type == EventType::import || type == EventType::import_end || type == EventType::export_)
    rank_.refresh_bounds();
  return lsn;
}

void RankCore::say_when(Lsn durable, Fn send) { rank_.say_when(durable, std::move(send)); }
void RankCore::wake(const Need& need) { rank_.wake(need); }
void RankCore::add_gate(int change) {
  rank_.gates_ += change;
  CHECK(rank_.gates_ >= 0, "a gate was opened that nobody had closed");
}
Task<Result<Place>> RankCore::find_dir(Ino ino) { return fetch({Need::dir, ino, {}, 0}); }
Task<Result<Place>> RankCore::find_inode(Ino ino) { return fetch({Need::inode, ino, {}, 0}); }
bool RankCore::was_made_again(Ino ino) const { return rank_.made_again_.contains(ino); }
Task<Result<Place>> RankCore::fetch(Need need) { return rank_.fetch_need(std::move(need)); }

std::vector<std::pair<SessionId, HoldCount>> RankCore::holds(Ino ino) const {
  std::vector<std::pair<SessionId, HoldCount>> out;
  auto it = rank_.holds_.find(ino.v);
  if (it == rank_.holds_.end()) return out;
  for (const Rank::Hold& hold : it->second) {
    if (hold.count) out.emplace_back(hold.session, HoldCount{ino, hold.count});
    if (hold.nameless) out.emplace_back(hold.session, HoldCount{ino, 0});
  }
  return out;
}

void RankCore::add_hold(SessionId session, const HoldCount& more) {
  rank_.add_hold(more.ino, session, more.count);
}
void RankCore::drop_hold(Ino ino, SessionId session, uint32_t count) {
  rank_.drop_hold(ino, session, count);
}
void RankCore::set_holds(SessionId session, const std::vector<HoldCount>& holds) {
  rank_.claim_holds(session, holds);
}
std::vector<Ino> RankCore::held() const {
  std::vector<Ino> out;
  for (const auto& [ino, holds] : rank_.holds_) out.push_back(Ino{ino});
  std::sort(out.begin(), out.end());
  return out;
}
void RankCore::open_session(SessionId session) { rank_.open_session(session); }
size_t RankCore::segment_capacity() const { return rank_.device_->segment_capacity(); }
bool RankCore::is_throttled() const {
  return !rank_.throttled_.empty() || rank_.journal_->live_bytes() >= rank_.journal_cap_;
}
void RankCore::say(const std::string& line) const { rank_.say(line); }
void RankCore::fail(Error error) { rank_.journal_failed(error); }

}  // namespace graftfs
