// The coordinator's side.
#include "server/two_party.h"

#include <algorithm>

#include "base/fault.h"
#include "server/authority.h"
#include "server/intents.h"
#include "server/rank.h"

namespace graftfs {
namespace {

using msg::IntentKind;

constexpr int kHops = 64;
// Everybody is asked so often for what nobody has: it may be on its way from one to the other.
constexpr size_t kRounds = 8;
constexpr Nanos kTick = kSecond;
// A rank that has not answered by then has perhaps not been reached.
constexpr Nanos kPatience = 5 * kSecond;
constexpr size_t kHomes = 4096;

Need need_number(Need::Kind kind, uint64_t number) { return {kind, {}, {}, number}; }

bool is_directory_name(const msg::Intent& intent) {
  return intent.kind == IntentKind::take_name || intent.kind == IntentKind::swap_name;
}
Ino key_of(const msg::Intent& intent) {
  return is_directory_name(intent) ? intent.dir : intent.ino;
}

}  // namespace

void TwoParty::post(Fn fn) {
  core_.executor().post([alive = alive_, fn = std::move(fn)]() mutable {
    if (*alive) fn();
  });
}

// -- for requests -------------------------------------------------------------------------------

Stop TwoParty::begin(const Request& request, uint64_t number, std::vector<Asked> asked) {
  auto it = ops_.find(number);
  if (it != ops_.end() && it->second.state == Op::refused) return {it->second.err, {}, {}, {}};
  if (!core_.peers()) return {EXDEV, {}, {}, {}};
  if (it == ops_.end()) {
    it = ops_.try_emplace(++numbers_).first;
    it->second.number = it->first;
  } else {
    abort(it->second);
  }
  Op& op = it->second;
  op.state = Op::begun;
  op.session = request.session;
  op.cred = request.cred;
  if (request.redo) op.redo = request.redo->when;
  op.what.asked = std::move(asked);
  op.seen = own_names(op);
  post([this, n = op.number] { start(n); });
  return {0, need_number(Need::two_party, op.number), {}, {}};
}

const Prepared* TwoParty::prepared(uint64_t number) const {
  auto it = ops_.find(number);
  return it != ops_.end() && it->second.state == Op::ready ? &it->second.what : nullptr;
}

Lsn TwoParty::commit(uint64_t number, TreeEvent& event, std::vector<MapChange> map) {
  Op& op = ops_.at(number);
  CHECK(op.state == Op::ready);
  Commit commit;
  commit.op = op.id;
  commit.map = std::move(map);
  for (const auto& [rank, indices] : op.parts)
    for (size_t i : indices) commit.participants[rank].push_back(op.what.asked[i].intent);
  if (op.token) commit.participants[*op.token].push_back({.kind = IntentKind::token});
  event.type = EventType::commit;
  Lsn lsn = core_.log_commit(commit, event);
  op.state = Op::committed;
  KILL_POINT("two_party.coordinator.commit_logged");
  unmark(number);
  core_.say_when(lsn, [this, number] {
    KILL_POINT("two_party.coordinator.commit_durable");
    // Behind the replies that waited for it.
    post([this, number] {
      KILL_POINT("two_party.coordinator.replied");
      decide(number);
    });
  });
  return lsn;
}

void TwoParty::ended(uint64_t number) {
  auto it = ops_.find(number);
  if (it == ops_.end() || it->second.state >= Op::committed) return;
  abort(it->second);
  ops_.erase(it);
}

void TwoParty::yield(uint64_t number) {
  auto it = ops_.find(number);
  if (it == ops_.end() || it->second.state >= Op::committed) return;
  abort(it->second);
  it->second.state = Op::resting;
}

std::optional<Need> TwoParty::busy(Ino ino, std::string_view name, uint64_t self) const {
  if (self == kDecided) return std::nullopt;
  auto op = marks_.find(ino, name, self);
  if (!op) return std::nullopt;
  return need_number(Need::busy, *op);
}

std::optional<Need> TwoParty::busy_names(const Dir& dir, uint64_t self) const {
  std::optional<Need> need;
  if (self == kDecided) return need;
  marks_.for_each_name(dir.ino(), [&](uint64_t op) {
    // What this rank itself is about to change, it changes in one go.
    if (op != self && !ops_.contains(op)) need = need_number(Need::busy, op);
  });
  return need;
}

bool TwoParty::busy_below(const Dir& root) const {
  const Cache& cache = core_.cache();
  // What was promised may put something into this rank's own hidden directories, or take it out.
  const bool own = is_hidden_dir(root.ino()) && rank_of_hidden_dir(root.ino()) == core_.id();
  if (own && !parts_.empty()) {
    MARK("two_party.participant.export_waits");
    return true;
  }
  // What an operation has brought here, or taken from here, is for a rank that has not carried out
  // its part yet still where it was: a part of it there and a bound here, or the other way round.
  // If that rank took this over, it would be both.
  auto is_in = [&](Ino ino) {
    const Dir* dir = ino ? cache.find_dir(ino) : nullptr;
    return dir && Cache::is_below(dir, &root);
  };
  for (const auto& [id, op] : core_.state().committed) {
    for (const auto& [rank, promised] : op.participants) {
      for (const msg::Intent& intent : promised) {
        if (!is_in(intent.kind == IntentKind::hang ? intent.dir : intent.ino) &&
            !is_in(intent.value.ino))
          continue;
        MARK("two_party.coordinator.export_waits");
        return true;
      }
    }
  }
  return marks_.any_ino([&](Ino ino) {
    const Dir* dir = cache.find_dir(ino);
    if (const Dentry* e = dir ? nullptr : cache.find_inode(ino)) dir = e->dir;
    return !dir || Cache::is_below(dir, &root);  // it was evicted: it may be anywhere
  });
}

void TwoParty::unmark(uint64_t number) {
  if (!marks_.release(number)) return;
  core_.add_gate(-1);
  post([this, number] { core_.wake(need_number(Need::busy, number)); });
}

// Requests that wait for the operation start over.
void TwoParty::wake_request(uint64_t number) { core_.wake(need_number(Need::two_party, number)); }

// -- before the decision ------------------------------------------------------------------------

void TwoParty::start(uint64_t number) {
  auto it = ops_.find(number);
  if (it == ops_.end() || it->second.state != Op::begun) return;
  Op& op = it->second;
  op.id = {core_.id(), core_.epoch(), ++numbers_};
  op.since = core_.executor().now();
  op.what.values.assign(op.what.asked.size(), {});
  KILL_POINT("two_party.coordinator.begun");
  want_tick();
  for (size_t i = 0; i < op.what.asked.size(); ++i) {
    Asked& asked = op.what.asked[i];
    if (asked.intent.kind == IntentKind::token) {
      op.token = core_.peers()->root_rank();
    } else if (asked.at != core_.id()) {
      asked.at = place(op, asked);
      op.parts[asked.at].push_back(i);
    }
  }
  if (!op.token) return with_token(op);
  op.state = Op::queued;
  msg::Prepare prepare{.op = op.id, .session = op.session, .cred = op.cred};
  prepare.now = core_.executor().wall_now();
  prepare.intents.push_back({.kind = IntentKind::token});
  if (*op.token == core_.id()) {
    token_queue_.push_back({core_.id(), number, std::move(prepare)});
    return grant_token();
  }
  op.asked.insert(*op.token);
  core_.send(*op.token, std::move(prepare));
}

// Who is asked: who was found to be the right one, or is said to be. What others say may be old,
// and may go in a circle, so every other time it is somebody's turn.
RankId TwoParty::place(Op& op, const Asked& asked) {
  const Ino key = key_of(asked.intent);
  const auto strays = static_cast<size_t>(op.strays[key]);
  if (strays % 2 == 0) {
    auto known = homes_.find(key);
    if (known != homes_.end() && known->second != core_.id()) return known->second;
    if (asked.at != kNobody) return asked.at;
  }
  std::vector<RankId> others = core_.peers()->ranks();
  std::erase(others, core_.id());
  if (others.empty()) return kNobody;
  return others[strays / 2 % others.size()];
}

// What this rank's own names of an operation lead to.
std::vector<Ino> TwoParty::own_names(const Op& op) const {
  std::vector<Ino> inos;
  for (const Asked& asked : op.what.asked) {
    if (asked.at != core_.id() || !is_directory_name(asked.intent)) continue;
    Dir* dir = core_.cache().find_dir(asked.intent.dir);
    const Dentry* e = dir ? core_.cache().find_entry(*dir, asked.intent.name) : nullptr;
    inos.push_back(e && e->kind != EntryKind::null ? e->ino : Ino{});
  }
  return inos;
}

void TwoParty::with_token(Op& op) {
  if (op.token) KILL_POINT("two_party.coordinator.token_granted");
  std::vector<msg::Intent> own;
  for (const Asked& asked : op.what.asked)
    if (asked.at == core_.id()) own.push_back(asked.intent);
  if (!marks_.take(op.number, intents::marks_of(own))) {
    MARK("two_party.coordinator.own_is_busy");
    return retry(op);
  }
  if (!own.empty()) core_.add_gate(1);
  op.state = Op::preparing;
  KILL_POINT("two_party.coordinator.marked");
  for (const auto& [rank, indices] : op.parts)
    if (!core_.peers()->alive(rank)) return retry(op);
  send_prepares(op);
}

void TwoParty::send_prepares(Op& op) {
  op.what.now = op.redo.value_or(core_.executor().wall_now());
  for (const auto& [rank, indices] : op.parts) {
    msg::Prepare prepare{.op = op.id,
                         .session = op.session,
                         .cred = op.cred,
                         .now = op.what.now,
                         .again = op.redo.has_value()};
    for (size_t i : indices) prepare.intents.push_back(op.what.asked[i].intent);
    op.asked.insert(rank);
    core_.send(rank, std::move(prepare));
  }
  KILL_POINT("two_party.coordinator.prepares_sent");
  if (op.parts.empty()) all_prepared(op);
}

TwoParty::Op* TwoParty::find(const ProtocolId& id) {
  for (auto& [number, op] : ops_)
    if (op.id == id) return &op;
  return nullptr;
}

void TwoParty::on_prepared(RankId from, const msg::Prepared& m) {
  Op* op = find(m.op);
  if (!op) return;
  if (op->state == Op::queued && op->token == from) return with_token(*op);
  auto part = op->parts.find(from);
  if (op->state != Op::preparing || part == op->parts.end()) return;
  if (m.values.size() != part->second.size()) return retry(*op);
  for (size_t i = 0; i < m.values.size(); ++i) op->what.values[part->second[i]] = m.values[i];
  op->answered.insert(from);
  if (op->answered.size() == op->parts.size()) all_prepared(*op);
}

void TwoParty::on_refused(RankId from, const msg::Refused& m) {
  Op* op = find(m.op);
  if (!op || op->state > Op::ready) return;
  op->asked.erase(from);
  if (op->token == from) op->asked.insert(from);  // that part may stand
  switch (m.why) {
    case msg::Refusal::busy:
      return retry(*op);
    case msg::Refusal::error:
      return refuse(*op, m.err);
    case msg::Refusal::ask_rank:
      break;
  }
  // It is somebody else's: known, or to be found out.
  MARK("two_party.coordinator.wrong_rank");
  auto part = op->parts.find(from);
  if (part == op->parts.end()) return;
  if (homes_.size() > kHomes) homes_.clear();
  if (m.phase >= part->second.size()) return retry(*op);
  const Ino key = key_of(op->what.asked[part->second[m.phase]].intent);
  homes_.erase(key);
  if (m.home != kNobody && m.home != from) homes_[key] = m.home;
  const size_t ranks = core_.peers()->ranks().size();
  if (++op->strays[key] > static_cast<int>(kRounds * ranks)) return refuse(*op, ESTALE);
  retry(*op);
}

void TwoParty::all_prepared(Op& op) {
  KILL_POINT("two_party.coordinator.all_prepared");
  if (!op.token) return make_ready(op);
  op.state = Op::climbing;
  op.climbs.clear();
  for (const Asked& asked : op.what.asked)
    if (asked.intent.kind == IntentKind::hang)
      op.climbs.emplace_back(asked.intent.ino, asked.intent.dir);
  op.here = {};
  op.hops = 0;
  if (!op.climbs.empty()) op.here = op.climbs.back().second;
  op.guide = core_.peers()->root_rank();
  climb(op);
}

// -- is it a loop? ------------------------------------------------------------------------------

bool TwoParty::loops(Op& op, const std::vector<Ino>& chain) {
  return std::find(chain.begin(), chain.end(), op.climbs.back().first) != chain.end();
}

// From the new parent up to /, here in memory, elsewhere by asking.
void TwoParty::climb(Op& op) {
  while (!op.climbs.empty()) {
    if (!op.here) {
      op.climbs.pop_back();
      if (!op.climbs.empty()) op.here = op.climbs.back().second;
      continue;
    }
    if (++op.hops > kHops) return retry(op);
    const Place place = place_of(core_.cache(), core_.state(), op.here);
    const Dir* dir = core_.cache().find_dir(op.here);
    if (place.what == Place::ours && dir) {
      if (loops(op, way_up(core_.state(), *dir))) return refuse(op, EINVAL);
      op.here = core_.state().imports.at(place.import).parent;
      op.guide = core_.peers()->root_rank();
      continue;
    }
    if (place.what == Place::other && place.rank != kNobody) op.guide = place.rank;
    return ask_guide(op);
  }
  KILL_POINT("two_party.coordinator.loop_checked");
  make_ready(op);
}

// Who serves it knows what is above it. Where nobody can be named, and every other time (as in
// place()), one after the other is asked; it may be this rank's own, and not cached.
void TwoParty::ask_guide(Op& op) {
  if (op.guide == core_.id() || op.guide == kNobody || op.hops % 2 == 1) {
    const std::vector<RankId> all = core_.peers()->ranks();
    op.guide = all[static_cast<size_t>(op.turns++) % all.size()];
  }
  if (op.guide != core_.id()) return core_.send(op.guide, msg::Ancestry{op.id.number, op.here});
  core_.tasks().spawn([](TwoParty& self, ProtocolId id, Ino here) -> Task<void> {
    (void)co_await self.core_.find_dir(here);
    Op* op = self.find(id);
    if (!op || op->state != Op::climbing || op->here != here) co_return;
    const Place place = place_of(self.core_.cache(), self.core_.state(), here);
    if (place.what == Place::ours && self.core_.cache().find_dir(here)) {
      self.climb(*op);
    } else if (++op->hops > kHops) {
      self.retry(*op);
    } else {
      op->guide = kNobody;
      self.ask_guide(*op);
    }
  }(*this, op.id, op.here));
}

void TwoParty::climbed(const msg::AncestryIs& is) {
  auto it = std::find_if(ops_.begin(), ops_.end(), [&](const auto& item) {
    return item.second.id.number == is.number && item.second.state == Op::climbing;
  });
  if (it == ops_.end()) return;
  Op& op = it->second;
  if (!is.known) {
    if (++op.hops > kHops) return retry(op);
    op.guide = is.rank;
    return ask_guide(op);
  }
  if (loops(op, is.chain)) return refuse(op, EINVAL);
  op.here = is.above;
  op.guide = is.rank == kNobody ? core_.peers()->root_rank() : is.rank;
  climb(op);
}

void TwoParty::make_ready(Op& op) {
  op.state = Op::ready;
  op.since = core_.executor().now();
  wake_request(op.number);
}

// -- not now, or not at all ---------------------------------------------------------------------

// Nothing is logged: who asks is told that there is no such operation.
void TwoParty::abort(Op& op) {
  if (op.id == ProtocolId{}) return;
  KILL_POINT("two_party.coordinator.abort_decided");
  for (RankId rank : op.asked) core_.send(rank, msg::Decide{op.id, false});
  if (op.token == core_.id()) give_token_back(op.id);
  unmark(op.number);
  op.id = {};
  op.parts.clear();
  op.token.reset();
  op.asked.clear();
  op.answered.clear();
  op.climbs.clear();
  KILL_POINT("two_party.coordinator.abort_sent");
}

void TwoParty::retry(Op& op) {
  MARK("two_party.coordinator.again");
  ++op.tries;
  abort(op);
  op.state = Op::pausing;
  // Up to 4 ms, doubling up to 64, at random: what two ranks do to each other is not repeated.
  const uint64_t most = std::min<uint64_t>(uint64_t{2} << std::min(op.tries, 5), 64);
  uint64_t dice = (numbers_ * 2 + core_.id().v + 1) * 0x9e3779b97f4a7c15;
  dice ^= dice >> 29;
  const Nanos pause = kMillisecond + static_cast<Nanos>(dice % (most * kMillisecond));
  core_.executor().post_after(pause, [this, alive = alive_, number = op.number] {
    if (!*alive) return;
    auto it = ops_.find(number);
    if (it == ops_.end() || it->second.state != Op::pausing) return;
    it->second.state = Op::begun;
    wake_request(number);
  });
}

void TwoParty::refuse(Op& op, int err) {
  // What was asked for may have been the wrong thing: nothing was marked in the beginning.
  if (own_names(op) != op.seen) {
    MARK("two_party.coordinator.name_changed");
    return retry(op);
  }
  abort(op);
  op.state = Op::refused;
  op.err = err;
  wake_request(op.number);
}

// -- after the decision -------------------------------------------------------------------------

void TwoParty::decide(uint64_t number) {
  auto it = ops_.find(number);
  if (it == ops_.end()) return;
  Op& op = it->second;
  op.state = Op::decided;
  op.since = core_.executor().now();
  send_decisions(op);
  KILL_POINT("two_party.coordinator.decide_sent");
  if (op.done.size() == op.parts.size() && (!op.token || *op.token == core_.id())) close(op);
}

// The rank that has given the token is told last: only when all the others show the new places may
// the next one look for loops.
void TwoParty::send_decisions(Op& op) {
  std::set<RankId> left;
  for (const auto& [rank, indices] : op.parts)
    if (!op.done.contains(rank) && op.token != rank) left.insert(rank);
  if (left.empty() && op.token && *op.token != core_.id() && !op.done.contains(*op.token))
    left.insert(*op.token);
  for (RankId rank : left) core_.send(rank, msg::Decide{op.id, true});
}

// Whoever has it hung elsewhere is told its path now that it has.
bool TwoParty::moves_directory(const Op& op) {
  return std::any_of(op.what.asked.begin(), op.what.asked.end(),
                     [](const Asked& asked) { return asked.intent.kind == IntentKind::hang; });
}

void TwoParty::on_done(RankId from, const msg::Done& m) {
  Op* op = find(m.op);
  if (!op || op->state != Op::decided) return;
  if (!op->parts.contains(from) && op->token != from) return;
  op->done.insert(from);
  if (moves_directory(*op)) core_.rank().tell_paths_to(from);
  std::set<RankId> all;
  for (const auto& [rank, indices] : op->parts) all.insert(rank);
  if (op->token && *op->token != core_.id()) all.insert(*op->token);
  if (op->done.size() == all.size()) return close(*op);
  KILL_POINT("two_party.coordinator.some_done");
  if (op->token && !op->done.contains(*op->token) && op->done.size() + 1 == all.size())
    send_decisions(*op);
}

void TwoParty::close(Op& op) {
  KILL_POINT("two_party.coordinator.all_done");
  if (core_.state().committed.contains(op.id)) {
    std::string payload;
    ByteWriter w(payload);
    encode_close(w, op.id);
    core_.log_event(EventType::close, payload);
  }
  const ProtocolId id = op.id;
  const bool own_token = op.token == core_.id();
  ops_.erase(op.number);
  KILL_POINT("two_party.coordinator.close_logged");
  if (own_token) give_token_back(id);
}

// -- questions, time, connections -----------------------------------------------------------------

void TwoParty::on_ask(RankId from, const msg::AskOp& m) {
  msg::TellOp tell{m.op, msg::OpFate::aborted};
  if (const Op* op = find(m.op))
    tell.fate = op->state == Op::decided ? msg::OpFate::committed : msg::OpFate::undecided;
  // All but the others' decision is told last to who has given the token.
  if (const Op* op = find(m.op); op && op->state == Op::decided && op->token == from) {
    const size_t others = op->parts.size() - op->parts.count(from);
    if (op->done.size() < others) tell.fate = msg::OpFate::undecided;
  }
  core_.send(from, tell);
}

void TwoParty::want_tick() {
  if (std::exchange(ticking_, true)) return;
  core_.executor().post_after(kTick, [this, alive = alive_] {
    if (*alive) tick();
  });
}

// What was said may not have been heard.
void TwoParty::tick() {
  ticking_ = false;
  if (idle()) return;
  const Nanos now = core_.executor().now();
  std::vector<uint64_t> late;
  for (auto& [number, op] : ops_) {
    if (op.state == Op::decided) send_decisions(op);
    const bool waits = op.state == Op::preparing || op.state == Op::climbing ||
                       op.state == Op::ready || (op.state == Op::queued && op.token != core_.id());
    if (waits && now - op.since > kPatience) late.push_back(number);
  }
  for (uint64_t number : late) {
    auto it = ops_.find(number);
    if (it == ops_.end()) continue;
    MARK("two_party.coordinator.no_answer");
    retry(it->second);
  }
  for (const auto& [op, part] : parts_)
    if (part.state == Part::prepared) ask_fate(op);
  want_tick();
}

void TwoParty::peer_up(RankId rank) {
  for (auto& [number, op] : ops_)
    if (op.state == Op::decided) send_decisions(op);
  for (const auto& [op, part] : parts_)
    if (part.state == Part::prepared && op.rank == rank) ask_fate(op);
  ask_again(rank);  // what was said while there was no connection was said to nobody
}

void TwoParty::peer_down(RankId rank) {
  ask_again(rank);
  std::erase_if(token_queue_, [rank](const Waiting& w) { return w.from == rank; });
}

// What it was asked, and has not answered.
void TwoParty::ask_again(RankId rank) {
  std::vector<uint64_t> lost;
  for (const auto& [number, op] : ops_) {
    const bool asked = op.asked.contains(rank) && !op.answered.contains(rank);
    if (asked && op.state > Op::begun && op.state < Op::ready) lost.push_back(number);
    if (op.state == Op::climbing && op.guide == rank) lost.push_back(number);
  }
  for (uint64_t number : lost) {
    auto it = ops_.find(number);
    if (it != ops_.end() && it->second.state < Op::ready) retry(it->second);
  }
}

void TwoParty::receive(RankId from, Message message) {
  Body& body = message.body;
  if (auto* m = std::get_if<msg::Prepare>(&body)) return on_prepare(from, std::move(*m));
  if (auto* m = std::get_if<msg::Prepared>(&body)) return on_prepared(from, *m);
  if (auto* m = std::get_if<msg::Refused>(&body)) return on_refused(from, *m);
  if (auto* m = std::get_if<msg::Decide>(&body)) return on_decide(from, *m);
  if (auto* m = std::get_if<msg::Done>(&body)) return on_done(from, *m);
  if (auto* m = std::get_if<msg::AskOp>(&body)) return on_ask(from, *m);
  if (auto* m = std::get_if<msg::AncestryIs>(&body)) return climbed(*m);
  if (auto* m = std::get_if<msg::TellOp>(&body)) {
    if (m->fate != msg::OpFate::undecided)
      on_decide(from, msg::Decide{m->op, m->fate == msg::OpFate::committed});
  }
}

// What the journal has left open: promises stand until the coordinator says, and decisions are
// told until everybody has carried them out.
void TwoParty::recovered() {
  for (const auto& [id, promised] : core_.state().prepared) {
    Part& part = parts_[id];
    part.state = Part::prepared;
    part.number = ++numbers_;
    part.promised = promised;
    CHECK(marks_.take(part.number, intents::marks_of(promised.intents)),
          "two operations have promised the same");
    core_.add_gate(1);
    for (const msg::Intent& intent : promised.intents)
      if (intent.kind == IntentKind::token) token_ = id;
  }
  for (const auto& [id, committed] : core_.state().committed) {
    Op op;
    op.number = ++numbers_;
    op.id = id;
    op.state = Op::decided;
    for (const auto& [rank, promised] : committed.participants) {
      for (const msg::Intent& intent : promised) {
        if (intent.kind == IntentKind::token)
          op.token = rank;
        else
          op.parts[rank];
      }
    }
    if (op.token == core_.id()) token_ = id;
    const uint64_t number = op.number;
    ops_.emplace(number, std::move(op));
    // Also what was only this rank's: it is closed.
    post([this, number] {
      if (ops_.contains(number)) decide(number);
    });
  }
  for (const auto& [id, part] : parts_) post([this, id] { ask_fate(id); });
  if (!idle()) want_tick();
}

}  // namespace graftfs
