#include "client/router.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"

namespace graftfs {
namespace {

constexpr size_t kHomes = 1 << 16;  // of a generation
constexpr int kQuickRedirects = 8;
constexpr int kMaxRedirects = 10'000;
constexpr int kMaxSearches = 12;  // in the better part of a second; then it is nowhere
constexpr Nanos kFirstPause = 5 * kMillisecond;
constexpr Nanos kLongestPause = 100 * kMillisecond;

// Waits for the answers of several.
struct Gathering {
  size_t left = 0;
  int err = 0;
};

}  // namespace

Router::Router(Executor& executor, DialFn dial, std::function<RankMap()> map)
    : executor_(executor),
      dial_(std::move(dial)),
      map_(std::move(map)),
      cache_([this](RankId rank) {
        auto at = remotes_.find(rank);
        return at != remotes_.end() && at->second->lease_valid();
      }) {}

void Router::close_session(SessionId) {
  for (auto& [rank, remote] : remotes_) remote->close();
}

Remote& Router::remote(RankId rank) {
  auto& remote = remotes_[rank];
  if (!remote) {
    auto dial = [this](RankId to, net::ConnectFn done) {
      if (exists(to)) return dial_(to, std::move(done));
      executor_.post([done = std::move(done)]() mutable {
        done(fail(ENXIO, "there is no such rank any more"));
      });
    };
    remote = std::make_unique<Remote>(executor_, session_, rank, std::move(dial));
    remote->moved = [this, rank](const msg::SessionMoved& m) { moved(rank, m); };
    remote->ended = [this, rank] {
      cache_.drop(rank);
      remotes_.erase(rank);
    };
    remote->attached = [this, rank](bool forgotten) { attached(rank, forgotten); };
    remote->claims = [this] { return locks_.of(session_); };
    remote->lost_for_good = [this, rank](const Request& request, int err) {
      if (lost_for_good) lost_for_good(rank, request, err);
    };
    remote->told = [this, at = remote.get()](Body body) { told(*at, std::move(body)); };
    if (made) made(*remote);
  }
  return *remote;
}

void Router::attached(RankId rank, bool forgotten) {
  cache_.drop(rank);
  rights_floor_.erase(rank);
  // Another owner has carried out what others have sent again.
  for (auto& [ino, size] : rights_) size.reset();
  if (!forgotten) return;
  std::vector<Ino> lost;
  for (Ino ino : locks_.inos()) {
    if (home_of(ino) != rank) continue;
    if (is_locked(ino)) lost.push_back(ino);
    locks_.forget(ino);
  }
  for (Ino ino : lost) ++losses_[ino];
  if (evicted) evicted(rank, lost);
}

uint64_t Router::losses(Ino ino) const {
  auto at = losses_.find(ino);
  return at == losses_.end() ? 0 : at->second;
}

// By somebody who waits for it, other than the right to write.
bool Router::is_locked(Ino ino) const {
  const auto held = locks_.on(ino);
  return std::any_of(held.begin(), held.end(),
                     [](const auto& lock) { return lock.range.kind != LockKind::data; });
}

bool Router::may_write(Ino ino) {
  return has_lock(ino, 0, LockKind::data) && remote(home_of(ino)).lease_valid();
}

std::optional<FileSize> Router::size_of(Ino ino) {
  auto right = rights_.find(ino);
  if (right == rights_.end() || !right->second || !may_write(ino)) return {};
  return right->second;
}

void Router::note_size(Ino ino, std::optional<FileSize> size) {
  if (auto right = rights_.find(ino); right != rights_.end()) right->second = size;
}

void Router::note_right(Ino ino, std::optional<FileSize> size) {
  locks_.set(session_, LockRange::to_write(ino));
  auto [right, fresh] = rights_.insert_or_assign(ino, size);
  if (!fresh) return;
  rights_order_.push_back(ino);
  if (rights_order_.size() > kMostRights) return_rights();
}

// A file that it has made, or cut, may be written to at once; unless others have asked for it, or
// its subtree has gone elsewhere, before the answer was here.
void Router::note_granted(RankId rank, const Args& args, const Reply& reply) {
  auto floor = rights_floor_.find(rank);
  if (floor != rights_floor_.end() && reply.order < floor->second) {
    MARK("router.right_out_of_date");
    return;
  }
  const Ino ino = reply.stat.ino;
  // Nobody can have written to it, this client either, where it has not heard of it before.
  const bool fresh = reply.created || std::holds_alternative<MknodArgs>(args);
  const bool heard_of = rights_.contains(ino) || young_.contains(ino) || old_.contains(ino);
  std::optional<FileSize> size;
  if (fresh && !heard_of) size.emplace();
  note_right(ino, size);
}

// A quarter at once. Those that are in use stay.
void Router::return_rights() {
  std::map<RankId, msg::RightsReturned> returned;
  for (size_t looks = kMostRights / 4; looks > 0; --looks) {
    const Ino ino = rights_order_.front();
    rights_order_.pop_front();
    if (is_idle && !is_idle(ino)) {
      rights_order_.push_back(ino);
      continue;
    }
    rights_.erase(ino);
    if (!has_lock(ino, 0, LockKind::data)) continue;
    locks_.unset(session_, LockRange::to_write(ino));
    returned[home_of(ino)].inos.push_back(ino);
  }
  // Said before anything that is asked from now on. Who is not connected states its rights anew.
  for (auto& [rank, rights] : returned) remote(rank).say(std::move(rights));
}

void Router::note_lock(const LockArgs& args) {
  if (args.op == LockOp::set || args.op == LockOp::wait) {
    if (args.range.kind == LockKind::data) return note_right(args.range.ino, {});
    locks_.set(session_, args.range);
  }
  if (args.op == LockOp::unlock) locks_.unset(session_, args.range);
}

// A subtree has gone from there, perhaps with files that this client may write to: whose lease
// counts for those now is not known. Asked for again, the right is granted by whoever has it noted.
void Router::forget_rights_at(RankId rank) {
  for (Ino ino : locks_.inos())
    if (home_of(ino) == rank) locks_.unset(session_, LockRange::to_write(ino));
}

void Router::told(Remote& remote, Body body) {
  if (auto* wanted = std::get_if<msg::DataRecall>(&body)) {
    rights_floor_[remote.rank()] = wanted->order;
    if (wanted_back) return wanted_back(wanted->ino);
    Request request;
    request.args = LockArgs{LockOp::unlock, LockRange::to_write(wanted->ino)};
    return submit(std::move(request), [](Reply) {});
  }
  if (auto* query = std::get_if<msg::HoldQuery>(&body)) {
    msg::HoldAnswer answer{.number = query->number};
    for (Ino ino : query->inos) {
      const bool told = remote.has_hold(ino);  // and has not been released
      if (!told && (!refers_to || !refers_to(ino))) continue;
      answer.held.push_back(ino);
      remote.add_hold(ino, {.nameless = true});
    }
    return remote.say(std::move(answer));
  }
  auto* recall = std::get_if<msg::Recall>(&body);
  if (!recall) return;
  KILL_POINT("client.recall.received");
  cache_.recall(remote.rank(), *recall);
  remote.say(msg::Recalled{recall->number});
  KILL_POINT("client.recall.answered");
}

// -- homes --------------------------------------------------------------------------------------

RankId Router::home_of(Ino ino) const {
  auto it = young_.find(ino);
  if (it != young_.end()) return it->second;
  it = old_.find(ino);
  return it != old_.end() ? it->second : map_().root;
}

bool Router::exists(RankId rank) const {
  const RankMap map = map_();
  return map.ranks.empty() ||
         std::find(map.ranks.begin(), map.ranks.end(), rank) != map.ranks.end();
}

// What was opened there is held at the other rank now.
void Router::moved(RankId from, const msg::SessionMoved& m) {
  rights_floor_[from] = m.order;
  forget_rights_at(from);
  for (Ino ino : locks_.inos()) {
    if (home_of(ino) != from) continue;
    // Who keeps the lock has to be known where that one forgets this session.
    remote(from).find(ino, [this, ino](RankId home) { note_home(ino, home); });
  }
  note_home(m.root, m.to);
  Remote& there = remote(m.to);  // also where nothing is held: it may have questions
  if (m.holds.empty()) return;
  Remote& here = remote(from);
  for (const HoldCount& hold : m.holds) {
    note_home(hold.ino, m.to);
    there.add_hold(hold.ino, here.take_hold(hold.ino));
  }
}

void Router::note_home(Ino ino, RankId home) {
  if (!ino || home == kNobody) return;
  if (young_.size() >= kHomes && !young_.contains(ino)) {
    MARK("router.homes_aged");
    age_homes();
  }
  young_[ino] = home;
}

// The rank of a lock stays known; a right to write is asked for again.
void Router::age_homes() {
  auto dropped = std::exchange(old_, std::exchange(young_, {}));
  for (Ino ino : locks_.inos()) {
    auto at = dropped.find(ino);
    if (at == dropped.end() || old_.contains(ino)) continue;
    if (is_locked(ino))
      young_[ino] = at->second;
    else
      locks_.forget(ino);
  }
}

void Router::note(RankId rank, const Reply& reply) {
  note_home(reply.stat.ino, reply.home);
  for (const ListedEntry& entry : reply.entries)
    if (entry.stat || !S_ISDIR(entry.type)) note_home(entry.ino, rank);
}

// -- requests -----------------------------------------------------------------------------------

void Router::submit(Request request, ReplyFn done) {
  if (auto reply = cache_.answer(request.cred, request.args)) {
    if (answered_from_cache) answered_from_cache(request, *reply);
    return done(std::move(*reply));
  }
  auto pending = std::make_shared<Pending>();
  pending->cred = std::move(request.cred);
  pending->args = std::move(request.args);
  pending->done = std::move(done);
  if (std::holds_alternative<SyncArgs>(pending->args)) return sync_all(std::move(pending));
  if (auto* lock = std::get_if<LockArgs>(&pending->args); lock && lock->op == LockOp::cancel)
    cancelled_.insert(lock->number);  // also while it is on its way from one rank to another
  // It is given up as soon as that is on its way: who attaches anew must not claim it. So is an old
  // flock for another one, which the rank takes away before it looks for others.
  if (auto* lock = std::get_if<LockArgs>(&pending->args)) {
    const bool takes = lock->op == LockOp::set || lock->op == LockOp::wait;
    if (lock->op == LockOp::unlock || (takes && lock->range.kind == LockKind::flock))
      locks_.unset(session_, lock->range);
  }
  pending->change = cache_.begin(pending->args);
  run(std::move(pending));
}

void Router::run(PendingPtr pending) {
  Ino key = key_ino(pending->args);
  RankId rank = key ? home_of(key) : map_().root;
  run_at(rank, std::move(pending));
}

void Router::run_at(RankId rank, PendingPtr pending) {
  if (!remotes_.contains(rank) && !exists(rank)) {
    MARK("router.rank_gone");
    pending->searches = 0;
    return redirected(rank, std::move(pending), kNobody);
  }
  Credentials cred = pending->cred;
  Args args = pending->args;
  remote(rank).call(std::move(cred), std::move(args), [this, rank, pending](Reply reply) {
    answered(rank, pending, std::move(reply));
  });
}

void Router::answered(RankId rank, PendingPtr pending, Reply reply) {
  if (reply.err == kAskRank) return redirected(rank, std::move(pending), reply.home);
  auto* lock = std::get_if<LockArgs>(&pending->args);
  if (lock && reply.err == ETIMEDOUT) {
    if (!cancelled_.contains(lock->number)) return run(std::move(pending));  // it goes on waiting
    reply.err = EINTR;
  }
  keep(rank, *pending, reply);
  if (reply.err == 0) {
    note_home(key_ino(pending->args), rank);
    if (lock) note_lock(*lock);
    if (reply.may_write) note_granted(rank, pending->args, reply);
    if (reply.partial) return complete(std::move(pending), std::move(reply));
    note(rank, reply);
  }
  finish(pending, std::move(reply));
}

// What the rank has leased with it. While it is attaching it does what it had forgotten again.
void Router::keep(RankId rank, Pending& pending, const Reply& reply) {
  if (changes_what_is_kept(pending.args)) {
    cache_.changed(rank, reply);
    if (!reply.partial) cache_.end(std::exchange(pending.change, 0), pending.args, &reply);
  }
  if (remote(rank).is_up()) cache_.told(rank, pending.cred, pending.args, reply);
}

void Router::finish(const PendingPtr& pending, Reply reply) {
  if (auto* lock = std::get_if<LockArgs>(&pending->args); lock && lock->op == LockOp::wait)
    cancelled_.erase(lock->number);
  cache_.end(std::exchange(pending->change, 0), pending->args, &reply);
  pending->done(std::move(reply));
}

// That rank is not the authority: kAskRank is a final answer there, and the request begins anew.
void Router::redirected(RankId rank, PendingPtr pending, RankId home) {
  redirects_++;
  const Ino key = key_ino(pending->args);
  if (++pending->redirects > kMaxRedirects) {
    Reply reply;
    reply.err = EIO;
    return finish(pending, std::move(reply));
  }
  if (home == kNobody) {
    if (++pending->searches > kMaxSearches) {
      Reply reply;
      reply.err = ESTALE;
      return finish(pending, std::move(reply));
    }
    MARK("router.searched");
    return search(key, [this, rank, pending](RankId found) {
      if (found != kNobody) {
        note_home(key_ino(pending->args), found);
        return run_at(found, pending);
      }
      // It may be between two ranks, neither of which has it just now.
      const Nanos pause = std::min(kFirstPause << std::min(pending->searches, 8), kLongestPause);
      executor_.post_after(pause, [this, alive = alive_, rank, pending] {
        if (*alive) redirected(rank, pending, kNobody);
      });
    });
  }
  note_home(key, home);
  if (pending->redirects <= kQuickRedirects && home != rank)
    return run_at(home, std::move(pending));
  // It is on its way from one to the other.
  MARK("router.paused");
  int doublings = std::min(std::max(pending->redirects - kQuickRedirects, 0), 5);
  executor_.post_after(std::min(kFirstPause << doublings, kLongestPause),
                       [this, alive = alive_, home, pending] {
                         if (*alive) run_at(home, pending);
                       });
}

// All ranks are asked at once. The first that says "mine" counts.
void Router::search(Ino ino, std::move_only_function<void(RankId)> done) {
  auto gathering = std::make_shared<Gathering>();
  auto answer = std::make_shared<std::move_only_function<void(RankId)>>(std::move(done));
  std::vector<RankId> ranks = map_().ranks;
  gathering->left = ranks.size();
  if (ranks.empty()) return (*answer)(kNobody);
  for (RankId rank : ranks) {
    remote(rank).find(ino, [gathering, answer, rank](RankId home) {
      gathering->left--;
      if (!*answer || (home != rank && gathering->left > 0)) return;
      auto tell = std::exchange(*answer, nullptr);
      tell(home == rank ? rank : kNobody);
    });
  }
}

// The answer is there, but for the attributes of an inode that lives elsewhere.
void Router::complete(PendingPtr pending, Reply reply) {
  const Ino ino = reply.stat.ino;
  note_home(ino, reply.home);
  // It is held where it lives; there it has to be claimed.
  if (reply.orphaned && reply.home != kNobody) remote(reply.home).add_hold(ino, {.nameless = true});
  auto more = std::make_shared<Pending>();
  more->cred = pending->cred;
  auto* create = std::get_if<CreateArgs>(&pending->args);
  if (create)
    more->args = OpenArgs{ino, create->flags};
  else
    more->args = GetattrArgs{ino};
  auto first = std::make_shared<Reply>(std::move(reply));
  more->done = [this, pending, first](Reply whole) {
    completed(pending, std::move(*first), std::move(whole));
  };
  if (first->home == kNobody) return redirected(kNobody, std::move(more), kNobody);
  run_at(first->home, std::move(more));
}

void Router::completed(PendingPtr pending, Reply first, Reply whole) {
  const bool looked = std::holds_alternative<LookupArgs>(pending->args) ||
                      std::holds_alternative<LookupParentArgs>(pending->args) ||
                      std::holds_alternative<CreateArgs>(pending->args);
  if (whole.err == ESTALE && looked && ++pending->redirects <= kMaxRedirects) {
    // The name leads elsewhere by now.
    MARK("router.looked_again");
    executor_.post_after(kFirstPause, [this, alive = alive_, pending] {
      if (*alive) run(pending);
    });
    return;
  }
  if (looked && whole.err) {
    first = Reply{};
    first.err = whole.err;
  } else if (!whole.err) {
    if (first.orphaned && first.home != whole.home) {
      if (first.home != kNobody) (void)remote(first.home).take_hold(first.stat.ino);
      remote(whole.home).add_hold(first.stat.ino, {.nameless = true});
    }
    first.stat = whole.stat;
    first.home = whole.home;
  }
  first.partial = false;
  finish(pending, std::move(first));
}

// Every rank where something of this session is not durable yet.
void Router::sync_all(PendingPtr pending) {
  auto gathering = std::make_shared<Gathering>();
  std::vector<Remote*> concerned;
  for (auto& [rank, remote] : remotes_)
    if (remote->has_undurable()) concerned.push_back(remote.get());
  if (concerned.empty()) concerned.push_back(&remote(map_().root));
  gathering->left = concerned.size();
  for (Remote* remote : concerned) {
    remote->call(pending->cred, SyncArgs{}, [gathering, pending](Reply reply) {
      if (reply.err) gathering->err = reply.err;
      if (--gathering->left > 0) return;
      reply.err = gathering->err;
      pending->done(std::move(reply));
    });
  }
}

}  // namespace graftfs
