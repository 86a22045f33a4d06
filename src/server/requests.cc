// From a request to its reply.
#include <fcntl.h>

#include <algorithm>

#include "base/fault.h"
#include "server/leases.h"
#include "server/ops/ops.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

// Requests whose effect makes the journal longer; they wait while it is at its cap.
bool changes_tree(const Args& args) {
  return std::holds_alternative<SetattrArgs>(args) || std::holds_alternative<MknodArgs>(args) ||
         std::holds_alternative<MkdirArgs>(args) || std::holds_alternative<CreateArgs>(args) ||
         std::holds_alternative<SymlinkArgs>(args) || std::holds_alternative<LinkArgs>(args) ||
         std::holds_alternative<UnlinkArgs>(args) || std::holds_alternative<RmdirArgs>(args) ||
         std::holds_alternative<RenameArgs>(args) || std::holds_alternative<WroteArgs>(args) ||
         std::holds_alternative<SetxattrArgs>(args) ||
         std::holds_alternative<RemovexattrArgs>(args);
}

// It changes nothing where the file is there.
bool is_create_without_truncation(const Args& args) {
  const auto* create = std::get_if<CreateArgs>(&args);
  return create && !(create->flags & O_TRUNC);
}

// Those of them that are answered ENOSPC while the disk is full.
bool adds(const Args& args) {
  return std::holds_alternative<MknodArgs>(args) || std::holds_alternative<MkdirArgs>(args) ||
         std::holds_alternative<SymlinkArgs>(args) || std::holds_alternative<LinkArgs>(args) ||
         is_create_without_truncation(args);
}

// Shares of the last segment there is: one is for what removes, the other for what the rank itself
// has to log.
constexpr double kKeptFromAdding = 1.0 / 2;
constexpr double kKeptFromAll = 1.0 / 8;

// A request that was run this often without getting what it needs has met a bug or damage.
constexpr int kMaxRuns = 10'000;
// A node whose lease is over says nothing until it has one again.
constexpr Nanos kLookAtLease = 5 * kMillisecond;
// One that was run this often gets to keep what it fetches.
constexpr int kHungryRuns = 16;

template <class... F>
struct Overload : F... {
  using F::operator()...;
};

}  // namespace

void Rank::submit(Request request, ReplyFn done) {
  stats_.requests++;
  if (failed_ || !serving_) {
    Reply reply;
    reply.err = EIO;
    return done(std::move(reply));
  }
  running_++;
  if (std::holds_alternative<SyncArgs>(request.args))
    return tasks_.spawn(sync_request(std::move(done)));
  if (std::holds_alternative<StatfsArgs>(request.args))
    return tasks_.spawn(statfs_request(std::move(done)));
  bool wait = throttled(request.args);
  Need need;
  if (!wait && try_run(request, {}, 0, done, need)) return;
  auto pending = std::make_unique<Pending>();
  pending->request = std::move(request);
  pending->done = std::move(done);
  if (!wait) return park(std::move(need), std::move(pending));
  MARK("rank.throttled");
  stats_.throttled++;
  throttled_.push_back(std::move(pending));
  wake_write_back();
}

bool Rank::throttled(const Args& args) const {
  return changes_tree(args) && !is_refused(args) && (!throttled_.empty() || !has_room(args));
}

// Where there is no space, waiting for it may last for ever. What adds does not wait: it is
// answered ENOSPC (the operations do that).
bool Rank::is_refused(const Args& args) const {
  return (out_of_space_ || journal_->out_of_space()) && adds(args);
}

// Beyond the cap the journal grows only where write-back finds no space: removing is what makes
// some.
bool Rank::has_room(const Args& args) const {
  if (journal_->awaits_segment(adds(args) ? kKeptFromAdding : kKeptFromAll)) return false;
  return journal_->live_bytes() < journal_cap_ || (out_of_space_ && !journal_->out_of_space());
}

void Rank::resume_throttled() {
  std::deque<PendingPtr> waiting = std::exchange(throttled_, {});
  while (!waiting.empty()) {
    PendingPtr pending = std::move(waiting.front());
    waiting.pop_front();
    if (failed_ || is_refused(pending->request.args) || has_room(pending->request.args))
      run(std::move(pending));
    else
      throttled_.push_back(std::move(pending));
  }
}

