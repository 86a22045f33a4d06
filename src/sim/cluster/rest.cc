// How a run ends: the cluster comes to rest, and everything is there.
#include <fmt/format.h>

#include "base/check.h"
#include "server/migrate.h"
#include "server/rank_core.h"
#include "server/two_party.h"
#include "sim/cluster/cluster.h"
#include "types/entry.h"

namespace graftfs::sim {
namespace {

// With nothing going wrong any more. Sessions of clients that have died are forgotten within it.
constexpr Nanos kRestWithin = 60 * kSecond;

}  // namespace

// Why the cluster is not at rest; "" where it is.
std::string Cluster::unrest() {
  for (RankId id : rank_ids()) {
    Host* host = serving(id);
    if (!host) return fmt::format("rank {} is not served", id.v);
    Rank& rank = *host->rank;
    auto unsettled = [&] {
      for (const auto& [root, import] : rank.state().imports)
        if (!import.settled) return true;
      return false;
    };
    const Dir* orphans = rank.cache().find_dir(orphans_dir_ino(id));
    const char* what = orphans ? nullptr : "has lost its ~orphans";
    if (unsettled()) what = "has an import that is not settled";
    if (!rank.migrations().idle()) what = "is moving something";
    if (!rank.state().forwards.empty()) what = "has told nobody of what it has given away";
    if (!rank.state().staged.empty()) what = "keeps parts of a migration";
    if (!rank.two_party().idle()) what = "has an operation with others open";
    for (const auto& [op, prepared] : rank.state().prepared)
      return fmt::format("rank {} has promised its part of operation {} of rank {}", id.v,
                         op.number, op.rank.v);
    for (const auto& [op, committed] : rank.state().committed)
      return fmt::format("rank {} has not closed operation {}", id.v, op.number);
    for (const Need& need : rank.waiting())
      return fmt::format("rank {} has a request that waits: kind {}, ino {:#x}, name '{}', {}",
                         id.v, static_cast<int>(need.kind), need.ino.v, need.name, need.from);
    if (what) return fmt::format("rank {} {}", id.v, what);
    std::string nameless, held;
    for (const auto& [hash, first] : orphans->entries)
      for (const Dentry* e = first; e; e = e->same_hash)
        if (e->kind != EntryKind::null) nameless += fmt::format(" {:#x}", e->ino.v);
    for (Ino ino : rank.core().held()) held += fmt::format(" {:#x}", ino.v);
    if (orphans->inode().size > 0)
      return fmt::format("rank {} has {} nameless inodes:{}; held are:{}", id.v,
                         orphans->inode().size, nameless, held);
  }
  return all_serve() ? "" : "a process is not ready";
}

Task<void> Cluster::come_to_rest() {
  const Nanos end = queue_.now() + kRestWithin;
  // Twice in a row: something may be on its way.
  for (int calm = 0; calm < 2;) {
    co_await sleep_for(world_node_, 20 * kMillisecond);
    std::string why = unrest();
    calm = why.empty() ? calm + 1 : 0;
    if (queue_.now() > end) co_return oracle_.fail("it does not come to rest: " + why);
  }
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
  look_at_owners();
}

// All ranks end in good order, and begin again.
Task<void> Cluster::begin_anew() {
  for (auto& p : processes_) p->close();
  for (auto& p : processes_)
    while (p->taking()) co_await sleep_for(world_node_, kMillisecond);
  for (auto& p : processes_) {
    auto stopped = co_await p->stop();
    if (!stopped)
      co_return oracle_.fail(fmt::format("the process of machine {} does not stop: {}",
                                         p->machine(), graftfs::describe(stopped.error())));
  }
  for (auto& p : processes_) p->end();
  audit();
  for (auto& p : processes_) p->start(false);
}

// The directories as they are stored hold the model's tree, and nothing else. Link counts are the
// model's, so each inode that is there has to be the model's, too.
void Cluster::audit() {
  const Model& model = oracle_.model();
  std::set<Ino> seen;
  std::map<Ino, int> names;
  auto wrong = [&](Ino ino, const std::string& what) {
    oracle_.fail(fmt::format("in the store, {:#x}: {}", ino.v, what));
  };
  auto check = [&](Ino ino, const Inode& inode) {
    const ModelNode* n = model.find(ino);
    Stat s = inode;
    s.blocks = 0;
    if (!n || n->stat.nlink == 0) return wrong(ino, "there is no such inode");
    if (!seen.insert(ino).second) return wrong(ino, "it is there twice");
    Stat want = n->stat;
    if (want.mtime < s.mtime && oracle_.was_brought(ino, s.mtime)) want.mtime = s.mtime;
    if (want.ctime < s.ctime && oracle_.was_brought(ino, s.ctime)) want.ctime = s.ctime;
    if (s != want) wrong(ino, "got  " + describe_stat(s) + "\n    want " + describe_stat(want));
  };
  // Whatever somebody has sent who is dead comes now, and changes nothing of that.
  if (objects_) objects_->settle("", true);
  auto dirs = stored_dirs(*medium_);
  if (!dirs) return oracle_.fail("the store cannot be read: " + graftfs::describe(dirs.error()));
  for (const auto& [dir, stored] : *dirs) {
    if (!stored.header) continue;
    auto header = decode_dir_header(dir, *stored.header);
    if (!header) return wrong(dir, graftfs::describe(header.error()));
    const bool hidden = is_hidden_dir(dir);
    const ModelNode* known = model.find(dir);
    // With the guards alone nothing keeps who is dead from making anew what was removed. Nothing
    // leads there any more.
    const bool removed = !hidden && (!known || known->stat.nlink == 0);
    if (removed && config_.rados.guards_alone) continue;
    if (!hidden) check(dir, header->inode);
    std::map<std::string, Ino> found;
    for (const auto& [key, value] : stored.entries) {
      auto entry = decode_entry_value(dir, key, value);
      if (!entry) return wrong(dir, graftfs::describe(entry.error()));
      if (entry->kind == EntryKind::null) continue;
      found[key.substr(sizeof(NameHash))] = entry->ino;
      if (entry->kind == EntryKind::primary) check(entry->ino, entry->inode);
      if (!hidden && entry->kind == EntryKind::remote_link) ++names[entry->ino];
      if (!hidden && entry->kind == EntryKind::primary) ++names[entry->ino];
    }
    const ModelNode* n = hidden ? nullptr : model.find(dir);
    if (n && found != n->names) wrong(dir, "its names are wrong");
  }
  for (const auto& [ino, n] : model.nodes()) {
    if (n.stat.nlink == 0) continue;
    if (!seen.contains(ino)) wrong(ino, "it is missing");
    if (!n.stat.is_dir() && names[ino] != static_cast<int>(n.stat.nlink))
      wrong(ino, fmt::format("{} names and {} links", names[ino], n.stat.nlink));
  }
}

}  // namespace graftfs::sim
