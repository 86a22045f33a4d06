// What the clients of a simulated cluster do.
#include <fcntl.h>
#include <fmt/format.h>

#include "server/authority.h"
#include "server/migrate.h"
#include "server/rank_core.h"
#include "sim/cluster/cluster.h"
#include "sim/describe.h"

namespace graftfs::sim {

void Cluster::start_client(ClientNode& c) {
  c.session = SessionId{random_.next() | 1};
  c.transport = std::make_unique<SimTransport>(net_, c.executor);
  DialFn dial = [this, &c](RankId rank, net::ConnectFn done) {
    net::Identity identity;
    identity.role = net::Role::client;
    identity.volume = kVolume;
    identity.id = c.session.v;
    // Where the cluster's state says that it is.
    std::string name = "nowhere";
    auto table = cluster::decode_table(medium_->state(cluster::kTableKey));
    const cluster::TableRank* line = table ? table->find(rank) : nullptr;
    const std::string key = cluster::node_key(line ? line->node : 0);
    auto node = cluster::decode_node(key, medium_->state(key));
    if (node && node->addresses.contains(rank)) name = node->addresses.at(rank).front();
    net::Address address{net::Address::local, name, 0};
    c.transport->connect(address, std::move(identity), std::move(done));
  };
  c.router = std::make_unique<Router>(c.executor, std::move(dial), [this] { return rank_map(); });
  c.router->answered_from_cache = [this, &c](const Request& request, const Reply& reply) {
    Request whose = request;
    whose.session = c.session;
    oracle_.from_cache(whose, reply);
  };
  c.router->lost_for_good = [this](RankId rank, const Request& request, int err) {
    if (config_.print)
      fmt::print("{:>7} lost at rank {}: call {}, {} (errno {})\n", queue_.steps(), rank.v,
                 request.cred.pid, describe_request(request), err);
    // It had given back what has no name any more.
    const auto* link = std::get_if<LinkArgs>(&request.args);
    const ModelNode* changed = oracle_.model().find(link ? link->ino : key_ino(request.args));
    if (changed && changed->stat.nlink > 0) return;
    room_.lost_nameless = true;
    oracle_.given_up(request.cred.pid);
  };
  c.router->open_session(c.session);
}

void Cluster::end_client(ClientNode& c) {
  workers_left_ -= std::exchange(c.workers_left, 0);
  if (c.router) redirects_ += c.router->redirects();
  c.tasks.cancel_all();
  c.router.reset();
  c.transport.reset();
  c.executor.crash();
  net_.node_died(c.executor);
}

void Cluster::start_work(ClientNode& c) {
  for (int w = 0; w < config_.workers; ++w) {
    ++workers_left_;
    ++c.workers_left;
    c.executor.post([this, &c, seed = random_.next()] { c.tasks.spawn(work(c, seed)); });
  }
}

std::optional<std::pair<RankId, Ino>> Cluster::place(Ino ino) {
  for (Host* host : serving()) {
    const Cache& cache = host->rank->cache();
    const Dentry* file = cache.find_inode(ino);
    Place at = place_of(cache, host->rank->state(), file ? file->dir->ino() : ino);
    if (at.what == Place::ours && !is_hidden_dir(at.import)) return {{host->id, at.import}};
  }
  return std::nullopt;
}

// Whether one rank can do it alone.
bool Cluster::together(Ino a, Ino b) {
  auto one = place(a), other = place(b);
  return one && one == other;
}

Promised<Reply> Cluster::ask(ClientNode& client, Args args) {
  Promised<Reply> answer(client.executor);
  Request request;
  request.session = client.session;
  request.cred.pid = ++last_call_;
  request.args = std::move(args);
  oracle_.asked(last_call_, client.session, std::holds_alternative<SyncArgs>(request.args));
  client.router->submit(std::move(request), [this, call = last_call_, answer](Reply reply) {
    if (reply.err == EIO && room_.evictions == 0 && !room_.comes_late && !room_.lost_nameless)
      oracle_.fail(fmt::format("call {} was answered EIO", call));
    if (config_.print)
      fmt::print("{:>7} call {} is answered: errno {} ino {:#x}{}\n", queue_.steps(), call,
                 reply.err, reply.stat.ino.v, reply.orphaned ? ", nameless" : "");
    oracle_.answered(call, reply.err, net_.speaker());
    answer.set(std::move(reply));
  });
  return answer;
}

// Some directories, which other ranks are given.
Task<void> Cluster::split(int parts) {
  std::vector<Ino> dirs;
  for (int i = 0; i < parts; ++i) {
    Ino parent = i > 2 && random_.chance(40) ? dirs[random_.below(dirs.size())] : kRootIno;
    auto made = ask(*clients_[0], MkdirArgs{parent, fmt::format("s{}", i), 0755, 0});
    Reply reply = co_await made;
    if (reply.err) co_return oracle_.fail(fmt::format("mkdir: errno {}", reply.err));
    dirs.push_back(reply.stat.ino);
  }
  for (Ino dir : dirs) {
    const RankId to{static_cast<uint16_t>(random_.below(static_cast<uint64_t>(config_.ranks)))};
    auto moved = co_await move(dir, to);
    if (!moved)
      co_return oracle_.fail("a subtree cannot be moved: " + graftfs::describe(moved.error()));
  }
}

// Nobody else does anything meanwhile.
Task<Result<void>> Cluster::move(Ino root, RankId to) {
  for (int tries = 0;; ++tries) {
    auto at = place(root);
    if (at && at->first == to) co_return Result<void>{};
    Host* host = at ? serving(at->first) : nullptr;
    Promised<Result<void>> moved(world_node_);
    if (host) {
      host->executor.post([host, root, to, moved] {
        host->rank->migrations().start(root, to, [moved](Result<void> r) { moved.set(r); });
      });
      Result<void> result = co_await moved;
      // It may have been refused: the one before has not quite ended.
      if (result || tries == 50) co_return result;
    }
    co_await sleep_for(world_node_, 5 * kMillisecond);
  }
}

// Names and inodes collide: there are few of them.
Args Cluster::draw(SimRandom& r) {
  auto pick = [&](bool dir) {
    std::vector<Ino> found;
    for (const auto& [ino, n] : oracle_.model().nodes())
      if (!dir || n.stat.is_dir()) found.push_back(ino);
    return found[r.below(found.size())];
  };
  // A name that is there, mostly.
  auto there = [&]() -> std::pair<Ino, std::string> {
    Ino dir = pick(true);
    for (int tries = 0; tries < 4 && oracle_.model().find(dir)->names.empty(); ++tries)
      dir = pick(true);
    const auto& names = oracle_.model().find(dir)->names;
    if (names.empty() || r.chance(20)) return {dir, fmt::format("n{}", r.below(7))};
    return {dir, std::next(names.begin(), static_cast<long>(r.below(names.size())))->first};
  };
  auto own_name = [&] { return fmt::format("n{}", r.below(7)); };
  auto name = [&] { return r.chance(25) ? fmt::format("s{}", r.below(8)) : own_name(); };
  const uint64_t what = r.below(100);
  if (what < 18) return MknodArgs{pick(true), name(), S_IFREG | 0644, 0, 0};
  if (what < 28) return MkdirArgs{pick(true), name(), 0755, 022};
  if (what < 31) return SymlinkArgs{pick(true), name(), "../" + name()};
  if (what < 40) {
    Ino ino = pick(false), dir = pick(true);
    if (!config_.across && !together(ino, dir)) return StatfsArgs{};
    return LinkArgs{ino, dir, name()};
  }
  if (what < 51) {
    auto [dir, victim] = there();
    return UnlinkArgs{dir, config_.across ? victim : own_name()};
  }
  if (what < 59) {
    auto [dir, victim] = there();
    return RmdirArgs{dir, config_.across ? victim : own_name()};
  }
  if (what < 75) {
    auto [dir, old_name] = there();
    auto [new_dir, new_name] = there();
    if (r.chance(30)) new_dir = dir;
    if (r.chance(50)) new_name = name();
    const uint32_t flags = r.chance(20) ? 2 : r.chance(20) ? 1 : 0;
    if (config_.across) return RenameArgs{dir, old_name, new_dir, new_name, flags};
    if (!together(dir, new_dir)) return StatfsArgs{};
    return RenameArgs{dir, own_name(), new_dir, own_name(), flags};
  }
  if (what < 79) {
    SetattrArgs a;
    a.ino = pick(false);
    a.valid = kSetMode;
    a.mode = 0700 | static_cast<uint32_t>(r.below(64));
    return a;
  }
  if (what < 81) return SetxattrArgs{pick(false), "user.a", std::string(r.below(30), 'v'), 0};
  if (what < 88) return LookupArgs{pick(true), name()};
  if (what < 93) return GetattrArgs{pick(false)};
  if (what < 98)
    return ReaddirArgs{pick(true), 0, static_cast<uint32_t>(1 + r.below(20)), r.chance(50)};
  return SyncArgs{};
}

Task<void> Cluster::work(ClientNode& client, uint64_t seed) {
  SimRandom r(seed);
  while (operations_left_-- > 0 && oracle_.failure().empty()) {
    Args args = draw(r);
    if (std::holds_alternative<StatfsArgs>(args)) continue;
    auto asked = ask(client, std::move(args));
    Reply reply = co_await asked;
    if (reply.err == 0 && reply.orphaned) {
      auto released = ask(client, ReleaseArgs{reply.stat.ino, 1});
      Reply done = co_await released;
    }
  }
  --workers_left_;
  --client.workers_left;
}

}  // namespace graftfs::sim
