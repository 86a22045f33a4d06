// `graftfs subtree`: which rank has what, and how that changes.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include "cli/cluster_client.h"
#include "cli/command.h"
#include "cli/status_socket.h"
#include "node/balance.h"
#include "server/migrate.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr Nanos kAnswerLimit = 10 * kSecond;
constexpr Nanos kTryAgain = 50 * kMillisecond;

struct Arguments {
  std::string target, rank, wait = "30s", window = "5s";
  bool json = false, dry_run = false, hidden = false;
};

Task<int> pause(EventLoop& loop, Nanos time) {
  co_await sleep_for(loop, time);
  co_return 0;
}

Result<RankId> parse_rank(const std::string& text) {
  uint16_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || RankId{number} == kNobody)
    return fail(EINVAL, fmt::format("'{}' is not the number of a rank; 'graftfs rank list' shows "
                                    "those there are",
                                    text));
  return RankId{number};
}

// -- what there is ------------------------------------------------------------------------------

// All that any rank serves. A rank that does not answer is named in `silent`.
struct Subtrees {
  json all = json::array();
  std::map<RankId, std::string> silent;
};

Subtrees read_subtrees(ClusterClient& cluster, bool hidden) {
  Subtrees out;
  for (RankId rank : cluster.ranks()) {
    auto answer = cluster.ask(rank, {{"ask", "subtrees"}}, kAnswerLimit);
    if (!answer) {
      out.silent[rank] = describe(answer.error());
      continue;
    }
    for (json& subtree : (*answer)["subtrees"])
      if (hidden || !subtree.value("hidden", false)) out.all.push_back(std::move(subtree));
  }
  std::sort(out.all.begin(), out.all.end(), [](const json& a, const json& b) {
    return std::pair(a.value("path", ""), a.value("root", 0u)) <
           std::pair(b.value("path", ""), b.value("root", 0u));
  });
  return out;
}

// A mount that hosts its only rank by itself: everything is rank 0's.
bool is_mounted_alone(const std::string& volume) { return ask_daemon(run_dir(volume)).has_value(); }

std::string shown_path(const json& s) {
  std::string path = s.value("path", "");
  return path.empty() ? fmt::format("#{}", s.value("root", uint64_t{0})) : path;
}

std::string notes_of(const json& s) {
  std::string notes;
  if (s.contains("pin")) notes += fmt::format("pinned to rank {}", s["pin"].get<int>());
  if (!s.value("settled", true)) notes += (notes.empty() ? "" : ", ") + std::string("arriving");
  return notes;
}

void print_silent(const Subtrees& found) {
  for (const auto& [rank, why] : found.silent)
    fmt::print(stderr, "graftfs: what rank {} has is not known: {}\n", rank, why);
}

Result<Subtrees> subtrees_of(const std::string& volume, bool hidden) {
  auto cluster = ClusterClient::open(volume);
  if (cluster) return read_subtrees(**cluster, hidden);
  if (!is_mounted_alone(volume)) return std::unexpected(std::move(cluster).error());
  Subtrees out;
  out.all.push_back({{"root", kRootIno.v}, {"path", "/"}, {"rank", 0}, {"settled", true}});
  return out;
}

Result<int> list(const Arguments& a) {
  TRY_ASSIGN(std::string volume, volume_of(a.target));
  TRY_ASSIGN(Subtrees found, subtrees_of(volume, a.hidden));
  print_silent(found);
  if (a.json) {
    fmt::print("{}\n", found.all.dump(2, ' ', false, json::error_handler_t::replace));
    return found.silent.empty() ? 0 : kExitError;
  }
  fmt::print("{:<6}{:<40}{:<12}{:<10}{}\n", "RANK", "SUBTREE", "DIRECTORIES", "ENTRIES", "");
  for (const json& s : found.all) {
    auto number = [&](const char* key) {
      return s.contains(key) ? fmt::format("{}", s[key].get<uint64_t>()) : std::string("-");
    };
    fmt::print("{:<6}{:<40}{:<12}{:<10}{}\n", s.value("rank", 0), shown_path(s),
               number("cached_directories"), number("cached_entries"), notes_of(s));
  }
  return found.silent.empty() ? 0 : kExitError;
}

