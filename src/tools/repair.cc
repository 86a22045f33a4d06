// fsck --repair: the journals' state goes to the store, the store is repaired, the journals begin
// anew from there.
#include <fmt/format.h>

#include <set>

#include "base/fault.h"
#include "events/registry.h"
#include "journal/journal.h"
#include "recovery/recover.h"
#include "tools/fsck.h"
#include "tools/store_editor.h"
#include "tools/subtree_map.h"

namespace graftfs::tools {
namespace {

constexpr size_t kBatch = 8192;
constexpr const char* kLostFound = "lost+found";
constexpr int kMaxRounds = 4;  // a repair can bring another thing to light

// What a new journal begins with.
class Checkpoint final : public JournalHooks {
 public:
  explicit Checkpoint(const RankState& state) : state_(state) {}
  void begin_segment(SegmentId, bool major, std::string& payload) override {
    encode_segment_payload(major ? &state_ : nullptr, payload);
    payload.push_back(0);  // no traces
  }
  void journal_progress() override {}
  void journal_failed(const Error&) override {}

 private:
  const RankState& state_;
};

// What is dirty of the directories that are this cache's.
Task<Result<void>> write_back(DirStore& store, const Cache& cache, const KnownDirs& known) {
  std::vector<DirUpdate> updates;
  std::map<Ino, size_t> index;
  size_t count = 0;
  for (DirtyItem* item = cache.first_dirty(); item; item = cache.next_dirty(item)) {
    const Dir& dir = item->is_header ? static_cast<Dir&>(*item) : *static_cast<Dentry&>(*item).dir;
    auto at = known.find(dir.ino());
    if (at == known.end() || at->second.dir != &dir) continue;
    auto [it, fresh] = index.try_emplace(dir.ino(), updates.size());
    if (fresh) {
      updates.emplace_back();
      updates.back().dir = dir.ino();
      // The newest header is always right beside the newest entries.
      auto stored = co_await store.read_header(dir.ino());
      bool newer = false;
      if (stored && *stored) {
        auto header = decode_dir_header(dir.ino(), **stored);
        newer = header && header->version > dir.header.version;
      }
      if (!newer) updates.back().header = encode_dir_header(dir.ino(), dir.header);
    }
    if (!item->is_header) {
      const Dentry& e = static_cast<Dentry&>(*item);
      DirUpdate& update = updates[it->second];
      EntryKey key = entry_key(e.hash, e.name);
      auto stored = co_await store.read_entry(dir.ino(), key);
      if (stored && *stored) {
        auto value = decode_entry_value(dir.ino(), key, **stored);
        if (value && value->version > e.version) continue;
      }
      if (e.kind == EntryKind::null) {
        update.erase.push_back(std::move(key));
      } else {
        EntryValue value{e.kind, e.version, e.ino, e.type, e.inode};
        if (e.kind == EntryKind::primary) update.located.emplace_back(e.ino, key);
        std::string bytes = encode_entry_value(dir.ino(), key, value);
        update.put.emplace_back(std::move(key), std::move(bytes));
      }
    }
    if (++count < kBatch) continue;
    CO_TRY(co_await store.commit(std::move(updates)));
    updates.clear();
    index.clear();
    count = 0;
  }
  if (!updates.empty()) CO_TRY(co_await store.commit(std::move(updates)));
  co_return Result<void>{};
}

// One round of repairs over what the store holds.
class Repairer {
 public:
  Repairer(Executor& executor, Store& store, const FsckModel& model,
           const std::map<RankId, RankState*>& states)
      : executor_(executor), store_(store), model_(model), states_(states), editor_(store.dirs()) {}

  Task<Result<void>> run(std::vector<Problem> problems) {
    for (const Problem& p : problems) {
      if (p.kind != ProblemKind::damaged_dir && p.kind != ProblemKind::missing_root) continue;
      CO_TRY(co_await remake_dir(p.ino));
    }
    for (const Problem& p : problems) CO_TRY(co_await repair(p));
    if (map_is_wrong_) SubtreeMap(model_, states_, {}).repair();
    co_return co_await editor_.commit();
  }