void Rank::run(PendingPtr pending) {
  if (pending->runs++ > 0) stats_.retries++;
  CHECK(pending->runs < kMaxRuns, "{} never gets what it needs", op_name(pending->request.args));
  if (pending->runs == kHungryRuns) {
    MARK("rank.hungry");
    pending->hungry = true;
    hungry_++;
  }
  Need need;
  if (!try_run(pending->request, pending->absent, pending->two_party, pending->done, need))
    return park(std::move(need), std::move(pending));
  if (pending->hungry) hungry_--;
}

// A piece is fetched; for everything else somebody calls wake().
void Rank::park(Need need, PendingPtr pending) {
  if (need.kind < Need::frozen) return fetch(std::move(need), std::move(pending));
  if (need.kind == Need::two_party) {
    pending->two_party = need.from;
  } else if (pending->two_party && need.kind != Need::recall) {
    // Who has asked others to be ready does not wait for what somebody else has marked.
    two_party_->yield(pending->two_party);
  }
  pending->runs = 0;        // what it waits for is no piece that it does not get
  pending->absent.clear();  // and what was elsewhere may have come here by then
  parked_[std::move(need)].push_back(std::move(pending));
  if (ending_) fail_waiting(EIO);
}

void Rank::wake(const Need& need) {
  auto node = parked_.extract(need);
  if (node.empty()) return;
  for (PendingPtr& pending : node.mapped()) run(std::move(pending));
}

std::vector<Need> Rank::waiting() const {
  std::vector<Need> needs;
  for (const auto& [need, waiting] : parked_) needs.push_back(need);
  for (const auto& [need, waiting] : fetching_) needs.push_back(need);
  return needs;
}

// What waits for others, at the end of this rank.
void Rank::fail_waiting(int err) {
  auto parked = std::exchange(parked_, {});
  for (auto& [need, waiting] : parked) {
    for (PendingPtr& pending : waiting) {
      Reply reply;
      reply.err = err;
      if (pending->hungry) hungry_--;
      answered();
      pending->done(std::move(reply));
    }
  }
}

bool Rank::try_run(const Request& request, const std::vector<Absent>& absent, uint64_t two_party,
                   ReplyFn& done, Need& need) {
  Reply reply;
  if (failed_) {
    reply.err = EIO;
    answer({}, {}, std::move(reply), std::move(done));
    return true;
  }
  OpContext context(*this, request, absent, two_party, reply);
  const CompletedRequest* completed = nullptr;
  if (request.seq != 0) {
    auto session = state_.sessions.find(request.session);
    const bool ended = session == state_.sessions.end();
    if (!ended) completed = session->second.find(request.seq);
    // Its session was evicted while it waited; or it came twice, was answered, and has waited
    // since: what it did is forgotten, and must not be done again.
    if (ended || (!completed && request.seq < session->second.oldest)) {
      MARK("rank.request_out_of_date");
      reply.err = EIO;
      if (two_party) two_party_->ended(two_party);
      answer({}, {}, std::move(reply), std::move(done));
      return true;
    }
  }
  const bool first = !completed || !held_for_[request.session].contains(request.seq);
  Outcome outcome =
      completed ? answer_again(context, *completed, first) : dispatch(context, request.args);
  if (!outcome && outcome.error().ask) outcome = redirect(context, request, outcome.error());
  if (!outcome) {
    Stop& stop = outcome.error();
    if (stop.need.kind != Need::none) {
      need = std::move(stop.need);
      return false;
    }
    reply = Reply{};
    reply.err = stop.err;
    if (stop.ask) {
      reply.err = kAskRank;
      reply.home = *stop.ask;
    }
  } else if (!reply.partial) {
    reply.home = options_.rank;
  }
  reply.lsn = context.logged();
  Lsn written = context.show_written(), durable = context.show_durable();
  if (options_.executed && !completed && reply.err != kAskRank)
    options_.executed({.request = request,
                       .reply = reply,
                       .lsn = context.logged(),
                       .now = context.now(),
                       .asked_others = two_party != 0,
                       .with_others = context.with_others()});
  if (leases_->lines()) leases_->give(request, reply, durable);
  if (completed) {
    // The answer that waits for its event may be on its way to a connection that is gone, and this
    // one must wait as that does; and the client must know that a crash may undo what it tells. Of
    // which event nobody remembers: of none behind this one.
    reply.lsn = journal_->appended();
    Lsn& wait = options_.durability == Durability::strict ? durable : written;
    wait = std::max(wait, reply.lsn);
  }
  const bool holds = reply.orphaned || std::holds_alternative<CreateArgs>(request.args);
  if (holds && (context.logged() || completed)) note_held(request);
  if (two_party) two_party_->ended(two_party);
  // Also where the attributes are another rank's to tell: if a crash takes it back the client has
  // it done again, at the time that it was told.
  if (reply.lsn && reply.stat.ctime == Timespec{}) reply.stat.ctime = context.now();
  answer(written, durable, std::move(reply), std::move(done));
  return true;
}