// Each below the one in which it hangs, by the ends of that.
Result<int> tree(const Arguments& a) {
  TRY_ASSIGN(std::string volume, volume_of(a.target));
  TRY_ASSIGN(Subtrees found, subtrees_of(volume, false));
  print_silent(found);
  std::map<uint64_t, const json*> by_root;
  std::map<uint64_t, std::vector<uint64_t>> below;
  std::map<uint64_t, bool> hangs;
  for (const json& s : found.all) by_root[s.value("root", uint64_t{0})] = &s;
  for (const json& s : found.all) {
    for (const json& bound : s.value("bounds", json::array())) {
      const uint64_t root = bound.value("root", uint64_t{0});
      if (!by_root.contains(root)) continue;
      below[s.value("root", uint64_t{0})].push_back(root);
      hangs[root] = true;
    }
  }
  json nested = json::array();
  auto nest = [&](auto& self, uint64_t root, int depth) -> json {
    const json& s = *by_root.at(root);
    if (!a.json) {
      const std::string notes = notes_of(s);
      fmt::print("{:{}}{}  rank {}{}\n", "", 2 * depth, shown_path(s), s.value("rank", 0),
                 notes.empty() ? "" : "  (" + notes + ")");
    }
    json out = s;
    out["subtrees"] = json::array();
    for (uint64_t child : below[root])
      if (depth < 64) out["subtrees"].push_back(self(self, child, depth + 1));
    return out;
  };
  for (const json& s : found.all) {
    const uint64_t root = s.value("root", uint64_t{0});
    // One on its way from rank to rank may hang nowhere for a moment: it is shown by itself.
    if (!hangs[root]) nested.push_back(nest(nest, root, 0));
  }
  if (a.json) fmt::print("{}\n", nested.dump(2, ' ', false, json::error_handler_t::replace));
  return found.silent.empty() ? 0 : kExitError;
}

// -- changing it --------------------------------------------------------------------------------

struct Chosen {
  std::unique_ptr<ClusterClient> cluster;
  std::string path;
  ClusterClient::Found dir;
};

Result<Chosen> choose(const Arguments& a) {
  TRY_ASSIGN(auto where, volume_and_path(a.target));
  Chosen chosen;
  TRY_ASSIGN(chosen.cluster, ClusterClient::open(where.first));
  chosen.path = where.second;
  TRY_ASSIGN(chosen.dir, chosen.cluster->find_directory(where.second, kAnswerLimit));
  return chosen;
}

// Asks its authority, wherever that is by then, and again while it is not the moment for it.
Result<int> move(const Arguments& a) {
  TRY_ASSIGN(RankId to, parse_rank(a.rank));
  auto limit = parse_duration(a.wait);
  if (!limit) return fail(EINVAL, fmt::format("--wait: {}", describe(limit.error())));
  TRY_ASSIGN(Chosen chosen, choose(a));
  EventLoop& loop = chosen.cluster->loop();
  const Nanos end = loop.now() + *limit;
  const json request = {
      {"ask", a.dry_run ? "weigh" : "move"}, {"root", chosen.dir.ino.v}, {"to", to.v}};
  for (;;) {
    const RankId from = chosen.dir.home;
    auto answer = chosen.cluster->ask(from, request, std::max(end - loop.now(), kAnswerLimit));
    const int err = answer ? 0 : answer.error().code;
    if (!err && a.dry_run) {
      fmt::print(
          "{}: would go from rank {} to rank {} with {} directories and {} entries that are "
          "in memory, {} of them not written back yet; nothing was moved\n",
          chosen.path, from, to, answer->value("directories", uint64_t{0}),
          answer->value("entries", uint64_t{0}), answer->value("unwritten", uint64_t{0}));
      return 0;
    }
    if (!err) {
      fmt::print("{} is at rank {} now\n", chosen.path, to);
      if (chosen.dir.pin && *chosen.dir.pin != fmt::format("{}", to))
        fmt::print(
            "it is pinned to rank {}, and goes back there with the next change of the pin or "
            "the next restart; 'graftfs subtree unpin' ends that\n",
            *chosen.dir.pin);
      return 0;
    }
    // A rank that is new is not known to all of them yet.
    const std::vector<RankId> ranks = chosen.cluster->ranks();
    const bool is_new =
        err == EINVAL && from != to && std::find(ranks.begin(), ranks.end(), to) != ranks.end();
    const bool passing = err == EREMOTE || err == EBUSY || err == ECANCELED || is_new;
    if (!passing || a.dry_run || loop.now() >= end) return std::unexpected(answer.error());
    chosen.cluster->wait(pause(loop, kTryAgain));
    TRY_ASSIGN(chosen.dir, chosen.cluster->find_directory(chosen.path, kAnswerLimit));
  }
}

