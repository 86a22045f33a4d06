// What the clients of a simulated cluster do.
#include <fcntl.h>
#include <fmt/format.h>

#include "events/import.h"
#include "server/authority.h"
#include "server/rank_core.h"
#include "sim/cluster/cluster.h"

namespace graftfs::sim {

void Cluster::start_clients() {
  for (auto& c : clients_) {
    c->session = SessionId{random_.next() | 1};
    c->transport = std::make_unique<SimTransport>(net_, c->executor);
    DialFn dial = [c = c.get()](RankId rank, net::ConnectFn done) {
      net::Identity identity;
      identity.role = net::Role::client;
      identity.volume = 0x6772616674667332;
      identity.id = c->session.v;
      net::Address address{net::Address::local, fmt::format("rank-{}", rank.v), 0};
      c->transport->connect(address, std::move(identity), std::move(done));
    };
    c->router = std::make_unique<Router>(c->executor, std::move(dial),
                                         [this] { return RankMap{root_rank(), rank_ids()}; });
    c->router->open_session(c->session);
  }
}

std::optional<std::pair<RankId, Ino>> Cluster::place(Ino ino) const {
  for (const auto& n : nodes_) {
    if (!n->serving) continue;
    const Cache& cache = n->rank->cache();
    const Dentry* file = cache.find_inode(ino);
    Place at = place_of(cache, n->rank->state(), file ? file->dir->ino() : ino);
    if (at.what == Place::ours && !is_hidden_dir(at.import)) return {{n->id, at.import}};
  }
  return std::nullopt;
}

// Operations of several authorities carry the time at which they began, and are visible at the
// others a moment later; the oracle does not know that yet, so they are not drawn here. (They have
// a matrix of their own: two_party_test.cc.)
bool Cluster::together(Ino a, Ino b) const {
  auto one = place(a), other = place(b);
  return one && one == other;
}

Promised<Reply> Cluster::ask(ClientNode& client, Args args) {
  Promised<Reply> answer(client.executor);
  Request request;
  request.session = client.session;
  request.cred.pid = ++last_call_;
  request.args = std::move(args);
  client.router->submit(std::move(request), [this, call = last_call_, answer](Reply reply) {
    oracle_.answered(call);
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
    Node& to = *nodes_[random_.below(nodes_.size())];
    if (to.id == RankId{0}) continue;
    RankCore& core = node(RankId{0}).rank->core();
    if (place_of(core.cache(), core.state(), dir).what != Place::ours) continue;
    auto given = co_await give(node(RankId{0}), to, dir);
    if (!given)
      co_return oracle_.fail("a subtree cannot be given away: " + graftfs::describe(given.error()));
  }
}

// By hand, while nothing else happens: everything is written back, then one Export and one Import
// are logged.
Task<Result<void>> Cluster::give(Node& from, Node& to, Ino root) {
  CO_TRY(co_await from.rank->write_back_all());
  RankCore &giver = from.rank->core(), &taker = to.rank->core();
  CO_TRY(co_await giver.find_dir(root));
  const Dir* dir = giver.cache().find_dir(root);
  const Ino within = import_of(giver.state(), *dir);
  const Import& old = giver.state().imports.at(within);
  Import import;
  import.root = root;
  import.path = Cache::path_of(*dir);
  import.parent = dir->header.at.parent;
  import.moves = old.moves + 1;
  for (Ino above : way_up(giver.state(), *dir))
    if (above != root) import.above.push_back(above);
  Export exported;
  exported.root = root;
  exported.id = {from.id, giver.epoch(), ++gifts_};
  exported.to = to.id;
  exported.moves = import.moves;
  exported.bounds = bounds_below(giver.cache(), old, *dir);
  for (Ino bound : exported.bounds) import.bounds[bound] = old.bounds.at(bound);
  if (within != root) {
    exported.within = within;
    exported.parent = import.parent;
  }
  giver.cache().for_each_dir([&](const Dir& d) {
    if (!d.is_foreign() && Cache::is_below(&d, dir)) exported.dirs.push_back(d.ino());
  });
  const DirHeader header = dir->header;
  std::string in, out;
  ByteWriter in_writer(in), out_writer(out);
  encode_import(in_writer, import, {header});
  encode_export(out_writer, exported);
  giver.log_event(EventType::export_, out);
  taker.log_event(EventType::import, in);
  CO_TRY(co_await giver.journal().sync());
  co_return co_await taker.journal().sync();
}

// Names and inodes collide: there are few of them.
Task<void> Cluster::work(ClientNode& client, uint64_t seed) {
  SimRandom r(seed);
  auto pick = [&](bool dir) {
    std::vector<Ino> found;
    for (const auto& [ino, n] : oracle_.model().nodes())
      if (!dir || n.stat.is_dir()) found.push_back(ino);
    return found[r.below(found.size())];
  };
  auto own_name = [&] { return fmt::format("n{}", r.below(7)); };
  auto name = [&] { return r.chance(25) ? fmt::format("s{}", r.below(8)) : own_name(); };
  while (operations_left_-- > 0 && oracle_.failure().empty()) {
    Args args;
    uint64_t what = r.below(100);
    if (what < 20) {
      args = MknodArgs{pick(true), name(), S_IFREG | 0644, 0, 0};
    } else if (what < 32) {
      args = MkdirArgs{pick(true), name(), 0755, 022};
    } else if (what < 36) {
      args = SymlinkArgs{pick(true), name(), "../" + name()};
    } else if (what < 42) {
      Ino ino = pick(false), dir = pick(true);
      if (!together(ino, dir)) continue;
      args = LinkArgs{ino, dir, name()};
    } else if (what < 52) {
      args = UnlinkArgs{pick(true), name()};
    } else if (what < 57) {
      args = RmdirArgs{pick(true), own_name()};
    } else if (what < 68) {
      Ino dir = pick(true), new_dir = r.chance(40) ? dir : pick(true);
      if (!together(dir, new_dir)) continue;
      args = RenameArgs{dir, own_name(), new_dir, own_name(),
                        r.chance(20)   ? 2u
                        : r.chance(20) ? 1u
                                       : 0u};
    } else if (what < 74) {
      SetattrArgs a;
      a.ino = pick(false);
      a.valid = kSetMode;
      a.mode = 0700 | static_cast<uint32_t>(r.below(64));
      args = a;
    } else if (what < 78) {
      args = SetxattrArgs{pick(false), "user.a", std::string(r.below(30), 'v'), 0};
    } else if (what < 86) {
      args = LookupArgs{pick(true), name()};
    } else if (what < 92) {
      args = GetattrArgs{pick(false)};
    } else if (what < 97) {
      args = ReaddirArgs{pick(true), 0, static_cast<uint32_t>(1 + r.below(20)), r.chance(50)};
    } else {
      args = SyncArgs{};
    }
    auto asked = ask(client, std::move(args));
    Reply reply = co_await asked;
    if (reply.err == 0 && reply.orphaned) {
      auto released = ask(client, ReleaseArgs{reply.stat.ino, 1});
      Reply done = co_await released;
    }
  }
  --workers_left_;
}

// Every inode and every listing, as a client sees them; the oracle compares.
Task<void> Cluster::look_at_everything() {
  std::vector<std::pair<Ino, bool>> all;
  for (const auto& [ino, n] : oracle_.model().nodes())
    if (n.stat.nlink > 0) all.push_back({ino, n.stat.is_dir()});
  for (auto [ino, is_dir] : all) {
    auto asked = ask(*clients_[0], GetattrArgs{ino});
    Reply reply = co_await asked;
    if (reply.err)
      co_return oracle_.fail(
          fmt::format("at the end, getattr of {:#x}: errno {}", ino.v, reply.err));
    for (uint64_t cookie = 0; is_dir;) {
      auto listed = ask(*clients_[0], ReaddirArgs{ino, cookie, 100, true});
      Reply page = co_await listed;
      if (page.err)
        co_return oracle_.fail(
            fmt::format("at the end, readdir of {:#x}: errno {}", ino.v, page.err));
      if (page.end || page.entries.empty()) break;
      cookie = page.entries.back().cookie;
    }
  }
}

}  // namespace graftfs::sim
