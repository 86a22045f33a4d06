// `graftfs rank`: which ranks a volume has, who runs them, and how there come to be more or fewer.
#include <fmt/format.h>
#include <poll.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "cluster/beats.h"
#include "node/node.h"

namespace graftfs::cli {
namespace {

using cluster::NodeRecord;
using nlohmann::json;

constexpr Nanos kPoll = 100 * kMillisecond;

struct Known {
  NodeRecord record;
  uint64_t version = 0;
  bool alive = false;
};

// What the volume's state says, and which of the nodes live: those of this machine by their
// process, others by their next beat.
class Cluster {
 public:
  static Result<Cluster> read(OpenVolume& open) {
    Cluster c(open);
    TRY(c.read_all());
    for (auto& [id, node] : c.nodes) node.alive = c.runs_here(node.record);
    bool all = true;
    Nanos longest = 0;
    for (auto& [id, node] : c.nodes) {
      if (c.is_here(node.record)) continue;
      all = all && node.alive;
      longest = std::max<Nanos>(longest, node.record.lease_ms * kMillisecond);
    }
    const Nanos end = open.loop().now() + longest * 5 / 4;
    while (!all && open.loop().now() < end) {
      open.wait(pause(open.loop()));
      Cluster later(open);
      TRY(later.read_all());
      all = true;
      for (auto& [id, node] : c.nodes) {
        auto now = later.nodes.find(id);
        if (!c.is_here(node.record))
          node.alive =
              node.alive || (now != later.nodes.end() && now->second.version != node.version);
        all = all && (node.alive || c.is_here(node.record));
      }
    }
    return c;
  }
  static Task<int> pause(EventLoop& loop) {
    co_await sleep_for(loop, kPoll);
    co_return 0;
  }

  const Known* node_of(const cluster::TableRank& line) const {
    auto it = nodes.find(line.node);
    return it == nodes.end() ? nullptr : &it->second;
  }
  size_t living() const {
    size_t n = 0;
    for (const auto& [id, node] : nodes) n += node.alive;
    return n;
  }

  cluster::Table table;
  std::map<cluster::NodeId, Known> nodes;

 private:
  explicit Cluster(OpenVolume& open) : open_(&open) {}
  bool is_here(const NodeRecord& r) const { return r.machine == machine_; }
  bool runs_here(const NodeRecord& r) const {
    return is_here(r) && r.started != 0 && node::started_at(r.pid) == r.started &&
           !node::is_stopped(r.pid);
  }
  Result<void> read_all() {
    StateStore& state = open_->store().state();
    TRY_ASSIGN(StateValue found, open_->wait(state.get(cluster::kTableKey)));
    TRY_ASSIGN(table, cluster::decode_table(found.value));
    TRY_ASSIGN(auto list, open_->wait(state.list(std::string(cluster::kNodePrefix))));
    for (auto& [key, value] : list) {
      auto record = cluster::decode_node(key, value.value);
      if (record) nodes[record->id] = Known{*record, value.version, false};
    }
    return {};
  }