 private:
  DirHeader fresh_header(Ino ino, uint32_t mode) {
    DirHeader header;
    header.inode.ino = ino;
    header.inode.mode = S_IFDIR | mode;
    header.inode.nlink = 2;
    Timespec now = executor_.wall_now();
    header.inode.atime = header.inode.mtime = header.inode.ctime = header.inode.btime = now;
    return header;
  }

  Task<Result<void>> remake_dir(Ino ino) {
    auto it = model_.dirs.find(ino);
    DirHeader header = fresh_header(ino, is_hidden_dir(ino) ? 0700 : 0755);
    std::vector<DirEntryBytes> entries;
    if (it != model_.dirs.end()) {
      const DirNode& node = it->second;
      if (node.has_header) header = node.header;
      header.version = std::max(header.version, node.newest);
      if (!node.links.empty()) header.at = {node.links.front().dir, node.links.front().name};
      header.inode.size = node.entries;
      header.inode.nlink = 2 + node.subdirs;
      std::string damage;
      CO_TRY_ASSIGN(entries, co_await read_all_entries(store_.dirs(), ino, damage));
    }
    editor_.new_header(ino, std::move(header));
    editor_.rewrite(ino);
    for (const DirEntryBytes& e : entries) {
      auto split = split_entry_key(e.key);
      if (!split || split->hash != name_hash(split->name) || check_name(split->name)) continue;
      auto value = decode_entry_value(ino, e.key, e.value);
      if (value) CO_TRY(co_await editor_.put(ino, std::string(split->name), *value));
    }
    co_return Result<void>{};
  }

  Task<Result<void>> repair(const Problem& p) {
    switch (p.kind) {
      case ProblemKind::unreadable:
      case ProblemKind::damaged_dir:
      case ProblemKind::missing_root:
      case ProblemKind::ino_twice:
        co_return Result<void>{};
      case ProblemKind::missing_dir:
      case ProblemKind::missing_file:
        co_return co_await remove_name(p.name);
      case ProblemKind::dir_named_twice:
        co_return co_await name_once(p.ino);
      case ProblemKind::lost_dir:
        co_return co_await rescue_dir(p.ino);
      case ProblemKind::backpointer: {
        CO_TRY_ASSIGN(DirHeader * header, co_await editor_.header(p.ino));
        header->at = {p.name.dir, p.name.name};
        co_return Result<void>{};
      }
      case ProblemKind::entry_count:
      case ProblemKind::dir_links:
        co_return co_await count_again(p.ino);
      case ProblemKind::file_named_twice:
        co_return co_await make_links(p.ino);
      case ProblemKind::file_links:
        co_return co_await set_links(p.ino);
      case ProblemKind::lost_file:
        co_return co_await name_in_lost_found(p.ino);
      case ProblemKind::orphan:
        co_return co_await rescue_orphan(p.ino);
      case ProblemKind::location:
        editor_.locate(p.ino, p.name.dir, p.name.name);
        co_return Result<void>{};
      case ProblemKind::free_ino:
        note_ino(p.ino);
        co_return Result<void>{};
      case ProblemKind::damaged_data:  // repair_volume()
        break;
      case ProblemKind::lost_data:
        co_return co_await adopt_data(p.ino);
      case ProblemKind::two_authorities:
      case ProblemKind::no_authority:
      case ProblemKind::lost_subtree:
      case ProblemKind::bound:
        map_is_wrong_ = true;
        co_return Result<void>{};
      case ProblemKind::ino_range:
        separate_ranges();
        co_return Result<void>{};
      case ProblemKind::unfinished:
        co_return Result<void>{};
    }
    co_return Result<void>{};
  }

  void note_ino(Ino ino) {
    for (const auto& [rank, state] : states_) state->note_ino(ino);
  }