// Something is another rank's. What counts is the key of the request: where that is ours the
// operation concerns several authorities.
Outcome Rank::redirect(OpContext& cx, const Request& request, const Stop& stop) {
  const Ino key = key_ino(request.args);
  if (stop.of == key) return std::unexpected(stop);
  auto target = cx.inode(key);
  if (!target) return std::unexpected(target.error());
  return graftfs::stop(EXDEV);
}

Outcome Rank::dispatch(OpContext& cx, const Args& args) {
  return std::visit(Overload{[&](const LookupArgs& a) { return ops::lookup(cx, a); },
                             [&](const LookupParentArgs& a) { return ops::lookup_parent(cx, a); },
                             [&](const GetattrArgs& a) { return ops::getattr(cx, a); },
                             [&](const SetattrArgs& a) { return ops::setattr(cx, a); },
                             [&](const MknodArgs& a) { return ops::mknod(cx, a); },
                             [&](const MkdirArgs& a) { return ops::mkdir(cx, a); },
                             [&](const CreateArgs& a) { return ops::create(cx, a); },
                             [&](const SymlinkArgs& a) { return ops::symlink(cx, a); },
                             [&](const ReadlinkArgs& a) { return ops::readlink(cx, a); },
                             [&](const LinkArgs& a) { return ops::link(cx, a); },
                             [&](const UnlinkArgs& a) { return ops::unlink(cx, a); },
                             [&](const RmdirArgs& a) { return ops::rmdir(cx, a); },
                             [&](const RenameArgs& a) { return ops::rename(cx, a); },
                             [&](const OpenArgs& a) { return ops::open(cx, a); },
                             [&](const ReleaseArgs& a) { return ops::release(cx, a); },
                             [&](const WroteArgs& a) { return ops::wrote(cx, a); },
                             [&](const ReadArgs& a) { return ops::read(cx, a); },
                             [&](const ReaddirArgs& a) { return ops::readdir(cx, a); },
                             [&](const GetxattrArgs& a) { return ops::getxattr(cx, a); },
                             [&](const ListxattrArgs& a) { return ops::listxattr(cx, a); },
                             [&](const SetxattrArgs& a) { return ops::setxattr(cx, a); },
                             [&](const RemovexattrArgs& a) { return ops::removexattr(cx, a); },
                             [&](const AccessArgs& a) { return ops::access(cx, a); },
                             [&](const LockArgs& a) { return ops::lock(cx, a); },
                             [&](const StatfsArgs&) -> Outcome { return graftfs::stop(EINVAL); },
                             [&](const SyncArgs&) -> Outcome { return graftfs::stop(EINVAL); }},
                    args);
}

