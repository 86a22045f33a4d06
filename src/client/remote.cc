#include "client/remote.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/fault.h"
#include "client/session.h"

namespace graftfs {
namespace {

constexpr Nanos kFirstRetry = 10 * kMillisecond;
constexpr Nanos kLongestRetry = 500 * kMillisecond;

// Asked twice it does no harm, whatever became of the first. A sync has to say that something was
// lost, and a lock may have been.
bool only_reads(const Request& request) {
  return request.seq == 0 && !std::holds_alternative<SyncArgs>(request.args) &&
         !std::holds_alternative<LockArgs>(request.args);
}

// It tells of what was done under a right to write that is gone.
bool rests_on_the_session(const Args& args) {
  const auto* set = std::get_if<SetattrArgs>(&args);
  return std::holds_alternative<WroteArgs>(args) || (set && set->valid & kSetSize);
}

// What was done again has come to what the client had been told.
bool is_the_same(const Reply& reply, const Request& request) {
  if (reply.err) return false;
  return !request.redo || !request.redo->ino || !reply.stat.ino ||
         reply.stat.ino == request.redo->ino;
}

}  // namespace

Remote::Remote(Executor& executor, SessionId session, RankId rank, DialFn dial)
    : executor_(executor), session_(session), rank_(rank), dial_(std::move(dial)) {
  this->dial();
}

Remote::~Remote() {
  *alive_ = false;
  hang_up();
}

// -- the connection -----------------------------------------------------------------------------

void Remote::dial() {
  if (closed_ || state_ != down) return;
  state_ = dialing;
  dial_(rank_, [this, alive = alive_](Result<std::unique_ptr<net::Connection>> connection) {
    if (*alive) on_connected(std::move(connection));
  });
}

// In good time for the window in which the rank's next owner waits for this session.
void Remote::dial_later() {
  const Nanos longest = std::clamp(lease_ / 8, kFirstRetry, kLongestRetry);
  retry_after_ = std::clamp(2 * retry_after_, kFirstRetry, longest);
  executor_.post_after(retry_after_, [this, alive = alive_] {
    if (*alive) dial();
  });
}

void Remote::on_connected(Result<std::unique_ptr<net::Connection>> connection) {
  if (closed_ || state_ != dialing) return;
  if (!connection) {
    state_ = down;
    return connection.error().code == ENXIO ? rank_is_gone() : dial_later();
  }
  connection_ = std::move(*connection);
  connection_->set_events(this);
  state_ = attaching;
  msg::Attach attach;
  attach.known = known_;
  for (const auto& [ino, held] : holds_) {
    if (held.opened) attach.holds.push_back({ino, held.opened});
    if (held.nameless) attach.holds.push_back({ino, 0});
  }
  if (claims) attach.locks = claims();
  KILL_POINT("client.reconnect.claimed");
  connection_->send(Message{RankId{}, rank_, std::move(attach)});
  heard_ = executor_.now();
  if (!std::exchange(beating_, true)) beat();
}

// It has ended before this side could take leave: what it was sent and did not answer is lost.
void Remote::rank_is_gone() {
  MARK("remote.rank_gone");
  closed_ = leaving_ = true;
  fail_all();
  auto finding = std::exchange(finding_, {});
  for (auto& [number, f] : finding) f.done(kNobody);
  if (ended) ended_soon();
}

void Remote::ended_soon() {
  executor_.post([alive = alive_, fn = ended] {
    if (*alive) fn();
  });
}

void Remote::hang_up() {
  if (!connection_) return;
  connection_->set_events(nullptr);
  connection_->close();
  // It may be one of its own events that ends it.
  auto gone = std::shared_ptr<net::Connection>(std::move(connection_));
  executor_.post([gone] {});
}

void Remote::disconnected(const Error&) {
  MARK("remote.disconnected");
  hang_up();
  state_ = down;
  beats_.clear();
  if (!closed_) dial_later();
}

void Remote::on_attached(const msg::Attached& a) {
  if (state_ != attaching) return;
  retry_after_ = 0;
  lease_ = a.lease_ms * kMillisecond;
  const bool new_epoch = a.epoch != known_;
  const bool forgotten = a.outcome == msg::AttachOutcome::evicted;
  known_ = a.epoch;
  // What its callbacks call waits behind what is sent again.
  if (forgotten) {
    MARK("remote.evicted");
    evicted_ = true;
    begin_anew();
    // It has no session yet: that is asked for by one that never had one.
    known_ = {};
    hang_up();
    state_ = down;
    beats_.clear();
    return dial();
  }
  again_.clear();
  for (uint64_t number = first_; number < first_ + slots_.size(); ++number) {
    Slot& s = slot(number);
    s.sent_here = false;
    if (s.answered && new_epoch && s.lsn > a.kept) {
      MARK("remote.redone");
      s.answered = false;
      s.redoing = true;
    }
    if (s.redoing) again_.push_back(number);
  }
  if (new_epoch) durable_ = std::max(durable_, a.kept);
  send_again();
}

// What was answered comes first, in the order in which it was: others wait for that, and what they
// ask for may stand in its way, as may what was not answered here.
void Remote::send_again() {
  if (!again_.empty()) {
    const uint64_t number = again_.front();
    again_.pop_front();
    MARK("remote.resent");
    return send(number, true);  // the next one when it is answered
  }
  KILL_POINT("client.reconnect.resent");
  connection_->send(Message{RankId{}, rank_, msg::Resent{}});
  for (uint64_t number = first_; number < first_ + slots_.size(); ++number)
    if (const Slot& s = slot(number); !s.answered && !s.sent_here) send(number, s.sent);
  for (const auto& [number, finding] : finding_)
    connection_->send(Message{RankId{}, rank_, msg::Find{number, finding.ino}});
  state_ = up;
  reap();
  if (attached) attached(std::exchange(evicted_, false));
}

// It cannot be done again as it was: perhaps it rests on what had been sent before it, and was
// carried out, but not answered. False: there is nothing of that kind.
bool Remote::redo_behind_others(uint64_t number) {
  std::deque<uint64_t> before;
  for (uint64_t other = first_; other < number; ++other) {
    const Slot& s = slot(other);
    if (s.sent && !s.answered && !s.sent_here && s.request.seq) before.push_back(other);
  }
  if (before.empty()) return false;
  MARK("remote.redone_behind_others");
  before.push_back(number);
  again_.insert(again_.begin(), before.begin(), before.end());
  return true;
}

// -- requests -----------------------------------------------------------------------------------

void Remote::call(Credentials cred, Args args, ReplyFn done) {
  if (closed_ && leaving_) {
    auto answer = [done = std::move(done)]() mutable {
      Reply reply;
      reply.err = kAskRank;
      reply.home = kNobody;
      done(std::move(reply));
    };
    return executor_.post(std::move(answer));
  }
  if (closed_) return;
  Slot& s = slots_.emplace_back();
  s.request.session = session_;
  s.request.seq = is_remembered(args) ? ++last_seq_ : 0;
  s.request.cred = std::move(cred);
  s.request.args = std::move(args);
  s.done = std::move(done);
  unanswered_++;
  if (state_ != up) return;
  if (lease_valid()) return send(first_ + slots_.size() - 1, false);
  // This process was stopped, or the rank is. Whether the session is still known there has to be
  // asked first: what was never sent is not lost with it.
  MARK("remote.silent_at_call");
  disconnected(Error{ETIMEDOUT, "the rank does not answer"});
}

void Remote::send(uint64_t number, bool resent) {
  Slot& s = slot(number);
  s.sent = s.sent_here = true;
  // Everything before it is answered, and durable.
  uint64_t oldest = last_seq_ + 1;
  for (const Slot& o : slots_) {
    if (!o.request.seq || (o.answered && o.lsn <= durable_)) continue;
    oldest = o.request.seq;
    break;
  }
  s.request.oldest = oldest;
  connection_->send(Message{RankId{}, rank_, msg::Call{number, resent, s.request}});
}

void Remote::on_answer(msg::Answer answer) {
  durable_ = std::max(durable_, answer.durable);
  if (answer.number < first_ || answer.number >= first_ + slots_.size()) return reap();
  Slot& s = slot(answer.number);
  if (s.answered) return reap();
  Reply reply = std::move(answer.reply);
  if (s.redoing) {
    // (A time of access is nobody's loss: the directory may be another rank's by now.)
    const bool failed = s.request.seq && !is_the_same(reply, s.request);
    if (failed && redo_behind_others(answer.number)) return send_again();
    s.redoing = false;
    s.answered = true;
    s.lsn = reply.lsn;
    if (failed) {
      MARK("remote.redo_failed");
      note_lost(s.request, reply.err);
    }
    reap();
    if (state_ == attaching) send_again();
    return;
  }
  s.answered = true;
  s.lsn = reply.lsn;
  unanswered_--;
  note_holds(s.request.args, reply);
  if (lost_ && std::holds_alternative<SyncArgs>(s.request.args)) {
    lost_ = false;
    reply.err = EIO;
  }
  if (reply.err || s.lsn <= durable_)
    s.request.args.emplace<StatfsArgs>();  // long names and values are freed now
  else
    s.request.redo = Redo{reply.stat.ino, reply.stat.ctime};
  ReplyFn done = std::move(s.done);
  reap();
  if (state_ == attaching) send_again();
  if (done) done(std::move(reply));
}

void Remote::note_holds(const Args& args, const Reply& reply) {
  if (auto* release = std::get_if<ReleaseArgs>(&args)) {
    auto it = holds_.find(release->ino);
    if (it == holds_.end() || reply.err) return;
    Held& held = it->second;
    if (release->count > held.opened) held.nameless = false;
    held.opened -= std::min(held.opened, release->count);
    if (held.opened == 0 && !held.nameless) holds_.erase(it);
    return;
  }
  if (reply.err || reply.partial) return;
  const bool opened =
      std::holds_alternative<OpenArgs>(args) || std::holds_alternative<CreateArgs>(args);
  if (opened || reply.orphaned) add_hold(reply.stat.ino, {opened, reply.orphaned});
}

void Remote::add_hold(Ino ino, Held more) {
  if (!more.opened && !more.nameless) return;
  Held& held = holds_[ino];
  held.opened += more.opened;
  held.nameless |= more.nameless;
}

void Remote::durable_up_to(Lsn lsn) {
  durable_ = std::max(durable_, lsn);
  reap();
}

void Remote::reap() {
  while (!slots_.empty() && slots_.front().answered && slots_.front().lsn <= durable_) {
    slots_.pop_front();
    first_++;
  }
  if (leaving_) take_leave();
}

void Remote::take_leave() {
  if (closed_ || state_ != up || !slots_.empty() || !finding_.empty()) return;
  MARK("remote.took_leave");
  close();
  if (ended) ended_soon();
}

Remote::Held Remote::take_hold(Ino ino) {
  auto node = holds_.extract(ino);
  return node.empty() ? Held{} : node.mapped();
}

// The rank does not know this session any more. What was not sent, or only reads, is asked in the
// new one.
void Remote::begin_anew() {
  auto before = std::exchange(slots_, {});
  first_ += before.size();  // so that late answers are to nobody
  std::deque<Slot> lost;
  for (Slot& s : before) {
    if (rests_on_the_session(s.request.args)) s.sent = true;
    const bool again = !s.answered && !s.redoing && (!s.sent || only_reads(s.request));
    if (again) s.sent = false;
    (again ? slots_ : lost).push_back(std::move(s));
  }
  holds_.clear();
  unanswered_ = slots_.size();
  give_up(std::move(lost));
}

void Remote::fail_all() {
  auto slots = std::exchange(slots_, {});
  first_ += slots.size();
  unanswered_ = 0;
  holds_.clear();
  give_up(std::move(slots));
}

void Remote::give_up(std::deque<Slot> slots) {
  for (Slot& s : slots) {
    if ((s.answered && s.lsn > durable_) || s.redoing) {
      note_lost(s.request, EIO);
    } else if (!s.answered && s.done) {
      Reply reply;
      // What it was never sent another one may carry out.
      reply.err = s.sent ? EIO : kAskRank;
      reply.home = kNobody;
      s.done(std::move(reply));
    }
  }
}

// The next sync says so.
void Remote::note_lost(const Request& request, int err) {
  lost_ = true;
  if (lost_for_good) lost_for_good(request, err);
}

void Remote::find(Ino ino, std::move_only_function<void(RankId)> done) {
  if (closed_) return done(kNobody);
  finding_.emplace(++last_find_, Finding{ino, std::move(done)});
  if (state_ != up) return;
  connection_->send(Message{RankId{}, rank_, msg::Find{last_find_, ino}});
}

void Remote::say(Body body) {
  if (connection_) connection_->send(Message{RankId{}, rank_, std::move(body)});
}

void Remote::close() {
  if (std::exchange(closed_, true)) return;
  if (state_ == up) connection_->send(Message{RankId{}, rank_, msg::Detach{}});
  hang_up();
  state_ = down;
  // Callbacks may own what calls back into here.
  auto finding = std::exchange(finding_, {});
  auto dropped = std::exchange(slots_, {});
  unanswered_ = 0;
}

// -- what the rank says -------------------------------------------------------------------------

void Remote::received(Message message) {
  Body& body = message.body;
  if (auto* a = std::get_if<msg::Attached>(&body)) return on_attached(*a);
  if (auto* a = std::get_if<msg::Answer>(&body)) return on_answer(std::move(*a));
  if (auto* b = std::get_if<msg::BeatAnswer>(&body)) {
    auto it = beats_.find(b->number);
    if (it != beats_.end()) {
      heard_ = std::max(heard_, it->second);
      beats_.erase(beats_.begin(), std::next(it));
    }
    return durable_up_to(b->durable);
  }
  if (auto* f = std::get_if<msg::Found>(&body)) {
    auto node = finding_.extract(f->number);
    if (!node.empty()) node.mapped().done(f->home);
    if (leaving_) take_leave();
    return;
  }
  if (auto* m = std::get_if<msg::SessionMoved>(&body)) {
    if (moved) moved(*m);
    if (m->root) return;
    leaving_ = true;
    return take_leave();
  }
  if (std::holds_alternative<msg::Evicted>(body))
    return disconnected(Error{ECONNRESET, "the session was evicted"});
  if (told) told(std::move(body));
}

bool Remote::lease_valid() const { return state_ == up && executor_.now() - heard_ < lease_; }

void Remote::beat() {
  if (closed_) return;
  if (connection_ && executor_.now() - heard_ >= lease_) {
    // It says nothing: perhaps another connection does.
    MARK("remote.silent");
    disconnected(Error{ETIMEDOUT, "the rank does not answer"});
  }
  if (state_ == up) {
    beats_.emplace(++last_beat_, executor_.now());
    connection_->send(Message{RankId{}, rank_, msg::Beat{last_beat_}});
  }
  executor_.post_after(lease_ / 4, [this, alive = alive_] {
    if (*alive) beat();
  });
}

}  // namespace graftfs
