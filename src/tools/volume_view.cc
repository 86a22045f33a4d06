#include "tools/volume_view.h"

#include <algorithm>

#include "base/fault.h"
#include "cluster/records.h"
#include "events/migration.h"
#include "events/registry.h"

namespace graftfs::tools {
namespace {

constexpr std::string_view kFencePrefix = "cluster/fence-";

Task<Result<cluster::Table>> read_table(Store& store) {
  std::string key = cluster::kTableKey;
  CO_TRY_ASSIGN(StateValue found, co_await store.state().get(key));
  co_return cluster::decode_table(found.value);
}

const RankState* state_of(const VolumeView& view, const cluster::Table& table, RankId rank) {
  auto it = view.journals.find(table.heir_of(rank));
  return it == view.journals.end() ? nullptr : &it->second->state;
}

// An import that its rank does not know to be its own is, if and only if the other rank's journal
// has let go of it: that one says so until it has heard that the import is settled.
bool was_exported(const RankState* exporter, const ProtocolId& id) {
  return exporter && std::any_of(exporter->forwards.begin(), exporter->forwards.end(),
                                 [&](const auto& f) { return f.second.id == id; });
}

Result<void> settle_imports(VolumeView& view, const cluster::Table& table,
                            const std::string& volume) {
  for (auto& [rank, journal] : view.journals) {
    std::vector<ProtocolId> open;
    for (const auto& [root, import] : journal->state.imports)
      if (!import.settled) open.push_back(import.from);
    for (const ProtocolId& id : open) {
      const bool settled = was_exported(state_of(view, table, id.rank), id);
      if (settled) MARK("fsck.import.settled");
      std::string payload;
      ByteWriter w(payload);
      encode_import_end(w, id, settled);
      // As the rank itself would, once it is told.
      ReplayContext context{journal->cache, journal->state, {}};
      if (!kImportEndEvent.replay(context, journal->view.last, payload))
        return damaged(
            fmt::format("what rank {} of {} was sent of a subtree makes no sense; "
                        "'graftfs journal inspect {} --rank {}' shows it",
                        rank, volume, volume, rank));
    }
    journal->state.staged.clear();  // of migrations that never came to an Import
    journal->cache.attach_all();
  }
  return {};
}

void find_unfinished(VolumeView& view, const cluster::Table& table) {
  for (const auto& [rank, journal] : view.journals) {
    for (const auto& [op, promised] : journal->state.prepared) {
      const RankState* coordinator = state_of(view, table, op.rank);
      // Presumed abort: then nothing was changed anywhere.
      if (!coordinator || !coordinator->committed.contains(op)) continue;
      MARK("fsck.operation.unfinished");
      view.unfinished++;
      for (const msg::Intent& intent : promised.intents)
        for (Ino ino : {intent.ino, intent.dir, intent.value.ino})
          if (ino) view.unsettled.insert(ino);
    }
  }
}

// Whether the directory is this rank's. One whose ancestors the journal does not name is.
bool has(const RankState& state, const Dir& dir) {
  for (const Dir* d = &dir; d; d = d->parent) {
    if (d->is_foreign()) return false;
    if (state.is_root(d->ino())) return true;
    if (state.find_bound(d->ino()) || state.forwards.contains(d->ino())) return false;
  }
  return true;
}

}  // namespace

std::map<RankId, RankState*> VolumeView::states() const {
  std::map<RankId, RankState*> out;
  for (const auto& [rank, journal] : journals) out[rank] = &journal->state;
  return out;
}

KnownDirs VolumeView::known_dirs() const {
  KnownDirs known;
  for (const auto& [rank, journal] : journals) {
    journal->cache.for_each_dir([&](const Dir& dir) {
      if (!has(journal->state, dir)) return;
      KnownDir& at = known[dir.ino()];
      // Where two have it, which is a problem of its own, the newer one is right.
      if (!at.dir || dir.header.version > at.dir->header.version) at = {&journal->cache, &dir};
    });
  }
  return known;
}

Task<Result<std::set<RankId>>> ranks_of(Store& store) {
  CO_TRY_ASSIGN(cluster::Table table, co_await read_table(store));
  std::set<RankId> ranks{RankId{0}};
  for (const auto& [rank, line] : table.ranks) ranks.insert(rank);
  std::string prefix(kFencePrefix);
  CO_TRY_ASSIGN(auto fences, co_await store.state().list(prefix));
  for (const auto& [key, value] : fences) {
    cluster::Words number(std::string_view(key).substr(kFencePrefix.size()));
    RankId rank;
    if (number.number(rank.v, 10) && number.end()) ranks.insert(rank);
  }
  // Another rank has what was theirs.
  for (const auto& [gone, heir] : table.heirs) ranks.erase(gone);
  co_return ranks;
}

Task<Result<VolumeView>> replay_volume(JournalSource source) {
  VolumeView view;
  CO_TRY_ASSIGN(cluster::Table table, co_await read_table(*source.store));
  CO_TRY_ASSIGN(std::set<RankId> ranks, co_await ranks_of(*source.store));
  for (RankId rank : ranks) {
    source.rank = rank;
    // Another rank than the first may have been made and never begun.
    const bool first = rank == RankId{0};
    JournalSource one = source;
    one.must_exist = source.must_exist && first;
    auto journal = co_await replay_journal(one, false, false);
    if (!journal && !first && journal.error().code == ENOENT) continue;
    if (!journal) co_return std::unexpected(std::move(journal).error());
    view.journals[rank] = std::move(*journal);
  }
  CO_TRY(settle_imports(view, table, source.volume_name));
  find_unfinished(view, table);
  co_return view;
}

}  // namespace graftfs::tools
