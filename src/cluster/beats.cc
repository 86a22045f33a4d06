#include "cluster/beats.h"

#include <fmt/format.h>

#include "base/fault.h"
#include "store/fence.h"

namespace graftfs::cluster {
namespace {

// A record that has been dead for so many leases, and has no ranks in the table, is removed.
constexpr int kForgetAfterLeases = 30;

}  // namespace

Beats::Beats(Executor& executor, StateStore& state, NodeRecord me, BeatOptions options)
    : executor_(executor),
      state_(state),
      me_(std::move(me)),
      options_(std::move(options)),
      lease_(options_.lease),
      watch_(options_.lease) {
  me_.lease_ms = static_cast<uint32_t>(options_.lease / kMillisecond);
}

Task<void> Beats::run() {
  while (!stopped_) {
    Nanos begin = executor_.now();
    (void)co_await round();
    Nanos left = options_.lease / 4 - (executor_.now() - begin);
    if (!stopped_) co_await sleep_for(executor_, std::max(left, kMillisecond));
  }
}

Task<bool> Beats::beat_now() {
  // The one under way may have read what has changed since.
  while (busy_) co_await sleep_for(executor_, kMillisecond);
  co_return co_await round();
}

Task<bool> Beats::round() {
  if (busy_ || stopped_) co_return false;
  busy_ = true;
  Nanos begin = options_.clock();
  KILL_POINT("cluster.beat.before");
  Result<void> renewed = co_await renew();
  if (renewed) {
    lease_.renewed(begin);
    lease_end_ = lease_.end();
  } else if (renewed.error().code == ESTALE) {
    lose(renewed.error().message);
  } else {
    MARK("cluster.beat.missed");
  }
  KILL_POINT("cluster.beat.after");
  if (!stopped_) {
    Result<void> seen = co_await look();
    if (!seen) MARK("cluster.look.failed");
    if (seen && looked) looked();
  }
  busy_ = false;
  co_return renewed.has_value();
}

void Beats::lose(const std::string& why) {
  MARK("cluster.lease.lost");
  lease_.lost();
  lease_end_ = 0;
  stopped_ = true;
  if (lost) lost(why);
}

// ESTALE: this node is over.
Task<Result<void>> Beats::renew() {
  ++me_.beat;
  std::string key = node_key(me_.id), value = encode(me_);
  auto set = co_await state_.set(key, record_version_, value);
  if (!set) {
    if (set.error().code != ESTALE) co_return std::unexpected(set.error());
    // Nobody else writes it; an earlier try may have been carried out after all, or the record was
    // taken for that of one who had died long ago.
    CO_TRY_ASSIGN(StateValue there, co_await state_.get(key));
    record_version_ = there.version;
    co_return fail(EAGAIN, "the node's record was changed");
  }
  record_version_ = *set;
  auto owned = owned_;
  for (auto [rank, epoch] : owned) {
    std::string fence = fence_key(rank);
    CO_TRY_ASSIGN(StateValue found, co_await state_.get(fence));
    CO_TRY_ASSIGN(FenceRecord record, decode_fence(found.value, rank));
    // It may have been given up, or raised, meanwhile.
    auto now = owned_.find(rank);
    if (now == owned_.end() || record.epoch <= now->second) continue;
    co_return fail(ESTALE,
                   fmt::format("rank {} was taken by node {:016x}, because this process was "
                               "not heard of for too long",
                               rank, record.node));
  }
  co_return Result<void>{};
}

Task<Result<void>> Beats::look() {
  std::string prefix(kNodePrefix);
  Nanos begin = options_.clock();
  CO_TRY_ASSIGN(auto records, co_await state_.list(prefix));
  std::string table_key = kTableKey;
  CO_TRY_ASSIGN(StateValue found, co_await state_.get(table_key));
  CO_TRY_ASSIGN(Table table, decode_table(found.value));
  if (found.version >= table_version_) {
    table_ = std::move(table);
    table_version_ = found.version;
  }
  std::vector<Watch::Sighting> seen;
  std::map<NodeId, NodeRecord> nodes;
  for (const auto& [key, value] : records) {
    auto record = decode_node(key, value.value);
    if (!record) {
      // Torn by a power cut, which has ended whoever wrote it.
      MARK("cluster.node.torn");
      if (key != node_key(me_.id)) CO_TRY(co_await state_.remove(key));
      continue;
    }
    seen.push_back({record->id, value.version});
    nodes[record->id] = std::move(*record);
  }
  nodes_ = std::move(nodes);
  std::vector<NodeId> dead = watch_.look(begin, seen);
  for (NodeId node : dead) {
    MARK("cluster.node.died");
    if (died && node != me_.id) died(node);
  }
  Nanos forget = kForgetAfterLeases * options_.lease;
  for (const auto& sighting : seen) {
    NodeId node = sighting.node;
    if (node == me_.id || !watch_.is_dead(node) || table_.run_by(node) > 0 ||
        begin - watch_.dead_since(node) < forget)
      continue;
    MARK("cluster.node.forgotten");
    std::string key = node_key(node);
    CO_TRY(co_await state_.remove(key));
  }
  co_return Result<void>{};
}

Task<Result<void>> Beats::leave() {
  stopped_ = true;
  while (busy_) co_await sleep_for(executor_, kMillisecond);
  lease_end_ = 0;
  std::string key = node_key(me_.id);
  co_return co_await state_.remove(key);
}

void Beats::own(RankId rank, Epoch epoch, std::vector<std::string> addresses) {
  owned_[rank] = epoch;
  me_.addresses[rank] = std::move(addresses);
}

void Beats::disown(RankId rank) {
  owned_.erase(rank);
  me_.addresses.erase(rank);
}

Task<Result<void>> Beats::change_table(std::function<Result<bool>(Table&)> change) {
  std::string key = kTableKey;
  for (;;) {
    CO_TRY_ASSIGN(StateValue found, co_await state_.get(key));
    CO_TRY_ASSIGN(Table table, decode_table(found.value));
    CO_TRY_ASSIGN(bool changed, change(table));
    if (changed) {
      std::string value = encode(table);
      auto set = co_await state_.set(key, found.version, value);
      if (!set && set.error().code == ESTALE) {
        MARK("cluster.table.again");
        continue;
      }
      if (!set) co_return std::unexpected(set.error());
      found.version = *set;
    }
    if (found.version >= table_version_) {
      table_ = std::move(table);
      table_version_ = found.version;
    }
    co_return Result<void>{};
  }
}

std::vector<Member> Beats::living() const {
  std::vector<Member> members;
  for (const auto& [id, record] : nodes_) {
    if (id != me_.id && watch_.is_dead(id)) continue;
    members.push_back({id, id == me_.id ? me_.standby : record.standby, table_.run_by(id)});
  }
  return members;
}

const NodeRecord* Beats::node_of(RankId rank) const {
  const TableRank* line = table_.find(rank);
  if (!line || line->node == 0 || (line->node != me_.id && watch_.is_dead(line->node)))
    return nullptr;
  auto it = nodes_.find(line->node);
  return it == nodes_.end() ? nullptr : &it->second;
}

Task<Result<OwnOptions>> Beats::take_from(RankId rank) const {
  const TableRank* line = table_.find(rank);
  if (!line) co_return fail(ESTALE, fmt::format("rank {} was removed", rank));
  OwnOptions options;
  options.node = me_.id;
  options.from = line->epoch;
  NodeId last = line->node;
  std::string key = fence_key(rank);
  CO_TRY_ASSIGN(StateValue found, co_await state_.get(key));
  CO_TRY_ASSIGN(FenceRecord fence, decode_fence(found.value, rank));
  if (fence.epoch > *options.from) {
    // Somebody has begun to take it who has not come to the table: it will, or has died of it.
    MARK("cluster.take.left_half_done");
    last = fence.node == me_.id ? 0 : fence.node;
    options.from = fence.epoch;
    std::string record = node_key(last);
    CO_TRY_ASSIGN(StateValue lives, co_await state_.get(record));
    const bool unseen = watch_.last_beat(last) == 0 && !lives.value.empty();
    if (last != 0 && (watch_.is_alive(last) || unseen))
      co_return fail(ESTALE, fmt::format("rank {} is being taken by node {:016x}", rank, last));
  }
  if (last == 0) co_return options;
  options.mode = OwnMode::take;
  options.lease = watch_.patience();
  options.beat = node_key(last);
  options.beat_version = watch_.last_beat(last);
  co_return options;
}

}  // namespace graftfs::cluster