  // Who comes first keeps a range that two have.
  void separate_ranges() {
    std::vector<InoRange> taken;
    for (const auto& [rank, state] : states_) {
      std::erase_if(state->inos, [&](const InoRange& range) {
        return std::any_of(taken.begin(), taken.end(), [&](const InoRange& t) {
          return range.next < t.end && t.next < range.end;
        });
      });
      taken.insert(taken.end(), state->inos.begin(), state->inos.end());
    }
  }

  // Sizes and link counts of directories are set right in the next round, by count_again().
  Task<Result<void>> remove_name(NameRef name) { return editor_.erase(name.dir, name.name); }

  Task<Result<void>> name_once(Ino ino) {
    const DirNode& node = model_.dirs.at(ino);
    size_t keep = 0;
    for (size_t i = 0; i < node.links.size(); ++i)
      if (node.header.at == Backpointer{node.links[i].dir, node.links[i].name}) keep = i;
    for (size_t i = 0; i < node.links.size(); ++i)
      if (i != keep) CO_TRY(co_await remove_name(node.links[i]));
    co_return Result<void>{};
  }

  Task<Result<void>> count_again(Ino ino) {
    const DirNode& node = model_.dirs.at(ino);
    CO_TRY_ASSIGN(DirHeader * header, co_await editor_.header(ino));
    header->inode.size = node.entries;
    bool orphan = !node.links.empty() && is_orphans_dir(node.links.front().dir);
    if (!is_hidden_dir(ino)) header->inode.nlink = orphan ? 0 : 2 + node.subdirs;
    co_return Result<void>{};
  }

  Task<Result<void>> rescue_dir(Ino ino) {
    const DirNode& node = model_.dirs.at(ino);
    // A circle is cut at its smallest number; what hangs below something lost comes along.
    if (!node.links.empty()) {
      std::set<Ino> seen;
      Ino at = ino;
      while (seen.insert(at).second) {
        auto it = model_.dirs.find(at);
        if (it == model_.dirs.end() || it->second.links.empty()) co_return Result<void>{};
        at = it->second.links.front().dir;
      }
      Ino smallest = at;
      for (Ino walk = model_.dirs.at(at).links.front().dir; walk != at;
           walk = model_.dirs.at(walk).links.front().dir)
        smallest = std::min(smallest, walk);
      if (smallest != ino) co_return Result<void>{};
      CO_TRY(co_await remove_name(node.links.front()));
    }
    CO_TRY_ASSIGN(Ino home, co_await lost_found());
    std::string name = fmt::format("#{}", ino.v);
    EntryValue link;
    link.kind = EntryKind::dir_link;
    link.ino = ino;
    link.type = S_IFDIR;
    CO_TRY(co_await editor_.put(home, name, link));
    CO_TRY_ASSIGN(DirHeader * header, co_await editor_.header(ino));
    header->at = {home, name};
    co_return Result<void>{};
  }

  // The newest inode goes to the keep, and every name points there.
  Task<Result<void>> make_links(Ino ino) {
    const FileNode& file = model_.files.at(ino);
    EntryValue link;
    link.kind = EntryKind::remote_link;
    link.ino = ino;
    link.type = file.inode.mode & S_IFMT;
    uint32_t names = static_cast<uint32_t>(file.remotes.size());
    for (const NameRef& home : file.homes) {
      if (is_hidden_dir(home.dir)) {
        CO_TRY(co_await remove_name(home));
        continue;
      }
      names++;
      CO_TRY(co_await editor_.put(home.dir, home.name, link));
    }
    co_return co_await keep(ino, file.inode, names);
  }

  Task<Result<void>> keep(Ino ino, Inode inode, uint32_t names) {
    EntryValue value;
    value.kind = EntryKind::primary;
    value.inode = std::move(inode);
    value.inode.nlink = names;
    co_return co_await editor_.put(linked_dir_ino(RankId{0}), hidden_name(ino), std::move(value));
  }

