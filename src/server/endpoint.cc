#include "server/endpoint.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <utility>

#include "base/fault.h"
#include "server/holds.h"
#include "server/locks.h"
#include "server/path_limit.h"
#include "server/rank_core.h"

namespace graftfs {
namespace {

constexpr int kConfineLooks = 1000;
constexpr int kRedoPatience = 4;    // windows, for who is at it
constexpr int kRedoLooks = 8;       // in each of them
constexpr int kRetirePatience = 5;  // leases
constexpr Nanos kRetireLook = 10 * kMillisecond;
constexpr uint32_t kNobodysId = 65534;  // whom root becomes under a key that squashes it

bool changes_something(const Args& args) {
  return !(
      std::holds_alternative<LookupArgs>(args) || std::holds_alternative<LookupParentArgs>(args) ||
      std::holds_alternative<GetattrArgs>(args) || std::holds_alternative<ReadlinkArgs>(args) ||
      std::holds_alternative<OpenArgs>(args) || std::holds_alternative<ReleaseArgs>(args) ||
      std::holds_alternative<ReaddirArgs>(args) || std::holds_alternative<GetxattrArgs>(args) ||
      std::holds_alternative<ListxattrArgs>(args) || std::holds_alternative<AccessArgs>(args) ||
      std::holds_alternative<StatfsArgs>(args) || std::holds_alternative<SyncArgs>(args) ||
      std::holds_alternative<LockArgs>(args));
}

// What a read-only key may not do although the request reads.
bool opens_for_writing(const Args& args) {
  const auto* open = std::get_if<OpenArgs>(&args);
  return open && ((open->flags & O_ACCMODE) != O_RDONLY || (open->flags & O_TRUNC));
}

}  // namespace

struct Endpoint::Line final : net::ConnectionEvents {
  Line(Endpoint& e, uint64_t line_id, std::unique_ptr<net::Connection> c)
      : endpoint(e), id(line_id), connection(std::move(c)) {
    session = SessionId{connection->peer().id};
  }
  void received(Message message) override { endpoint.other(*this, std::move(message)); }
  void disconnected(const Error&) override { endpoint.drop(*this, {}); }
  void writable_again() override { connection->set_reading(true); }

