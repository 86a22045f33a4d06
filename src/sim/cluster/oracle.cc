#include "sim/cluster/oracle.h"

#include <fmt/format.h>

#include "server/authority.h"
#include "sim/describe.h"

namespace graftfs::sim {

void ClusterOracle::fail(std::string what) {
  if (!failure_.empty()) return;
  failure_ = fmt::format("at step {} (time {:.6f} s): {}", queue_.steps(),
                         static_cast<double>(queue_.now()) / 1e9, what);
}

// As `judge`, but where an operation fails for two reasons, either may be told: what is known to
// several ranks together only comes after each one's own reasons.
std::string ClusterOracle::apply(Model& model, const Done& d, Expected& expected) {
  const bool either = std::holds_alternative<RenameArgs>(d.request.args) ||
                      std::holds_alternative<LinkArgs>(d.request.args);
  if (!either || d.reply.err == 0) return judge(model, d, expected);
  // What was refused has changed nothing, also where the model would have carried it out.
  Model same = model;
  std::string wrong = judge(same, d, expected);
  if (wrong.empty()) return wrong;
  same = model;
  same.check_others_last(true);
  if (judge(same, d, expected).empty()) wrong.clear();
  return wrong;
}

std::string ClusterOracle::judge(Model& model, const Done& d, Expected& expected) {
  const bool logged = d.lsn.v != 0;
  expected = model.execute(d.request, d.reply, logged, d.now, d.with_others);
  Reply reply = d.reply;
  // The attributes are another rank's to tell; the client asks that one.
  if (reply.partial && expected.has_stat) {
    if (reply.stat.ino != expected.stat.ino) return "it names another inode";
    reply.stat = expected.stat;
  }
  // What is removed for good the model does not know any more; a rank may, for a moment.
  if (expected.err == ESTALE && reply.err == ENOENT) return {};
  std::string wrong = difference(expected, reply, logged);
  // A participant may do its part behind what this took for later. Where the clocks differ the time
  // that it brings is the later one all the same, and stays.
  auto brought = brought_.find(reply.stat.ino);
  if (!wrong.empty() && brought != brought_.end() && expected.stat.mtime < brought->second &&
      reply.stat.mtime == brought->second) {
    reply.stat.mtime = expected.stat.mtime;
    if (reply.stat.ctime == brought->second) reply.stat.ctime = expected.stat.ctime;
    wrong = difference(expected, reply, logged);
  }
  if (wrong.empty() && reply.err == ESTALE && expected.err != ESTALE) {
    // Nobody holds a nameless inode here for longer than a moment.
    bool orphan = false;
    for (const Part& part : expected.shown) orphan |= model.is_orphan(part.ino);
    if (!orphan) return "an inode that has a name is gone";
  }
  return wrong;
}

// What a participant has said is a moment old when the coordinator answers.
bool ClusterOracle::was_right(const Done& done, uint64_t since) {
  Model model = start_;
  auto right = [&] {
    Model then = model;
    Expected expected;
    return apply(then, done, expected).empty();
  };
  size_t next = 0;
  for (; next < history_.size() && history_[next].order <= since; ++next) {
    Expected expected;
    (void)apply(model, history_[next], expected);
  }
  for (; !right(); ++next) {
    if (next == history_.size()) return false;
    Expected expected;
    (void)apply(model, history_[next], expected);
  }
  return true;
}

// Where the source has gone meanwhile, too, a rename may be refused for either.
bool ClusterOracle::names_what_is_not_empty(const Done& done) const {
  const auto* rename = std::get_if<RenameArgs>(&done.request.args);
  if (!rename || done.reply.err != ENOTEMPTY) return false;
  const ModelNode* dir = now_.find(rename->new_dir);
  if (!dir || !dir->names.contains(rename->new_name)) return false;
  const ModelNode* target = now_.find(dir->names.at(rename->new_name));
  return target && !target->names.empty();
}

void ClusterOracle::asked(int32_t call, SessionId session, bool sync) {
  Call& c = calls_[call];
  c.session = session;
  c.sync = sync;
  c.asked_at = orders_;
  if (sync) c.covers = told_[session];
}

void ClusterOracle::executed(Owner owner, const graftfs::Executed& e) {
  if (!failure_.empty()) return;
  const Request& request = e.request;
  Call& call = calls_[request.cred.pid];
  const bool is_void = owner.epoch < epochs_[owner.rank];
  if (print_)
    fmt::print("{:>7} rank {}{}: call {}, {} -> errno {} ino {:#x} event {}{}\n", queue_.steps(),
               owner.rank.v, is_void ? " (fenced)" : "", request.cred.pid,
               describe_request(request), e.reply.err, e.reply.stat.ino.v, e.lsn.v,
               e.reply.orphaned ? ", nameless" : "");
  if (is_void) {
    ++void_;
    call.is_void.insert({owner.process, owner.rank});
    return;
  }
  ++executions_;
  call.is_valid = true;
  call.is_void.erase({owner.process, owner.rank});
  // docs/protocols/two_party.md: exchange with a directory of a third rank.
  const auto* rename = std::get_if<RenameArgs>(&request.args);
  if (e.reply.err == EXDEV && rename && rename->flags == 2) return;
  if (request.seq && e.lsn && !done_.insert({owner.rank, request.session, request.seq}).second)
    return fail(fmt::format("{} (session {:x}, seq {}) was carried out twice at rank {}",
                            describe_request(request), request.session.v, request.seq,
                            owner.rank.v));
  // It was there twice, and the first time it failed.
  if (request.seq && e.lsn && call.answered && !call.lsn && !owed_.contains(request.cred.pid))
    return fail(
        fmt::format("{} (session {:x}, seq {}) was carried out at rank {} after its client "
                    "had been told that it had failed",
                    describe_request(request), request.session.v, request.seq, owner.rank.v));
  Done done{owner.rank, e.lsn, 0, request, e.reply, e.now, e.with_others};
  Expected expected;
  Model before;
  const bool maybe_late = e.asked_others && e.reply.err != 0;
  if (maybe_late) before = now_;
  std::string wrong = apply(now_, done, expected);
  if (!wrong.empty() && maybe_late) {
    now_ = std::move(before);
    if (was_right(done, call.asked_at) || names_what_is_not_empty(done)) return;
  }
  if (!wrong.empty())
    return fail(fmt::format("{} (session {:x}, seq {}) at rank {}: {}", describe_request(request),
                            request.session.v, request.seq, owner.rank.v, wrong));
  // Attributes that another rank completes the answer with change nothing of what was done for it.
  if (!e.lsn && call.lsn) return;
  call.rank = owner.rank;
  call.reveals = reveals(done, expected);
  call.lsn = e.lsn;
  if (!e.lsn) return;
  call.lost = false;
  across_ += e.with_others;
  if (e.with_others)
    for (const Part& part : expected.changed) brought_[part.ino] = e.now;
  owed_.erase(request.cred.pid);
  done.order = ++orders_;
  note_marks(done, expected);
  if (call.answered) told_[call.session][owner.rank] = e.lsn;
  history_.push_back(std::move(done));
}

void ClusterOracle::note_marks(const Done& done, const Expected& expected) {
  for (const Part& part : expected.changed) {
    for (const Part& changed : {part, part.whole()}) {
      Mark& m = marks_[changed];
      if (m.rank != done.rank || m.session != done.request.session)
        m = {done.rank, m.last, m.rank == done.rank ? m.last : Lsn{}, done.request.session};
      m.last = done.lsn;
    }
  }
}

// The newest event of this rank that has to be durable before the reply may be shown.
Lsn ClusterOracle::reveals(const Done& done, const Expected& expected) const {
  Lsn newest;
  for (const Part& part : expected.shown) {
    auto it = marks_.find(part);
    if (it == marks_.end() || it->second.rank != done.rank || now_.is_orphan(part.ino)) continue;
    const bool own = durability_ == Durability::posix && it->second.session == done.request.session;
    newest = std::max(newest, own ? it->second.other : it->second.last);
  }
  return newest;
}

// What was sent to an owner may be carried out by it after it has lost the rank, and after the one
// behind it has carried it out, too, and answers: what counts is who answers.
void ClusterOracle::answered(int32_t number, int err, std::optional<Speaker> by) {
  auto at = calls_.find(number);
  if (at == calls_.end() || !failure_.empty()) return;
  Call& call = at->second;
  // (ESTALE is what the client says by itself, where no rank knows the inode.)
  const bool is_void = by ? call.is_void.contains(*by) : !call.is_void.empty() && !call.is_valid;
  if (is_void && err != EIO && err != ESTALE)
    return fail(fmt::format("a client was answered (errno {}) by who had lost the rank", err));
  if (err == EIO) return;  // it may have been carried out, or will be
  call.answered = true;
  if (call.sync && err == 0) {
    for (auto [rank, lsn] : call.covers) durable_[rank] = std::max(durable_[rank], lsn);
    return;
  }
  durable_[call.rank] = std::max(durable_[call.rank], call.reveals);
  // The rank's answer had left before; what was asked of another one completes it only now.
  if (call.lost && err == 0) owed_[number] = call.session;
  if (!call.lsn) return;
  promised_[call.rank] = std::max(promised_[call.rank], call.lsn);
  if (durability_ == Durability::strict)
    durable_[call.rank] = std::max(durable_[call.rank], call.lsn);
  Lsn& told = told_[call.session][call.rank];
  told = std::max(told, call.lsn);
}

// Whoever changes something has it recalled first, from everybody else; and what this client
// changes itself it does not answer until that is answered. So there is no moment but this one.
void ClusterOracle::from_cache(const Request& request, const Reply& reply) {
  if (!failure_.empty()) return;
  // What it was answered, and a machine has lost, is so for this client: it sends it again.
  for (const auto& [call, session] : owed_)
    if (session == request.session) return;
  ++cached_;
  Expected expected;
  Done done;
  done.request = request;
  done.reply = reply;
  std::string wrong = judge(now_, done, expected);
  if (!wrong.empty())
    fail(fmt::format("{} was answered from the cache of session {:x}: {}",
                     describe_request(request), request.session.v, wrong));
}

void ClusterOracle::recovered(Owner owner, Lsn last) {
  if (!failure_.empty()) return;
  const RankId rank = owner.rank;
  // It was stopped while it took the rank, and has lost it meanwhile: it has no lease for it, and
  // what it has found is nothing.
  if (owner.epoch < epochs_[rank]) return;
  epochs_[rank] = owner.epoch;
  const bool cut = cut_.erase(rank) > 0;
  const Lsn promised = cut ? durable_[rank] : promised_[rank];
  if (last < promised)
    return fail(fmt::format("rank {} has recovered events up to {}, and {} for event {}", rank.v,
                            last.v, cut ? "its machine had promised more" : "a client was answered",
                            promised.v));
  promised_[rank] = std::min(promised_[rank], last);
  for (auto& [session, ranks] : told_)
    if (auto it = ranks.find(rank); it != ranks.end()) it->second = std::min(it->second, last);
  for (auto& [number, call] : calls_) {
    if (call.rank != rank) continue;
    if (call.lsn > last) call.lsn = {};
    if (call.reveals > last) call.reveals = {};
  }
  for (auto& [part, mark] : marks_)
    if (mark.rank == rank) {
      mark.last = std::min(mark.last, last);
      mark.other = std::min(mark.other, last);
    }
  bool lost = false;
  std::erase_if(history_, [&](const Done& d) {
    if (d.rank != rank || d.lsn <= last) return false;
    done_.erase({d.rank, d.request.session, d.request.seq});
    Call& call = calls_[d.request.cred.pid];
    // What changes only times as it reads is asked anew, and may change none then.
    call.lost = d.request.seq != 0;
    if (call.answered && !dead_.contains(call.session)) owed_[d.request.cred.pid] = call.session;
    return lost = true;
  });
  if (!lost) return;
  // What nobody was told of is as if it had never been. What others did since does not rest on it.
  Model model = start_;
  for (const Done& d : history_) {
    Expected expected;
    std::string wrong = apply(model, d, expected);
    if (!wrong.empty())
      return fail(fmt::format("{} at rank {} (event {}) rests on what rank {} has lost: {}",
                              describe_request(d.request), d.rank.v, d.lsn.v, rank.v, wrong));
  }
  now_ = std::move(model);
}

bool ClusterOracle::was_brought(Ino ino, const Timespec& time) const {
  auto at = brought_.find(ino);
  return at != brought_.end() && at->second == time;
}

void ClusterOracle::check_owed() {
  for (auto [call, session] : owed_) {
    if (dead_.contains(session)) continue;
    return fail(
        fmt::format("call {} of session {:x} was answered, lost with a machine, and not "
                    "sent again",
                    call, session.v));
  }
}

void ClusterOracle::check_owners(const std::vector<const Rank*>& serving) {
  if (!failure_.empty()) return;
  std::map<Ino, RankId> owners;
  for (const Rank* rank : serving) {
    rank->cache().for_each_dir([&](const Dir& dir) {
      if (is_hidden_dir(dir.ino()) || dir.is_foreign()) return;
      if (place_of(rank->cache(), rank->state(), dir.ino()).what != Place::ours) return;
      auto [at, fresh] = owners.try_emplace(dir.ino(), rank->id());
      if (!fresh)
        fail(fmt::format("ranks {} and {} both believe that directory {:#x} is theirs",
                         at->second.v, rank->id().v, dir.ino().v));
    });
  }
}

}  // namespace graftfs::sim