Result<int> set_pin(const Arguments& a, const std::string& value) {
  TRY_ASSIGN(Chosen chosen, choose(a));
  if (value != "-1") {
    const std::vector<RankId> ranks = chosen.cluster->ranks();
    TRY_ASSIGN(RankId to, parse_rank(value));
    if (std::find(ranks.begin(), ranks.end(), to) == ranks.end())
      return fail(EINVAL, fmt::format("there is no rank {}; 'graftfs rank list' shows those there "
                                      "are",
                                      to));
  }
  const bool was = chosen.dir.pin.has_value();
  if (value == "-1" && !was) {
    fmt::print("{} is not pinned\n", chosen.path);
    return 0;
  }
  TRY_ASSIGN(Reply reply,
             chosen.cluster->call(SetxattrArgs{chosen.dir.ino, kPinName, value, 0}, kAnswerLimit));
  if (reply.err)
    return fail(reply.err, fmt::format("{}: {}", chosen.path, std::strerror(reply.err)));
  if (value == "-1")
    fmt::print("{} is not pinned any more, and stays at rank {}\n", chosen.path, chosen.dir.home);
  else if (fmt::format("{}", chosen.dir.home) == value)
    fmt::print("{} is pinned to rank {}, where it is\n", chosen.path, value);
  else
    fmt::print("{} is pinned to rank {}, and goes there as soon as it can\n", chosen.path, value);
  return 0;
}

// One decision, with two windows: the first only begins to count.
Result<int> balance(const Arguments& a) {
  auto window = parse_duration(a.window);
  if (!window || *window <= 0)
    return fail(EINVAL, fmt::format("--window: '{}' is not a time", a.window));
  TRY_ASSIGN(std::string volume, volume_of(a.target));
  TRY_ASSIGN(auto cluster, ClusterClient::open(volume));
  auto dial = [&](RankId rank, net::ConnectFn done) { cluster->dial(rank, std::move(done)); };
  auto ask = [&]() -> Result<std::vector<node::RankLoad>> {
    std::string silent;
    std::vector<RankId> ranks = cluster->ranks();
    node::DialRankFn connect = dial;
    auto loads = cluster->wait(
        node::ask_loads(cluster->loop(), std::move(ranks), std::move(connect), silent));
    if (!silent.empty()) return fail(EHOSTDOWN, silent);
    return loads;
  };
  TRY(ask());
  cluster->wait(pause(cluster->loop(), *window));
  TRY_ASSIGN(std::vector<node::RankLoad> loads, ask());
  node::BalanceOptions options;
  options.windows = 1;  // a person has waited
  node::BalanceState state;
  node::BalanceDecision decision = node::decide(loads, options, state);
  for (const std::string& reason : decision.reasons) fmt::print("{}\n", reason);
  if (!decision.move) return 0;
  const node::BalanceMove& move = *decision.move;
  if (a.dry_run) {
    fmt::print("So {} would go from rank {} to rank {}; nothing was moved.\n", move.path, move.from,
               move.to);
    return 0;
  }
  node::BalanceMove made = move;
  node::DialRankFn connect = dial;
  TRY(cluster->wait(node::make_move(cluster->loop(), std::move(made), std::move(connect))));
  fmt::print("{} is at rank {} now.\n", move.path, move.to);
  return 0;
}

}  // namespace