  Task<Result<void>> set_links(Ino ino) {
    const FileNode& file = model_.files.at(ino);
    const NameRef& home = file.homes.front();
    CO_TRY_ASSIGN(EntryValue value, co_await editor_.entry(home.dir, home.name));
    value.inode.nlink = is_hidden_dir(home.dir) ? static_cast<uint32_t>(file.remotes.size()) : 1;
    co_return co_await editor_.put(home.dir, home.name, std::move(value));
  }

  Task<Result<void>> name_in_lost_found(Ino ino) {
    const FileNode& file = model_.files.at(ino);
    CO_TRY_ASSIGN(Ino home, co_await lost_found());
    EntryValue link;
    link.kind = EntryKind::remote_link;
    link.ino = ino;
    link.type = file.inode.mode & S_IFMT;
    CO_TRY(co_await editor_.put(home, fmt::format("#{}", ino.v), link));
    co_return co_await keep(ino, file.inode, 1);
  }

  Task<Result<void>> rescue_orphan(Ino ino) {
    const FileNode& file = model_.files.at(ino);
    CO_TRY(co_await remove_name(file.homes.front()));
    if (file.remotes.empty()) co_return co_await name_in_lost_found(ino);
    co_return co_await keep(ino, file.inode, static_cast<uint32_t>(file.remotes.size()));
  }

  Task<Result<void>> adopt_data(Ino ino) {
    uint64_t end = 0;
    for (;;) {  // the end of the last piece of data
      uint64_t limit = kMaxFileSize;
      auto data = co_await store_.data().seek(ino, end, true, limit);
      if (!data) break;
      auto hole = co_await store_.data().seek(ino, *data, false, limit);
      if (!hole || *hole <= *data || *hole >= limit) {
        end = hole ? *hole : end;
        break;
      }
      end = *hole;
    }
    CO_TRY_ASSIGN(Ino home, co_await lost_found());
    EntryValue value;
    value.kind = EntryKind::primary;
    value.inode.ino = ino;
    value.inode.mode = S_IFREG | 0600;
    value.inode.nlink = 1;
    value.inode.size = end;
    value.inode.blocks = (end + 511) / 512;
    Timespec now = executor_.wall_now();
    value.inode.atime = value.inode.mtime = value.inode.ctime = value.inode.btime = now;
    note_ino(ino);
    co_return co_await editor_.put(home, fmt::format("#{}", ino.v), std::move(value));
  }

  // Its ino; made where there is none.
  Task<Result<Ino>> lost_found() {
    if (lost_found_) co_return lost_found_;
    std::string name = kLostFound;
    CO_TRY_ASSIGN(EntryValue there, co_await editor_.entry(kRootIno, name));
    if (there.kind == EntryKind::dir_link) {
      lost_found_ = there.ino;
      co_return lost_found_;
    }
    if (there.kind != EntryKind::null)
      co_return fail(EEXIST, "/lost+found is not a directory; rename it and repair again");
    for (const auto& [rank, state] : states_) {
      for (InoRange& range : state->inos)
        if (!lost_found_ && range.next < range.end) lost_found_ = Ino{range.next++};
    }
    if (!lost_found_)
      co_return fail(ENOSPC,
                     "there is no free inode number for /lost+found; mount the volume, make "
                     "that directory, unmount, and repair again");
    DirHeader header = fresh_header(lost_found_, 0700);
    header.at = {kRootIno, name};
    editor_.new_header(lost_found_, std::move(header));
    EntryValue link;
    link.kind = EntryKind::dir_link;
    link.ino = lost_found_;
    link.type = S_IFDIR;
    CO_TRY(co_await editor_.put(kRootIno, name, link));
    co_return lost_found_;
  }