  Endpoint& endpoint;
  const uint64_t id;
  std::unique_ptr<net::Connection> connection;
  SessionId session;
  std::unique_ptr<PathLimit> limit;  // null: all of the volume
  bool attached = false;
  bool has_resent = false;  // what it was answered before
  uint32_t in_flight = 0;
  std::deque<msg::Call> waiting;  // for the end of the window
  Nanos redone = 0;               // when it was attached, or answered last
};

Endpoint::Endpoint(Rank& rank, EndpointOptions options)
    : rank_(rank), options_(std::move(options)) {
  rank_.leases().set_lines(this);
  rank_.hold_queries().sweep();
  if (options_.window > 0 && !rank_.recovered().fresh)
    for (const auto& [session, state] : rank_.state().sessions) awaited_.insert(session);
  window_ = !awaited_.empty();
  if (window_)
    rank_.core().tasks().spawn(keep_window());
  else
    rank_.nothing_is_made_again();
  sweep();
}

Endpoint::~Endpoint() {
  *alive_ = false;
  rank_.leases().set_lines(nullptr);
}

void Endpoint::add(std::unique_ptr<net::Connection> connection) {
  auto line = std::make_unique<Line>(*this, ++last_line_, std::move(connection));
  Line& added = *line;
  lines_.emplace(added.id, std::move(line));
  added.connection->set_events(&added);
  if (!added.session) drop(added, "names no session");
}

Endpoint::Line* Endpoint::find(uint64_t line) const {
  auto it = lines_.find(line);
  return it == lines_.end() ? nullptr : it->second.get();
}

Endpoint::Line* Endpoint::line_of(SessionId session) const {
  auto it = attached_.find(session);
  return it == attached_.end() ? nullptr : find(it->second);
}

// Ends a connection; `why`: what the client did wrong. May be called from inside its events.
void Endpoint::drop(Line& line, const std::string& why) {
  auto node = lines_.extract(line.id);
  if (node.empty()) return;
  if (!why.empty() && options_.log)
    options_.log(
        fmt::format("a client was disconnected: {} {}", line.connection->peer().name, why));
  auto it = attached_.find(line.session);
  if (it != attached_.end() && it->second == line.id) attached_.erase(it);
  line.connection->set_events(nullptr);
  line.connection->close();
  auto gone = std::shared_ptr<Line>(std::move(node.mapped()));
  rank_.executor().post([gone] {});
}

void Endpoint::tell(Line& line, Body body) {
  heard_[line.session] = rank_.executor().now();
  line.connection->send(Message{rank_.id(), RankId{}, std::move(body)});
  if (!line.connection->writable()) {
    MARK("endpoint.not_writable");
    line.connection->set_reading(false);
  }
}

// -- sessions -----------------------------------------------------------------------------------

void Endpoint::attach(Line& line, msg::Attach attach) {
  if (line.attached) return drop(line, "attaches twice");
  if (rank_.is_fenced()) return drop(line, {});
  if (const std::string& path = line.connection->peer().limits.path; path != "/")
    line.limit = std::make_unique<PathLimit>(rank_, path);
  if (Line* older = line_of(line.session)) {
    MARK("endpoint.newer_connection");
    drop(*older, {});
  }
  msg::Attached answer;
  answer.epoch = rank_.epoch();
  answer.lease_ms = static_cast<uint32_t>(options_.lease / kMillisecond);
  const bool known = rank_.state().sessions.contains(line.session);
  const bool same_life = attach.known == rank_.epoch();
  using enum msg::AttachOutcome;
  answer.outcome = known ? kept : attach.known ? evicted : fresh;
  if (answer.outcome == evicted) {
    // It gets a session when it comes back as one that has none: if this answer were lost it would
    // find one, and send in it again what has been done.
    MARK("endpoint.told_of_eviction");
    return rank_.say_when(rank_.journal().appended(), [this, alive = alive_, id = line.id, answer] {
      if (Line* line = *alive ? find(id) : nullptr) tell(*line, answer);
    });
  }
  line.attached = true;
  line.redone = rank_.executor().now();
  attached_[line.session] = line.id;
  if (!known) rank_.open_session(line.session);
  // What it held may have been in the memory of an owner before, or belong to answers that it did
  // not get: what it names counts.
  // But for one that comes for the first time and was announced by another rank, which has handed
  // its holds and locks over.
  const bool returns = known && attach.known;
  if (returns) {
    rank_.core().set_holds(line.session, attach.holds);
    rank_.locks().claim(line.session, attach.locks);
  }
  // The numbers of events that an owner has lost are the next one's: to who does not come from the
  // owner before this one, they say nothing. It sends all again, and what was kept is answered from
  // the results.
  const bool from_last = attach.known == rank_.recovered().epoch;
  answer.kept = same_life ? rank_.journal().appended() : Lsn{};
  if (!same_life && from_last) answer.kept = rank_.recovered().last;
  answer.window = window_;
  const SessionId session = line.session;
  rank_.leases().receive(session, Message{{}, rank_.id(), std::move(attach)});
  KILL_POINT("session.reconnected");
  // The session must not be forgotten by a crash once the client relies on it; also where it is
  // known because another rank has announced it a moment ago.
  const Lsn opened = returns ? Lsn{} : rank_.journal().appended();
  rank_.say_when(opened, [this, alive = alive_, id = line.id, answer]() mutable {
    Line* line = *alive ? find(id) : nullptr;
    if (!line) return;
    tell(*line, std::move(answer));
    if (heir_) tell(*line, moved_to(*heir_));
    rank_.hold_queries().attached(line->session);
  });
}

void Endpoint::resent(SessionId session) {
  if (!awaited_.erase(session) || !awaited_.empty()) return;
  open_window();
  rank_.nothing_is_made_again();
}

// Who does again what it was answered is waited for: what takes long then is the rank's doing, or
// the store's. Not for ever, because all others wait.
Task<void> Endpoint::keep_window() {
  std::shared_ptr<bool> alive = alive_;
  co_await rank_.give_clients(options_.window);
  for (int looks = 0; looks < kRedoPatience * kRedoLooks && *alive && somebody_redoes(); ++looks) {
    MARK("endpoint.waits_for_redo");
    co_await sleep_for(rank_.executor(), options_.window / kRedoLooks);
  }
  if (*alive) open_window();
}

bool Endpoint::somebody_redoes() const {
  const Nanos lately = rank_.executor().now() - options_.window / kRedoLooks;
  return window_ && std::ranges::any_of(lines_, [&](const auto& entry) {
           const Line& line = *entry.second;
           const bool busy = line.in_flight > line.waiting.size() || line.redone > lately;
           return line.attached && !line.has_resent && busy;
         });
}

void Endpoint::open_window() {
  if (!std::exchange(window_, false)) return;
  MARK("endpoint.window_over");
  std::vector<uint64_t> ids;
  for (const auto& [id, line] : lines_) ids.push_back(id);
  for (uint64_t id : ids) {
    Line* line = find(id);
    while (line && !line->waiting.empty()) {
      msg::Call call = std::move(line->waiting.front());
      line->waiting.pop_front();
      carry_out(*line, std::move(call));
      line = find(id);
    }
  }
}

bool Endpoint::send(SessionId session, Body body) {
  Line* line = line_of(session);
  if (!line) return false;
  line->connection->send(Message{rank_.id(), RankId{}, std::move(body)});
  return true;
}

void Endpoint::drop_if(const std::function<bool(const net::Peer&)>& is_meant,
                       const std::string& why) {
  std::vector<uint64_t> meant;
  for (const auto& [id, line] : lines_)
    if (is_meant(line->connection->peer())) meant.push_back(id);
  for (uint64_t id : meant)
    if (Line* line = find(id)) drop(*line, why);
}

void Endpoint::evict(SessionId session, const std::string& why) {
  if (options_.log) options_.log(fmt::format("session {:x} was evicted: {}", session.v, why));
  rank_.close_session(session);
  KILL_POINT("session.evict.logged");
  heard_.erase(session);
  resent(session);
  Line* line = line_of(session);
  if (!line) return;
  line->connection->send(Message{rank_.id(), RankId{}, msg::Evicted{}});
  drop(*line, {});
}

void Endpoint::disconnect(SessionId session, const std::string& why) {
  if (Line* line = line_of(session)) drop(*line, why);
}

// One that came with a subtree may not have found the way here yet: its silence begins when
// somebody minds it.
Nanos Endpoint::heard(SessionId session) const {
  return heard_.try_emplace(session, rank_.executor().now()).first->second;
}

void Endpoint::sweep() {
  const Nanos now = rank_.executor().now();
  std::vector<SessionId> silent;
  for (const auto& [session, state] : rank_.state().sessions) {
    // Also who has never said anything here: its session came with a subtree, or from the journal.
    const Nanos last = heard_.try_emplace(session, now).first->second;
    if (!attached_.contains(session) && now - last > options_.forget_after)
      silent.push_back(session);
  }
  for (SessionId session : silent) evict(session, "it has not been heard of for too long");
  rank_.executor().post_after(options_.forget_after, [this, alive = alive_] {
    if (*alive) sweep();
  });
}

// -- the end of the rank --------------------------------------------------------------------------

msg::SessionMoved Endpoint::moved_to(RankId heir) {
  return {.order = rank_.leases().next_order(), .to = heir};
}

void Endpoint::retire(RankId heir, Fn done) {
  heir_ = heir;
  retired_ = std::move(done);
  retiring_since_ = rank_.executor().now();
  open_window();
  for (const auto& [session, line] : attached_)
    if (Line* there = find(line)) tell(*there, moved_to(heir));
  look_at_sessions();
}

void Endpoint::look_at_sessions() {
  const Nanos waited = rank_.executor().now() - retiring_since_;
  std::vector<SessionId> ended;
  for (const auto& [session, state] : rank_.state().sessions) {
    const Nanos limit =
        attached_.contains(session) ? kRetirePatience * options_.lease : options_.lease;
    if (waited > limit) ended.push_back(session);
  }
  for (SessionId session : ended) {
    MARK("endpoint.retire.evicted");
    evict(session, "its rank is gone, and it has not taken leave");
  }
  if (rank_.state().sessions.empty()) {
    if (retired_) std::exchange(retired_, nullptr)();
    return;
  }
  rank_.executor().post_after(kRetireLook, [this, alive = alive_] {
    if (*alive) look_at_sessions();
  });
}

// -- messages -----------------------------------------------------------------------------------

void Endpoint::call(Line& line, msg::Call call) {
  if (++line.in_flight > options_.in_flight)
    return drop(line, fmt::format("has more than {} requests under way", options_.in_flight));
  // What others had locked they are still to claim.
  const auto* lock = std::get_if<LockArgs>(&call.request.args);
  const bool takes = lock && (lock->op == LockOp::set || lock->op == LockOp::wait);
  if (window_ && (!call.resent || takes || line.has_resent)) {
    MARK("endpoint.waits_for_window");
    line.waiting.push_back(std::move(call));
    return;
  }
  carry_out(line, std::move(call));
}

void Endpoint::carry_out(Line& line, msg::Call call) {
  Request& request = call.request;
  request.session = line.session;
  if (!call.resent) request.redo.reset();
  const net::KeyLimits& limits = line.connection->peer().limits;
  if (limits.squash_root) {
    if (request.cred.uid == 0) request.cred.uid = kNobodysId;
    if (request.cred.gid == 0) request.cred.gid = kNobodysId;
  }
  if (limits.read_only && (changes_something(request.args) || opens_for_writing(request.args))) {
    Reply reply;
    reply.err = EROFS;
    return answer(line.id, call.number, std::move(reply));
  }
  if (line.limit) return confine(line, std::move(call));
  submit(line, std::move(call));
}

// What the key does not allow is answered here; the rank sees the rest.
void Endpoint::confine(Line& line, msg::Call call) {
  const PathLimit::Verdict verdict = line.limit->judge(call.request.args);
  if (verdict.what == PathLimit::Verdict::allowed) return submit(line, std::move(call));
  if (verdict.what == PathLimit::Verdict::denied) {
    MARK("endpoint.confined");
    Reply reply;
    reply.err = verdict.err;
    return answer(line.id, call.number, std::move(reply));
  }
  rank_.core().tasks().spawn(confine_later(line.id, std::move(call), verdict.ino));
}

Task<void> Endpoint::confine_later(uint64_t id, msg::Call call, Ino unknown) {
  std::shared_ptr<bool> alive = alive_;
  for (int looks = 0; looks < kConfineLooks; ++looks) {
    auto place = co_await rank_.core().find_inode(unknown);
    Line* line = *alive ? find(id) : nullptr;
    if (!line) co_return;
    Reply reply;
    if (!place)
      reply.err = place.error().code;
    else if (place->what == Place::absent)
      reply.err = ESTALE;
    else if (place->what == Place::other)
      // Not through the rank, where it may have come to by then.
      reply.err = unknown == key_ino(call.request.args) ? kAskRank : EXDEV,
      reply.home = place->rank;
    if (reply.err) co_return answer(id, call.number, std::move(reply));
    const PathLimit::Verdict verdict = line->limit->judge(call.request.args);
    if (verdict.what != PathLimit::Verdict::unknown) co_return confine(*line, std::move(call));
    unknown = verdict.ino;
    // On its way here, or the way to it is being told.
    co_await sleep_for(rank_.executor(), kMillisecond);
    if (!*alive) co_return;
  }
  Reply reply;
  reply.err = EACCES;
  answer(id, call.number, std::move(reply));
}

void Endpoint::submit(Line& line, msg::Call call) {
  Request& request = call.request;
  // The client has written through a store of its own: what this rank syncs has to cover that.
  if (const auto* wrote = std::get_if<WroteArgs>(&request.args))
    rank_.core().store().data().note_written(wrote->ino);
  if (const auto* set = std::get_if<SetattrArgs>(&request.args); set && set->valid & kSetSize)
    rank_.core().store().data().note_written(set->ino);
  Answering to{line.id, call.number};
  const std::pair key(line.session, request.seq);
  if (request.seq) {
    // It may be under way since before the connection broke. That one is all there is to do: were
    // each carried out for itself, the client could be told that the first has failed, and the
    // second would do it behind its back.
    auto [at, fresh] = running_.try_emplace(key, to);
    if (!fresh) {
      MARK("endpoint.came_again");
      at->second = to;
      at->second.came_again = true;
      return;
    }
  }
  rank_.submit(std::move(request), [this, alive = alive_, key, to](Reply reply) mutable {
    if (!*alive) return;
    if (key.second) to = running_.extract(key).mapped();
    if (to.came_again) {
      // What was leased with it, before the session came again, is not any more.
      reply.named = false;
      reply.leased = {};
      reply.dir = {};
      reply.may_write = false;
    }
    answer(to.line, to.number, std::move(reply));
  });
}

void Endpoint::answer(uint64_t id, uint64_t number, Reply reply) {
  Line* line = find(id);
  if (!line) {
    MARK("endpoint.answer_to_nobody");
    return;
  }
  line->in_flight--;
  line->redone = rank_.executor().now();
  if (line->limit) line->limit->note(reply);
  // Its journal is somebody else's: that one has the answer.
  if (rank_.is_fenced()) {
    MARK("endpoint.fenced");
    return drop(*line, {});
  }
  tell(*line, msg::Answer{number, rank_.journal().durable(), std::move(reply)});
}

void Endpoint::other(Line& line, Message message) {
  Body& body = message.body;
  if (auto* attach_to = std::get_if<msg::Attach>(&body)) return attach(line, std::move(*attach_to));
  if (!line.attached) return drop(line, fmt::format("says {} before Attach", message_name(body)));
  if (auto* called = std::get_if<msg::Call>(&body)) return call(line, std::move(*called));
  if (auto* beat = std::get_if<msg::Beat>(&body)) {
    // A node whose lease is over does not prolong anybody's.
    if (rank_.may_speak()) tell(line, msg::BeatAnswer{beat->number, rank_.journal().durable()});
    return;
  }
  if (std::holds_alternative<msg::Resent>(body)) {
    line.has_resent = true;
    rank_.locks().claim_made_again(line.session);
    return resent(line.session);
  }
  if (std::holds_alternative<msg::Detach>(body)) {
    rank_.close_session(line.session);
    heard_.erase(line.session);
    resent(line.session);
    return drop(line, {});
  }
  if (auto* asked = std::get_if<msg::Find>(&body)) {
    return rank_.find(asked->ino,
                      [this, alive = alive_, id = line.id, number = asked->number](RankId home) {
                        if (!*alive) return;
                        rank_.say_when({}, [this, alive, id, number, home] {
                          Line* line = *alive ? find(id) : nullptr;
                          if (line) tell(*line, msg::Found{number, home});
                        });
                      });
  }
  if (std::holds_alternative<msg::Recalled>(body))
    return rank_.leases().receive(line.session, std::move(message));
  if (auto* returned = std::get_if<msg::RightsReturned>(&body)) {
    for (Ino ino : returned->inos) rank_.locks().release(line.session, LockRange::to_write(ino));
    return;
  }
  if (auto* answer = std::get_if<msg::HoldAnswer>(&body))
    return rank_.hold_queries().receive(line.session, *answer);
  drop(line, fmt::format("says {}, which is not a client's to say", message_name(body)));
}

}  // namespace graftfs