// The request was carried out, and its answer may have been lost: it is told the result, with the
// attributes as they are now.
Outcome Rank::answer_again(OpContext& cx, const CompletedRequest& completed, bool hold) {
  MARK("rank.answered_again");
  Reply& reply = cx.reply();
  reply.created = completed.flags & kResultCreated;
  reply.orphaned = completed.flags & kResultOrphaned;
  if (!completed.result) return {};
  auto target = cx.inode(completed.result);
  if (target) {
    reply.stat = target->inode();
    if (!hold) return {};
    if (std::holds_alternative<CreateArgs>(cx.request().args)) cx.hold(completed.result, 1);
    if (reply.orphaned) cx.hold(completed.result, 0);
    return {};
  }
  if (target.error().need.kind != Need::none) return std::unexpected(target.error());
  reply.stat.ino = completed.result;
  if (target.error().ask) {  // it lives elsewhere since
    reply.partial = true;
    reply.home = *target.error().ask;
  }  // else it is gone
  return {};
}

// -- replies ------------------------------------------------------------------------------------

void Rank::answer(Lsn written, Lsn durable, Reply&& reply, ReplyFn&& done) {
  if (durable > journal_->durable()) {
    wait_durable_.push_back({written, durable, std::move(reply), std::move(done)});
    if (options_.durability == Durability::posix) journal_->want_sync();
  } else if (written > journal_->written() || !may_speak()) {
    wait_written_.push_back({written, durable, std::move(reply), std::move(done)});
  } else {
    answered();
    done(std::move(reply));
  }
}

bool Rank::may_speak() {
  if (!peers_ || peers_->lease_valid()) return true;
  if (std::exchange(speaking_later_, true)) return false;
  executor_.post_after(kLookAtLease, [this, alive = alive_] {
    if (!*alive) return;
    speaking_later_ = false;
    if (!failed_) release_replies();
  });
  return false;
}

void Rank::say_when(Lsn durable, Fn send) {
  if (failed_) return;
  if (durable <= journal_->durable() && may_speak()) return send();
  // Behind whatever has logged it, which may log more: one sync does for all of that.
  if (durable > journal_->durable())
    executor_.post([this, alive = alive_] {
      if (*alive && !failed_) journal_->want_sync();
    });
  sayings_.emplace(durable, std::move(send));
}

void Rank::release_replies() {
  if ((!sayings_.empty() || !wait_written_.empty() || !wait_durable_.empty()) && !may_speak())
    return;
  while (!sayings_.empty() && sayings_.begin()->first <= journal_->durable()) {
    Fn send = std::move(sayings_.extract(sayings_.begin()).mapped());
    send();
  }
  auto release = [this](std::deque<WaitingReply>& queue, auto ready) {
    while (!queue.empty() && ready(queue.front())) {
      WaitingReply waiting = std::move(queue.front());
      queue.pop_front();
      answered();
      waiting.done(std::move(waiting.reply));
    }
  };
  release(wait_written_, [&](const WaitingReply& w) { return w.written <= journal_->written(); });
  release(wait_durable_, [&](const WaitingReply& w) {
    return w.durable <= journal_->durable() && w.written <= journal_->written();
  });
}

void Rank::fail_replies(int err) {
  auto fail_all = [&](std::deque<WaitingReply>& queue) {
    while (!queue.empty()) {
      WaitingReply waiting = std::move(queue.front());
      queue.pop_front();
      answered();
      Reply reply;
      reply.err = err;
      waiting.done(std::move(reply));
    }
  };
  fail_all(wait_written_);
  fail_all(wait_durable_);
  resume_throttled();
}

// -- requests that only ask the store -----------------------------------------------------------

Task<void> Rank::sync_request(ReplyFn done) {
  auto synced = co_await journal_->sync();
  Reply reply;
  if (!synced) reply.err = synced.error().code == ENOSPC ? ENOSPC : EIO;
  answered();
  done(std::move(reply));
}

Task<void> Rank::statfs_request(ReplyFn done) {
  auto usage = co_await store_.usage();
  Reply reply;
  if (usage) {
    reply.statfs = StatfsReply{usage->block_size,       usage->blocks, usage->blocks_free,
                               usage->blocks_available, usage->files,  usage->files_free};
  } else {
    reply.err = usage.error().code;
  }
  answered();
  done(std::move(reply));
}

}  // namespace graftfs
