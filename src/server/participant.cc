// The participant's side: what this rank does for operations of others.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/fault.h"
#include "server/intents.h"
#include "server/leases.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

using msg::IntentKind;

constexpr int kMaxRuns = 10'000;
constexpr Nanos kRecallPause = kMillisecond;
constexpr Nanos kRetryAfter = kSecond;

Request request_for(SessionId session, Timespec now) {
  Request request;
  request.session = session;
  request.redo = Redo{{}, now};
  return request;
}

}  // namespace

// -- the token ----------------------------------------------------------------------------------

void TwoParty::grant_token() {
  if (token_ || token_queue_.empty()) return;
  Waiting next = std::move(token_queue_.front());
  token_queue_.pop_front();
  token_ = next.prepare.op;
  if (next.from == core_.id()) {
    post([this, id = next.prepare.op] {
      if (Op* op = find(id); op && op->state == Op::queued) with_token(*op);
    });
    return;
  }
  Part& part = parts_[next.prepare.op];
  part.number = ++numbers_;
  core_.add_gate(1);
  promise(next.from, next.prepare, {{}});
}

void TwoParty::give_token_back(const ProtocolId& op) {
  std::erase_if(token_queue_, [&](const Waiting& w) { return w.prepare.op == op; });
  if (token_ != op) return;
  token_.reset();
  grant_token();
}

// -- prepare ------------------------------------------------------------------------------------

void TwoParty::on_prepare(RankId from, msg::Prepare m) {
  KILL_POINT("two_party.participant.received");
  if (m.op.rank != from || m.intents.empty()) return;
  want_tick();
  if (m.intents[0].kind == IntentKind::token) {
    token_queue_.push_back({from, 0, std::move(m)});
    return grant_token();
  }
  // What this rank has lost its clients have done again first.
  const SessionLines* lines = core_.leases().lines();
  if (!m.again && lines && lines->in_window()) {
    MARK("two_party.participant.in_window");
    return core_.send(from, msg::Refused{.op = m.op, .why = msg::Refusal::busy});
  }
  auto [it, fresh] = parts_.try_emplace(m.op);
  if (fresh) {
    it->second.number = ++numbers_;
    core_.add_gate(1);
  }
  it->second.state = Part::preparing;
  core_.tasks().spawn(prepare_task(from, std::move(m)));
}

Task<void> TwoParty::prepare_task(RankId from, msg::Prepare m) {
  Request request = request_for(m.session, m.now);
  request.cred = m.cred;
  std::vector<Absent> absent;
  uint32_t phase = 0;
  std::optional<Stop> why;
  for (int run = 0; run < kMaxRuns; ++run) {
    auto it = parts_.find(m.op);
    if (it == parts_.end() || it->second.state != Part::preparing) co_return;  // aborted meanwhile
    why = try_prepare(from, m, request, absent, phase);
    if (!why) co_return;
    Stop stop = *why;
    why = co_await get(std::move(stop), &absent);
    if (why) break;
  }
  auto it = parts_.find(m.op);
  if (it == parts_.end() || it->second.state != Part::preparing) co_return;
  msg::Refused refused{.op = m.op, .phase = phase};
  if (!why || why->need.kind != Need::none) {
    refused.why = msg::Refusal::busy;
  } else if (why->ask) {
    refused.why = msg::Refusal::ask_rank;
    refused.home = *why->ask;
  } else {
    refused.why = msg::Refusal::error;
    refused.err = why->err;
  }
  if (core_.state().prepared.contains(m.op)) {
    it->second.state = Part::prepared;  // it has the token
  } else {
    core_.add_gate(-1);
    parts_.erase(it);
  }
  core_.send(from, std::move(refused));
}

// Gets what an operation lacks. Returns why it cannot go on.
Task<std::optional<Stop>> TwoParty::get(Stop stop, std::vector<Absent>* absent) {
  if (stop.need.kind == Need::recall) {
    MARK("two_party.participant.recalls");
    co_await sleep_for(core_.executor(), kRecallPause);
    co_return std::nullopt;
  }
  if (stop.need.kind == Need::none || stop.need.kind >= Need::frozen) co_return stop;
  Need need = stop.need;
  auto found = co_await core_.fetch(std::move(need));
  if (!found) co_return Stop{found.error().code, {}, {}, {}};
  if (found->what == Place::frozen) co_return Stop{0, {Need::frozen, found->import, {}, 0}, {}, {}};
  if (found->what == Place::absent) absent->push_back({stop.need, std::nullopt});
  if (found->what == Place::other) absent->push_back({stop.need, found->rank});
  co_return std::nullopt;
}

// From the checks to the journal without a pause. Returns why not.
std::optional<Stop> TwoParty::try_prepare(RankId from, const msg::Prepare& m,
                                          const Request& request, const std::vector<Absent>& absent,
                                          uint32_t& phase) {
  Part& part = parts_.at(m.op);
  Reply reply;
  OpContext cx(core_.rank(), request, absent, part.number, reply);
  Change change(cx, EventType::commit);
  std::vector<msg::IntentValue> values;
  Outcome done = intents::build(cx, change, from, m.intents, true, values, phase);
  if (done) done = change.ask_holders();
  if (!done) return done.error();
  KILL_POINT("two_party.participant.recalled");
  msg::Prepare promised = m;
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i].value.ino) promised.intents[i].ino = values[i].value.ino;
  if (!marks_.take(part.number, intents::marks_of(promised.intents)))
    return Stop{0, Need{Need::busy, {}, {}, 0}, {}, {}};
  KILL_POINT("two_party.participant.marked");
  // Nothing that was shown may be older than what it stands on.
  promise(from, promised, std::move(values));
  return std::nullopt;
}

