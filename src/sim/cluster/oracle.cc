#include "sim/cluster/oracle.h"

#include <fmt/format.h>

#include "server/authority.h"

namespace graftfs::sim {

void ClusterOracle::fail(std::string what) {
  if (!failure_.empty()) return;
  failure_ = fmt::format("at step {} (time {:.6f} s): {}", queue_.steps(),
                         static_cast<double>(queue_.now()) / 1e9, what);
}

std::string ClusterOracle::apply(Model& model, const Executed& e, Expected& expected) {
  const bool logged = e.lsn.v != 0;
  expected = model.execute(e.request, e.reply, logged, e.now);
  Reply reply = e.reply;
  // The attributes are another rank's to tell; the client asks that one.
  if (reply.partial && expected.has_stat) {
    if (reply.stat.ino != expected.stat.ino) return "it names another inode";
    reply.stat = expected.stat;
  }
  std::string wrong = difference(expected, reply, logged);
  if (wrong.empty() && reply.err == ESTALE && expected.err != ESTALE) {
    // Nobody holds a nameless inode here for longer than a moment.
    bool orphan = false;
    for (Ino ino : expected.shown) orphan |= model.is_orphan(ino);
    if (!orphan) return "an inode that has a name is gone";
  }
  return wrong;
}

void ClusterOracle::executed(RankId rank, const Request& request, const Reply& reply, Lsn lsn) {
  if (!failure_.empty()) return;
  ++executions_;
  if (reply.err == EXDEV && !lsn) {
    ++refused_across_;
    return;
  }
  if (request.seq && lsn && !done_.insert({rank, request.session, request.seq}).second)
    return fail(fmt::format("{} (session {:x}, seq {}) was carried out twice at rank {}",
                            op_name(request.args), request.session.v, request.seq, rank.v));
  Executed e{rank, lsn, request, reply, queue_.wall_now()};
  Expected expected;
  std::string wrong = apply(now_, e, expected);
  if (!wrong.empty())
    return fail(fmt::format("{} (session {:x}, seq {}) at rank {}: {}", op_name(request.args),
                            request.session.v, request.seq, rank.v, wrong));
  if (lsn) {
    calls_[request.cred.pid] = {rank, lsn};
    history_.push_back(std::move(e));
  }
}

void ClusterOracle::answered(int32_t call) {
  auto at = calls_.find(call);
  if (at == calls_.end()) return;
  auto [rank, lsn] = at->second;
  promised_[rank] = std::max(promised_[rank], lsn);
  calls_.erase(at);
}

void ClusterOracle::recovered(RankId rank, Lsn last) {
  if (!failure_.empty()) return;
  if (last < promised_[rank])
    return fail(
        fmt::format("rank {} has recovered events up to {}, and a client was answered for "
                    "event {}",
                    rank.v, last.v, promised_[rank].v));
  bool lost = false;
  std::erase_if(history_, [&](const Executed& e) {
    if (e.rank != rank || e.lsn <= last) return false;
    done_.erase({e.rank, e.request.session, e.request.seq});
    calls_.erase(e.request.cred.pid);
    return lost = true;
  });
  if (!lost) return;
  // What nobody was told of is as if it had never been. What others did since does not rest on it.
  Model model = start_;
  for (const Executed& e : history_) {
    Expected expected;
    std::string wrong = apply(model, e, expected);
    if (!wrong.empty())
      return fail(fmt::format("{} at rank {} (event {}) rests on what rank {} has lost: {}",
                              op_name(e.request.args), e.rank.v, e.lsn.v, rank.v, wrong));
  }
  now_ = std::move(model);
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
