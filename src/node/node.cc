#include "node/node.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "base/fault.h"
#include "net/keys.h"
#include "node/balance.h"
#include "store/fence.h"

namespace graftfs::node {
namespace {

constexpr char kRevokedPrefix[] = "cluster/keys/revoked-";
constexpr Nanos kHandOverPause = 100 * kMillisecond;
// A process that dies gives its connections back before its locks.
constexpr int kProofTries = 5;
constexpr Nanos kProofPause = 20 * kMillisecond;

Nanos boot_time() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

uint64_t random_id() {
  SystemRandom random;
  uint64_t id = random.next();
  return id ? id : 1;
}

}  // namespace

Node::Node(EventLoop& loop, BlockingPool& pool, std::shared_ptr<Volume> volume, NodeOptions options)
    : loop_(loop),
      pool_(pool),
      volume_(std::move(volume)),
      options_(std::move(options)),
      id_(random_id()),
      machine_(this_machine()),
      inside_(hub_, loop),
      outside_(loop) {
  if (!options_.clock) options_.clock = boot_time;
}

Node::~Node() {
  *alive_ = false;
  volume_->when_stuck(0, nullptr);
  tasks_.cancel_all();
  hosts_.clear();
  former_.clear();
}

// -- start and stop -----------------------------------------------------------------------------

Task<Result<void>> Node::start() {
  CO_TRY_ASSIGN(store_, volume_->use(loop_, pool_));
  cluster::NodeRecord me;
  me.id = id_;
  me.machine = machine_;
  me.pid = ::getpid();
  me.started = started_at(me.pid);
  me.standby = options_.standby;
  cluster::BeatOptions beat;
  beat.lease = options_.lease;
  beat.clock = options_.clock;
  beats_ = std::make_unique<cluster::Beats>(loop_, store_->state(), me, beat);
  beats_->died = [this](cluster::NodeId node) {
    say(fmt::format("node {:016x} is dead: it has not been heard of for {:.1f} s", node,
                    static_cast<double>(beats_->watch().patience()) / kSecond));
    volume_->clear_dead_readers();
  };
  beats_->lost = [this](const std::string& why) { lose(why); };
  volume_->when_stuck(options_.lease, [this] { end_fenced_processes(); });
  (void)co_await beats_->beat_now();
  if (!beats_->lease_valid())
    co_return fail(EIO,
                   fmt::format("cannot write the state of the cluster in {}", volume_->name()));
  if (!options_.standby) {
    CO_TRY_ASSIGN(std::vector<RankId> taken, co_await choose_ranks());
    if (taken.empty())
      co_return fail(EBUSY, fmt::format("{} has no rank left to run, and no number for a new one",
                                        volume_->name()));
  }
  beats_->looked = [this] { looked(); };
  publish();
  tasks_.spawn(beats_->run());
  tasks_.spawn(read_revoked());
  if (options_.balance) keep_balance();
  co_return Result<void>{};
}

// Takes ranks that nobody runs, then new ones, until there are enough.
Task<Result<std::vector<RankId>>> Node::choose_ranks() {
  std::vector<RankId> taken;
  std::set<RankId> tried;
  while (taken.size() < options_.ranks) {
    std::optional<RankId> rank;
    for (const auto& [number, line] : beats_->table().ranks) {
      // One that is to go is taken like any orphan, and is no rank to stay with.
      if (!tried.contains(number) && line.state != cluster::RankState::leaving) {
        rank = number;
        break;
      }
    }
    if (!rank) {
      std::function<Result<bool>(cluster::Table&)> add =
          [&rank](cluster::Table& table) -> Result<bool> {
        rank = table.add();
        return rank.has_value();
      };
      CO_TRY(co_await beats_->change_table(add));
      KILL_POINT("cluster.add.table_set");
      if (!rank) break;
    }
    tried.insert(*rank);
    OwnOptions own;
    own.node = id_;
    Result<void> result = co_await take(*rank, own);
    if (result) {
      taken.push_back(*rank);
      continue;
    }
    // A mount that hosts its only rank by itself: there is no cluster to come to.
    if (*rank == RankId{0} && result.error().code == EBUSY) {
      (void)co_await beats_->beat_now();  // another node may have begun at the same time
      const cluster::TableRank* line = beats_->table().find(*rank);
      if (line && line->epoch == Epoch{} && beats_->living().size() <= 1)
        co_return std::unexpected(std::move(result).error());
    }
    // Somebody has it; every other error is one that a person has to know.
    if (result.error().code != EBUSY && result.error().code != ESTALE)
      co_return std::unexpected(std::move(result).error());
    if (beats_->table().find(*rank) && beats_->table().find(*rank)->node == 0)
      say(fmt::format("rank {} is not taken: {}", *rank, describe(result.error())));
  }
  co_return taken;
}

Task<Result<void>> Node::take(RankId rank, OwnOptions own) {
  if (hosts_.contains(rank) || !taking_.insert(rank).second)
    co_return fail(EBUSY, fmt::format("rank {} is this node's already", rank));
  const Nanos began = loop_.now();
  HostContext context;
  context.volume = volume_;
  context.pool = &pool_;
  context.hub = &hub_;
  context.rank = options_.rank;
  const cluster::TableRank* line = beats_->table().find(rank);
  context.rank.leaving = line && line->state == cluster::RankState::leaving;
  context.rank.journal_must_exist = options_.rank.journal_must_exist && rank == RankId{0};
  context.listen = options_.listen;
  context.volume_number = options_.rank.volume;
  context.node = id_;
  context.lease_ms = static_cast<uint32_t>(options_.lease / kMillisecond);
  context.secret = options_.secret;
  // The lease is one over the fences that were looked at. This rank's is not yet: until then the
  // rank says nothing.
  auto looked_at = std::make_shared<std::atomic<bool>>(false);
  context.lease_valid = [beats = beats_.get(), looked_at] {
    return looked_at->load(std::memory_order_relaxed) && beats->lease_valid();
  };
  context.revoked = [this](std::string_view key) {
    std::lock_guard lock(revoked_mutex_);
    return revoked_.contains(net::name_of_key(key));
  };
  context.log = [this](const std::string& line) { say(line); };
  context.peer_lost = [this, alive = alive_](RankId lost) {
    loop_.post([this, alive, lost] {
      if (!*alive || stopping_ || hosts_.contains(lost) || taking_.contains(lost)) return;
      OwnOptions own;
      own.node = id_;
      tasks_.spawn(take_orphan(lost, own));
    });
  };
  auto host = std::make_unique<RankHost>(std::move(context), rank);
  RankHost* running = host.get();
  hosts_[rank].host = std::move(host);
  Promised<Result<Epoch>> started(loop_);
  running->start(own, [this, started](Result<Epoch> epoch) {
    loop_.post([started, epoch = std::move(epoch)]() mutable { started.set(std::move(epoch)); });
  });
  Result<Epoch> epoch = co_await started;
  taking_.erase(rank);
  if (!epoch) {
    hosts_.erase(rank);  // its thread ends here, and with it the journal's lock
    co_return std::unexpected(std::move(epoch).error());
  }
  beats_->own(rank, *epoch, running->addresses());
  Epoch mine = *epoch;
  cluster::NodeId me = id_;
  std::function<Result<bool>(cluster::Table&)> taken = [rank, mine,
                                                        me](cluster::Table& table) -> Result<bool> {
    if (!table.find(rank)) return fail(ESTALE, fmt::format("rank {} was removed", rank));
    return table.take(rank, mine, me);
  };
  Result<void> known = co_await beats_->change_table(taken);
  if (!known) {
    MARK("node.took_what_is_gone");
    (void)co_await end_rank(rank);
    co_return known;
  }
  KILL_POINT("cluster.take.table_set");
  beats_->set_standby(false);
  while (!co_await beats_->beat_now()) co_await sleep_for(loop_, options_.lease / 4);
  looked_at->store(true, std::memory_order_relaxed);
  hosts_[rank].serving = true;
  last_take_ = loop_.now() - began;
  say(fmt::format("rank {} is served by this process, in epoch {}, after {:.3f} s", rank, mine,
                  static_cast<double>(last_take_) / kSecond));
  publish();
  co_return Result<void>{};
}

Task<Result<void>> Node::stop() {
  stopping_ = true;
  Result<void> result;
  std::vector<RankId> mine = ranks();
  for (RankId rank : mine) {
    Result<void> ended = co_await end_rank(rank);
    if (!ended && result) result = ended;
    cluster::NodeId me = id_;
    std::function<Result<bool>(cluster::Table&)> give_up =
        [rank, me](cluster::Table& table) -> Result<bool> { return table.give_up(rank, me); };
    Result<void> given = co_await beats_->change_table(give_up);
    if (!given && result) result = given;
  }
  if (beats_) {
    Result<void> left = co_await beats_->leave();
    if (!left && result) result = left;
  }
  co_return result;
}

// In good order: what it holds is written back, its journal given up.
Task<Result<void>> Node::end_rank(RankId rank) {
  Promised<Result<void>> stopped(loop_);
  hosts_[rank].serving = false;
  hosts_[rank].host->stop([this, stopped](Result<void> result) {
    loop_.post([stopped, result = std::move(result)]() mutable { stopped.set(std::move(result)); });
  });
  Result<void> result = co_await stopped;
  beats_->disown(rank);
  former_.push_back(std::move(hosts_[rank].host));
  hosts_.erase(rank);
  co_return result;
}

// It is as if the process had died; but for the threads, which end.
void Node::lose(const std::string& why) {
  say(why + "; its ranks end here");
  loop_.post([this, why, alive = alive_] {
    if (!*alive) return;
    stopping_ = true;
    tasks_.cancel_all();
    hosts_.clear();
    former_.clear();
    if (lost) lost(why);
  });
}

// -- the others ---------------------------------------------------------------------------------

void Node::looked() {
  if (stopping_) return;
  const cluster::Table& table = beats_->table();
  for (const auto& [rank, line] : table.ranks) {
    auto mine = hosts_.find(rank);
    if (mine != hosts_.end()) {
      vacant_since_.erase(rank);
      Hosted& hosted = mine->second;
      if (line.state == cluster::RankState::leaving && hosted.serving && !hosted.handing_over) {
        hosted.handing_over = true;
        tasks_.spawn(retire(rank));
      }
      if (hosted.serving && table.root != rank) {
        hosted.host->if_root([this, rank = rank, alive = alive_] {
          loop_.post([this, rank, alive] {
            if (!*alive || stopping_) return;
            tasks_.spawn([](Node& node, RankId rank) -> Task<void> {
              std::function<Result<bool>(cluster::Table&)> root =
                  [rank](cluster::Table& table) -> Result<bool> {
                return std::exchange(table.root, rank) != rank;
              };
              (void)co_await node.beats_->change_table(root);
            }(*this, rank));
          });
        });
      }
      continue;
    }
    if (taking_.contains(rank)) continue;
    if (line.node != 0 && beats_->watch().is_alive(line.node)) {
      vacant_since_.erase(rank);
      continue;
    }
    Nanos now = options_.clock();
    if (auto wait = not_before_.find(rank); wait != not_before_.end() && now < wait->second)
      continue;
    cluster::Orphan orphan{rank, vacant_since_.try_emplace(rank, now).first->second};
    if (!cluster::should_take(orphan, id_, beats_->living(), now, options_.lease)) continue;
    tasks_.spawn(take_from_dead(rank));
  }
  publish();
}

Task<void> Node::take_from_dead(RankId rank) {
  Result<OwnOptions> own = co_await beats_->take_from(rank);
  if (own) co_return co_await take_orphan(rank, *own);
  not_before_[rank] = options_.clock() + options_.lease;
}

Task<void> Node::take_orphan(RankId rank, OwnOptions own) {
  if (!beats_->table().find(rank)) co_return;  // it was removed
  // Without a proof of death nobody is disturbed.
  const int tries = own.mode == OwnMode::if_free ? kProofTries : 1;
  const cluster::TableRank* line = beats_->table().find(rank);
  const cluster::NodeId dead = line ? line->node : 0;
  // A standby goes on with all that one node has left.
  const bool has_others = std::any_of(hosts_.begin(), hosts_.end(), [&](const auto& h) {
    return h.second.serving && h.second.from != dead;
  });
  for (int i = 0; i < tries && !stopping_; ++i) {
    Result<void> taken = co_await take(rank, own);
    if (taken) {
      MARK("node.took_over");
      vacant_since_.erase(rank);
      not_before_.erase(rank);
      // The second ending of a takeover: in the background it becomes a part of this node's own.
      hosts_[rank].from = dead;
      if (dead != 0 && has_others && options_.retire_taken) {
        std::function<Result<bool>(cluster::Table&)> leave =
            [rank](cluster::Table& table) -> Result<bool> { return table.leave(rank).has_value(); };
        (void)co_await beats_->change_table(leave);
      }
      co_return;
    }
    not_before_[rank] = options_.clock() + options_.lease;
    const int code = taken.error().code;
    if (code != EBUSY && code != ESTALE)
      say(fmt::format("rank {} could not be taken: {}", rank, describe(taken.error())));
    if (code == ESTALE) co_return;
    if (own.mode == OwnMode::if_free) co_await sleep_for(loop_, kProofPause);
  }
}

// Hands over what a leaving rank has, then ends it.
Task<void> Node::retire(RankId rank) {
  KILL_POINT("cluster.retire.begin");
  bool told = false;
  RankId heir = rank;
  for (;;) {
    auto it = hosts_.find(rank);
    if (it == hosts_.end() || stopping_) co_return;
    // To one of this node, if there is one.
    std::optional<RankId> to;
    for (const auto& [other, line] : beats_->table().ranks) {
      if (other == rank || line.state == cluster::RankState::leaving || !beats_->node_of(other))
        continue;
      if (!to || (line.node == id_ && beats_->table().find(*to)->node != id_)) to = other;
    }
    Result<bool> empty = fail(EHOSTDOWN, "there is no other rank that lives");
    if (to) {
      Promised<Result<bool>> moved(loop_);
      it->second.host->hand_over(*to, [this, moved](Result<bool> result) {
        loop_.post([moved, result = std::move(result)]() mutable { moved.set(std::move(result)); });
      });
      empty = co_await moved;
      if (empty && !*empty) heir = *to;  // its hidden directories go last
    }
    if (!empty && !std::exchange(told, true))
      say(fmt::format("rank {} cannot be removed yet: {}", rank, describe(empty.error())));
    if (empty && *empty) break;
    if (!empty) co_await sleep_for(loop_, kHandOverPause);
  }
  KILL_POINT("cluster.retire.exported");
  Promised<bool> left(loop_);
  hosts_[rank].host->take_leave(heir, [this, left] { loop_.post([left] { left.set(true); }); });
  co_await left;
  if (stopping_ || !hosts_.contains(rank)) co_return;
  // First the table: who sees the rank's end takes it for dead, and would take what is in there.
  std::function<Result<bool>(cluster::Table&)> remove =
      [rank, heir](cluster::Table& table) -> Result<bool> { return table.remove(rank, heir); };
  Result<void> removed = co_await beats_->change_table(remove);
  KILL_POINT("cluster.retire.gone");
  Result<void> ended = co_await end_rank(rank);
  KILL_POINT("cluster.retire.disowned");
  if (!ended) say(fmt::format("rank {}: {}", rank, describe(ended.error())));
  if (removed) say(fmt::format("rank {} has handed everything over and is gone", rank));
}

void Node::publish() {
  ClusterView view = view_of(*beats_);
  if (view_ && *view_ == view) return;
  view_ = std::make_shared<const ClusterView>(std::move(view));
  for (auto& [rank, hosted] : hosts_) hosted.host->update(view_);
}

// A process that was stopped in a commit keeps all others from theirs; where it has been fenced it
// may do nothing any more, so nothing is lost with it.
void Node::end_fenced_processes() {
  std::vector<cluster::NodeRecord> nodes;
  auto listed = volume_->cluster_list(std::string(cluster::kNodePrefix));
  if (!listed) return;
  for (const auto& [key, value] : *listed) {
    auto node = cluster::decode_node(key, value.value);
    if (node && node->id != id_) nodes.push_back(std::move(*node));
  }
  auto owns = [this](RankId rank, cluster::NodeId node) {
    auto value = volume_->cluster_value(fence_key(rank));
    if (!value) return true;
    auto fence = decode_fence(value->value, rank);
    return !fence || fence->node == node;
  };
  int ended = end_fenced(nodes, owns, machine_);
  if (ended > 0)
    say(fmt::format("{} stopped process{} that had lost {} ranks and held up the volume: ended",
                    ended, ended == 1 ? "" : "es", ended == 1 ? "its" : "their"));
}

Task<void> Node::read_revoked() {
  std::string prefix = kRevokedPrefix;
  for (;;) {
    auto listed = co_await store_->state().list(prefix);
    if (listed) {
      std::set<std::string> revoked;
      for (const auto& [key, value] : *listed) revoked.insert(key.substr(prefix.size()));
      bool more = false;
      {
        std::lock_guard lock(revoked_mutex_);
        more = revoked_ != revoked;
        revoked_ = std::move(revoked);
      }
      if (more)
        for (auto& [rank, hosted] : hosts_) hosted.host->keys_revoked();
    }
    co_await sleep_for(loop_, options_.lease / 4);
  }
}

std::vector<RankId> Node::ranks() const {
  std::vector<RankId> all;
  for (const auto& [rank, hosted] : hosts_)
    if (hosted.serving) all.push_back(rank);
  return all;
}

RankHost* Node::host(RankId rank) {
  auto it = hosts_.find(rank);
  return it == hosts_.end() || !it->second.serving ? nullptr : it->second.host.get();
}

void Node::keep_balance() {
  BalancingOptions balancing;
  balancing.window = options_.balance_window;
  balancing.is_mine = [this] { return !stopping_ && host(beats_->table().root); };
  balancing.ranks = [this] {
    std::vector<RankId> all;
    for (const auto& [rank, line] : beats_->table().ranks)
      if (line.state == cluster::RankState::serving && beats_->node_of(rank)) all.push_back(rank);
    return all;
  };
  balancing.dial = [this](RankId rank, net::ConnectFn done) {
    dial_control(rank, std::move(done));
  };
  balancing.log = [this](const std::string& line) { say(line); };
  tasks_.spawn(node::keep_balance(loop_, std::move(balancing)));
}

void Node::dial_control(RankId rank, net::ConnectFn done) {
  net::Identity me;
  me.role = net::Role::control;
  me.volume = options_.rank.volume;
  me.id = id_;
  me.secret = options_.secret;
  if (connect_inside(rank, me, done)) return;
  const cluster::NodeRecord* node = beats_->node_of(rank);
  auto known = node ? node->addresses.find(rank) : decltype(node->addresses.find(rank)){};
  if (node && known != node->addresses.end()) {
    for (const std::string& text : known->second) {
      auto address = net::parse_address(text);
      if (address && address->kind != net::Address::local)
        return outside_.connect(*address, std::move(me), std::move(done));
    }
  }
  loop_.post([done = std::move(done), rank]() mutable {
    done(fail(EHOSTUNREACH, fmt::format("rank {} is served by nobody", rank)));
  });
}

bool Node::connect_inside(RankId rank, const net::Identity& identity, net::ConnectFn& done) {
  if (!host(rank)) return false;
  net::Address address{net::Address::local, fmt::format("rank-{}", rank), 0};
  inside_.connect(address, identity, std::move(done));
  return true;
}

Task<std::vector<HostStatus>> Node::status() {
  std::vector<HostStatus> all;
  for (RankId rank : ranks()) {
    RankHost* asked = host(rank);
    if (!asked) continue;
    Promised<HostStatus> status(loop_);
    asked->status([this, status](HostStatus s) {
      loop_.post([status, s = std::move(s)]() mutable { status.set(std::move(s)); });
    });
    HostStatus answer = co_await status;
    all.push_back(std::move(answer));
  }
  co_return all;
}

}  // namespace graftfs::node