  Executor& executor_;
  Store& store_;
  const FsckModel& model_;
  const std::map<RankId, RankState*>& states_;
  StoreEditor editor_;
  Ino lost_found_;
  bool map_is_wrong_ = false;
};

Task<Result<FsckReport>> check_store(Store& store, const std::map<RankId, RankState*>& states,
                                     FsckModel& model) {
  KnownDirs nothing;
  CO_TRY_ASSIGN(model, co_await read_model(store, nothing));
  FsckReport report;
  report.problems = check_model(model, states, {});
  CO_TRY_ASSIGN(auto located, co_await check_locations(model, store.dirs()));
  for (Problem& p : located) report.problems.push_back(std::move(p));
  report.ranks = states.size();
  report.dirs = model.dirs.size();
  report.files = model.files.size();
  for (const auto& [ino, dir] : model.dirs) report.names += dir.entries;
  co_return report;
}

// What the old journal says is older than the repairs now: it begins anew.
Task<Result<void>> begin_anew(JournalSource source, JournalDevice& device, ReplayedJournal& old) {
  Checkpoint checkpoint(old.state);
  JournalOptions options;
  options.volume = source.volume;
  options.rank = source.rank;
  CO_TRY_ASSIGN(options.epoch,
                co_await source.store->raise_epoch(source.rank, old.view.scan.epoch.next()));
  options.durability = Durability::strict;
  Journal fresh(*source.executor, device, source.store->data(), checkpoint, options, old.view.last,
                old.view.scan.newest.next(), live_segments(old.view.scan));
  CO_TRY(co_await fresh.start());
  SegmentId current = fresh.current_segment();
  CO_TRY(co_await fresh.trim(current));
  CO_TRY(co_await fresh.close());
  co_return co_await source.store->disown_journal(source.rank);
}

}  // namespace

Task<Result<RepairResult>> repair_volume(JournalSource source, bool data) {
  RepairResult result;
  CO_TRY_ASSIGN(std::set<RankId> ranks, co_await ranks_of(*source.store));
  std::map<RankId, JournalDevice*> devices;
  for (RankId rank : ranks) {
    CO_TRY_ASSIGN(devices[rank], co_await source.store->own_journal(rank));
  }
  CO_TRY_ASSIGN(VolumeView view, co_await replay_volume(source));
  if (view.unfinished > 0)
    co_return fail(EBUSY,
                   fmt::format("{0} operations between ranks of {1} are not finished; serve it, so "
                               "that they are ('graftfs serve {1}'), stop that, and repair then",
                               view.unfinished, source.volume_name));
  const std::map<RankId, RankState*> states = view.states();
  {
    KnownDirs known = view.known_dirs();
    CO_TRY_ASSIGN(FsckModel before, co_await read_model(*source.store, known));
    result.before.problems = check_model(before, states, {});
    for (const auto& [rank, journal] : view.journals)
      CO_TRY(co_await write_back(source.store->dirs(), journal->cache, known));
  }
  KILL_POINT("fsck.written_back");
  FsckModel model;
  CO_TRY_ASSIGN(result.after, co_await check_store(*source.store, states, model));
  std::set<std::pair<ProblemKind, Ino>> told;
  for (const Problem& p : result.before.problems) told.insert({p.kind, p.ino});
  for (int round = 0; round < kMaxRounds && !result.after.problems.empty(); ++round) {
    for (const Problem& p : result.after.problems)
      if (told.insert({p.kind, p.ino}).second) result.before.problems.push_back(p);
    Repairer repairer(*source.executor, *source.store, model, states);
    CO_TRY(co_await repairer.run(result.after.problems));
    KILL_POINT("fsck.repaired");
    CO_TRY_ASSIGN(result.after, co_await check_store(*source.store, states, model));
  }
  if (data) {
    DataStore& store = source.store->data();
    CO_TRY_ASSIGN(auto damaged, co_await check_data(model, store));
    CO_TRY(co_await believe_data(damaged, store));
    for (Problem& p : damaged) result.before.problems.push_back(std::move(p));
    CO_TRY_ASSIGN(result.after.problems, co_await check_data(model, store));
  }
  for (auto& [rank, journal] : view.journals) {
    source.rank = rank;
    // One that never began goes on to be new.
    if (journal->view.scan.segments.empty() && rank != RankId{0}) {
      CO_TRY(co_await source.store->disown_journal(rank));
      continue;
    }
    CO_TRY(co_await begin_anew(source, *devices.at(rank), *journal));
  }
  co_return result;
}

}  // namespace graftfs::tools