  OpenVolume* open_;
  std::string machine_ = node::this_machine();
};

std::string addresses_of(const Known& node, RankId rank) {
  std::string out;
  auto it = node.record.addresses.find(rank);
  if (it == node.record.addresses.end()) return out;
  for (const std::string& address : it->second) out += (out.empty() ? "" : " ") + address;
  return out;
}

json describe_cluster(const Cluster& c, const std::string& volume) {
  json ranks = json::array(), nodes = json::array();
  std::map<int, json> details;
  for (const auto& [id, node] : c.nodes) {
    json n = {{"node", fmt::format("{:016x}", id)},
              {"pid", node.record.pid},
              {"standby", node.record.standby},
              {"alive", node.alive},
              {"lease_seconds", node.record.lease_ms / 1000.0}};
    nodes.push_back(n);
    if (!node.alive) continue;
    auto served =
        ask_daemon(run_dir(volume), fmt::format("{}/{}.status", kSocketsDir, node.record.pid));
    json status = served ? json::parse(served->status, nullptr, false) : json();
    if (status.is_object())
      for (const json& rank : status.value("ranks", json::array()))
        details[rank.value("rank", -1)] = rank;
  }
  for (const auto& [rank, line] : c.table.ranks) {
    const Known* node = c.node_of(line);
    const bool alive = node && node->alive;
    json r = {{"rank", rank.v},
              {"root", rank == c.table.root},
              {"state", name_of(line.state)},
              {"alive", alive},
              {"epoch", line.epoch.v}};
    if (details.contains(rank.v) && alive) r.merge_patch(details[rank.v]);
    if (node) {
      r["node"] = fmt::format("{:016x}", node->record.id);
      r["pid"] = node->record.pid;
      auto known = node->record.addresses.find(rank);
      r["addresses"] =
          known == node->record.addresses.end() ? std::vector<std::string>() : known->second;
    }
    ranks.push_back(std::move(r));
  }
  return {{"volume", volume}, {"ranks", ranks}, {"nodes", nodes}};
}

void print_cluster(const Cluster& c) {
  if (c.table.ranks.empty()) {
    fmt::print("no cluster has served this volume yet; 'graftfs serve' does\n");
    return;
  }
  fmt::print("{:<6}{:<10}{:<8}{:<10}{}\n", "RANK", "STATE", "EPOCH", "PROCESS", "ADDRESSES");
  for (const auto& [rank, line] : c.table.ranks) {
    const Known* node = c.node_of(line);
    const bool alive = node && node->alive;
    std::string state = !alive && line.node != 0 ? "dead" : name_of(line.state);
    fmt::print("{:<6}{:<10}{:<8}{:<10}{}\n", fmt::format("{}", rank), state, line.epoch.v,
               node ? fmt::format("{}", node->record.pid) : "-",
               node ? addresses_of(*node, rank) : "");
  }
  for (const auto& [id, node] : c.nodes)
    if (node.record.standby && node.alive) fmt::print("standing by: process {}\n", node.record.pid);
}

Task<Result<void>> change(StateStore& state, std::function<Result<bool>(cluster::Table&)> fn) {
  std::string key = cluster::kTableKey;
  for (;;) {
    CO_TRY_ASSIGN(StateValue found, co_await state.get(key));
    CO_TRY_ASSIGN(cluster::Table table, cluster::decode_table(found.value));
    CO_TRY_ASSIGN(bool changed, fn(table));
    if (!changed) co_return Result<void>{};
    std::string value = encode(table);
    auto set = co_await state.set(key, found.version, value);
    if (set) co_return Result<void>{};
    if (set.error().code != ESTALE) co_return std::unexpected(set.error());
  }
}

// Until `done` says so, or the time is over.
bool wait_until(OpenVolume& open, Nanos limit,
                const std::function<bool(const cluster::Table&)>& done) {
  const Nanos end = open.loop().now() + limit;
  for (;;) {
    auto found = open.wait(open.store().state().get(cluster::kTableKey));
    auto table = found ? cluster::decode_table(found->value) : cluster::Table();
    if (table && done(*table)) return true;
    if (open.loop().now() >= end) return false;
    open.wait(Cluster::pause(open.loop()));
  }
}

std::unexpected<Error> nobody_serves(const std::string& volume) {
  return fail(EHOSTDOWN,
              fmt::format("no process serves {0} now; start one with 'graftfs serve {0}'", volume));
}

Result<int> list_ranks(const std::string& name, bool as_json) {
  std::string volume = volume_name(name);
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  TRY_ASSIGN(Cluster c, Cluster::read(*open));
  if (as_json)
    fmt::print("{}\n", describe_cluster(c, volume).dump(2));
  else
    print_cluster(c);
  return 0;
}

Result<int> add_one(const std::string& name, Nanos limit) {
  std::string volume = volume_name(name);
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  TRY_ASSIGN(Cluster c, Cluster::read(*open));
  if (c.living() == 0) return nobody_serves(volume);
  std::optional<RankId> made;
  auto add = [&made](cluster::Table& table) -> Result<bool> {
    made = table.add();
    if (!made)
      return fail(ENOSPC, fmt::format("there are {} ranks, which is the most there can be",
                                      cluster::kMaxRanks));
    return true;
  };
  TRY(open->wait(change(open->store().state(), add)));
  auto serves = [&](const cluster::Table& table) {
    const cluster::TableRank* line = table.find(*made);
    return line && line->node != 0;
  };
  if (!wait_until(*open, limit, serves))
    return fail(ETIMEDOUT, fmt::format("rank {} exists and nobody has taken it yet; see 'graftfs "
                                       "rank list {}' and the log",
                                       *made, volume));
  fmt::print("rank {} serves\n", *made);
  return 0;
}

Result<int> remove_one(const std::string& name, uint16_t number, Nanos limit) {
  std::string volume = volume_name(name);
  RankId rank{number};
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  TRY_ASSIGN(Cluster c, Cluster::read(*open));
  cluster::Table after = c.table;
  TRY(after.leave(rank));
  bool other = false;
  for (const auto& [r, line] : after.ranks) {
    const Known* node = c.node_of(line);
    other =
        other || (r != rank && line.state != cluster::RankState::leaving && node && node->alive);
  }
  if (c.living() == 0) return nobody_serves(volume);
  if (!other)
    return fail(EHOSTDOWN,
                fmt::format("rank {} would leave what it has to a rank that is dead; see "
                            "'graftfs rank list {}'",
                            rank, volume));
  auto leave = [rank](cluster::Table& table) -> Result<bool> {
    TRY(table.leave(rank));
    return true;
  };
  TRY(open->wait(change(open->store().state(), leave)));
  auto gone = [&](const cluster::Table& table) { return !table.find(rank); };
  if (!wait_until(*open, limit, gone)) {
    fmt::print(
        "rank {} is handing over what it has, and goes when it is done; see 'graftfs rank "
        "list {}'\n",
        rank, volume);
    return 0;
  }
  fmt::print("rank {} is gone\n", rank);
  return 0;
}

}  // namespace

void add_rank(CLI::App& app) {
  struct Args {
    std::string volume, wait = "10s";
    uint16_t rank = 0;
    bool json = false;
    Result<Nanos> limit() const {
      auto time = parse_duration(wait);
      if (!time) return fail(EINVAL, fmt::format("--wait: {}", describe(time.error())));
      return time;
    }
  };
  CLI::App* group = add_command(app, "rank", "Which ranks a volume has, and who runs them",
                                "  graftfs rank list /srv/v\n"
                                "  graftfs rank add /srv/v\n"
                                "  graftfs rank remove /srv/v 1\n");
  group->require_subcommand(1);
  auto args = std::make_shared<Args>();

  CLI::App* list = add_command(*group, "list", "Show ranks, their processes and addresses",
                               "  graftfs rank list /srv/v\n"
                               "  graftfs rank list /srv/v --json | jq '.ranks[].addresses'\n");
  list->add_option("VOLUME", args->volume, "the volume")->required();
  list->add_flag("--json", args->json, "one JSON object");
  on_run(list, [args] { return list_ranks(args->volume, args->json); });

  CLI::App* add =
      add_command(*group, "add", "Make one more rank, which a process that serves takes",
                  "  graftfs rank add /srv/v\n"
                  "  graftfs rank add /srv/v --wait 60s\n");
  add->add_option("VOLUME", args->volume, "the volume")->required();
  add->add_option("--wait", args->wait, "for how long at most (10s)")->type_name("TIME");
  on_run(add, [args]() -> Result<int> {
    TRY_ASSIGN(Nanos limit, args->limit());
    return add_one(args->volume, limit);
  });

  CLI::App* remove =
      add_command(*group, "remove", "Have a rank hand over what it has, and go",
                  "  graftfs rank remove /srv/v 1\n"
                  "  graftfs rank remove /srv/v 1 --wait 0s       # it goes on by itself\n");
  remove->add_option("VOLUME", args->volume, "the volume")->required();
  remove->add_option("RANK", args->rank, "its number")->required();
  remove->add_option("--wait", args->wait, "for how long at most (10s)")->type_name("TIME");
  on_run(remove, [args]() -> Result<int> {
    TRY_ASSIGN(Nanos limit, args->limit());
    return remove_one(args->volume, args->rank, limit);
  });
}

}  // namespace graftfs::cli