void TwoParty::promise(RankId from, const msg::Prepare& m, std::vector<msg::IntentValue> values) {
  Part& part = parts_.at(m.op);
  part.state = Part::prepared;
  part.promised.session = m.session;
  part.promised.now = m.now;
  for (const msg::Intent& intent : m.intents) part.promised.intents.push_back(intent);
  std::string payload;
  ByteWriter w(payload);
  encode_prepare(w, m.op, part.promised, {});
  Lsn lsn = core_.log_event(EventType::prepare, payload);
  KILL_POINT("two_party.participant.prepare_logged");
  msg::Prepared prepared{m.op, std::move(values)};
  core_.say_when(lsn, [this, from, prepared = std::move(prepared)]() mutable {
    KILL_POINT("two_party.participant.prepare_durable");
    core_.send(from, std::move(prepared));
    KILL_POINT("two_party.participant.prepared_sent");
  });
}

// -- the decision -------------------------------------------------------------------------------

void TwoParty::on_decide(RankId from, const msg::Decide& m) {
  auto it = parts_.find(m.op);
  if (m.commit) {
    KILL_POINT("two_party.participant.decide_received");
    if (it != parts_.end()) {
      if (it->second.state != Part::prepared) return;  // it is being done
      it->second.state = Part::committing;
      return core_.tasks().spawn(commit_task(from, m.op));
    }
    // Done before; perhaps a moment ago.
    core_.say_when(core_.journal().appended(),
                   [this, from, op = m.op] { core_.send(from, msg::Done{.op = op}); });
    return;
  }
  KILL_POINT("two_party.participant.abort_received");
  if (it != parts_.end() && it->second.state == Part::committing) return;
  if (core_.state().prepared.contains(m.op)) {
    std::string payload;
    ByteWriter w(payload);
    encode_abort(w, m.op);
    core_.log_event(EventType::abort, payload);
    KILL_POINT("two_party.participant.abort_logged");
  }
  if (it != parts_.end()) {
    const uint64_t number = it->second.number;
    parts_.erase(it);
    core_.add_gate(-1);
    marks_.release(number);
    post([this, number] { core_.wake({Need::busy, {}, {}, number}); });
  }
  give_token_back(m.op);
  core_.send(from, msg::Done{.op = m.op});
}

Task<void> TwoParty::commit_task(RankId from, ProtocolId op) {
  PreparedOp promised = parts_.at(op).promised;
  Request request = request_for(promised.session, promised.now);
  std::vector<Absent> absent;
  for (;;) {
    auto why = try_commit(from, op, request, absent);
    if (!why) co_return;
    Stop stop = *why;
    why = co_await get(std::move(stop), &absent);
    if (!why) continue;
    // It was promised, and cannot be refused any more. The store may answer the next time.
    std::string reason;
    if (why->ask)
      reason = fmt::format("{:#x} is not here, rank {} may have it", why->of.v, why->ask->v);
    else if (why->need.kind == Need::frozen)
      reason = fmt::format("{:#x} is on its way to another rank, or here", why->need.ino.v);
    else
      reason = fmt::format("what it changes cannot be read: {}",
                           std::strerror(why->err ? why->err : EBUSY));
    core_.say(
        fmt::format("a part of an operation of another rank, {}.{}.{}, cannot be carried out "
                    "at the moment ({}); it is tried again",
                    op.rank.v, op.epoch.v, op.number, reason));
    absent.clear();
    co_await sleep_for(core_.executor(), kRetryAfter);
  }
}

std::optional<Stop> TwoParty::try_commit(RankId from, const ProtocolId& op, const Request& request,
                                         const std::vector<Absent>& absent) {
  Part& part = parts_.at(op);
  Reply reply;
  OpContext cx(core_.rank(), request, absent, kDecided, reply);
  Change change(cx, EventType::commit);
  std::vector<msg::IntentValue> values;
  uint32_t phase = 0;
  Outcome done = intents::build(cx, change, op.rank, part.promised.intents, false, values, phase);
  if (!done) return done.error();
  Lsn lsn = change.commit_part(op);
  KILL_POINT("two_party.participant.commit_logged");
  const uint64_t number = part.number;
  const bool exchanged = std::any_of(
      part.promised.intents.begin(), part.promised.intents.end(), [](const msg::Intent& i) {
        return i.kind == IntentKind::swap_name && i.value.kind == EntryKind::dir_link;
      });
  parts_.erase(op);
  core_.add_gate(-1);
  marks_.release(number);
  post([this, number] { core_.wake({Need::busy, {}, {}, number}); });
  give_token_back(op);
  msg::Done answer{op, reply.orphaned, reply.stat};
  if (exchanged) core_.say_when(lsn, [this, from] { core_.rank().tell_paths_to(from); });
  core_.say_when(lsn, [this, from, answer] {
    KILL_POINT("two_party.participant.commit_durable");
    core_.send(from, answer);
    KILL_POINT("two_party.participant.done_sent");
  });
  return std::nullopt;
}

void TwoParty::ask_fate(const ProtocolId& op) {
  if (!parts_.contains(op)) return;
  core_.send(op.rank, msg::AskOp{op});
  KILL_POINT("two_party.participant.asked");
}

}  // namespace graftfs