void add_subtree(CLI::App& app) {
  auto args = std::make_shared<Arguments>();
  CLI::App* group = add_command(app, "subtree", "Which rank has which part of the tree",
                                "  graftfs subtree list /srv/v\n"
                                "  graftfs subtree move /mnt/projects 1\n"
                                "  graftfs subtree pin /srv/v:/projects 1\n"
                                "\nA path is one in a mount, or VOLUME:/PATH.\n");
  group->require_subcommand(1);
  auto add_path = [&](CLI::App* command) {
    command->add_option("PATH", args->target, "a directory in a mount, or VOLUME:/PATH")
        ->required();
  };
  auto add_rank = [&](CLI::App* command) {
    command->add_option("RANK", args->rank, "the number of a rank")->required();
  };
  auto add_volume = [&](CLI::App* command) {
    command->add_option("VOLUME", args->target, "the volume's directory, or where it is mounted")
        ->required();
    command->add_flag("--json", args->json, "a JSON array");
  };

  CLI::App* listing = add_command(*group, "list", "Show every subtree and its rank",
                                  "  graftfs subtree list /srv/v\n"
                                  "  graftfs subtree list /mnt --json | jq '.[].path'\n");
  add_volume(listing);
  listing->add_flag("--hidden", args->hidden, "also the ranks' own hidden directories");
  on_run(listing, [args] { return list(*args); });

  CLI::App* nested = add_command(*group, "tree", "Show subtrees as they hang in each other",
                                 "  graftfs subtree tree /srv/v\n"
                                 "  graftfs subtree tree /mnt --json\n");
  add_volume(nested);
  on_run(nested, [args] { return tree(*args); });

  CLI::App* moving = add_command(*group, "move", "Give a directory and all below it to a rank",
                                 "  graftfs subtree move /mnt/projects 1\n"
                                 "  graftfs subtree move /srv/v:/projects 1 --dry-run\n");
  add_path(moving);
  add_rank(moving);
  moving->add_flag("--dry-run", args->dry_run, "only say what would go along");
  moving->add_option("--wait", args->wait, "for how long to try while it is busy (30s)")
      ->type_name("TIME");
  on_run(moving, [args] { return move(*args); });

  CLI::App* pin = add_command(*group, "pin", "Have a directory be at a rank from now on",
                              "  graftfs subtree pin /mnt/projects 1\n"
                              "  setfattr -n graftfs.pin -v 1 /mnt/projects      # the same\n"
                              "  getfattr -n graftfs.pin /mnt/projects\n");
  add_path(pin);
  add_rank(pin);
  on_run(pin, [args] { return set_pin(*args, args->rank); });

  CLI::App* unpin = add_command(*group, "unpin", "Let a directory be anywhere again",
                                "  graftfs subtree unpin /mnt/projects\n"
                                "  setfattr -x graftfs.pin /mnt/projects           # the same\n");
  add_path(unpin);
  on_run(unpin, [args] { return set_pin(*args, "-1"); });

  CLI::App* balancing = add_command(*group, "balance", "Look whether a subtree should be elsewhere",
                                    "  graftfs subtree balance /srv/v --dry-run\n"
                                    "  graftfs subtree balance /mnt --window 30s\n"
                                    "\n'graftfs serve --balance' does it all the time.\n");
  balancing->add_option("VOLUME", args->target, "the volume's directory, or where it is mounted")
      ->required();
  balancing->add_flag("--dry-run", args->dry_run, "only explain");
  balancing->add_option("--window", args->window, "for how long to look (5s)")->type_name("TIME");
  on_run(balancing, [args] { return balance(*args); });
}

}  // namespace graftfs::cli
