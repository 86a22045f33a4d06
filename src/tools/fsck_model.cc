#include "tools/fsck_model.h"

#include <fmt/format.h>

#include "events/event.h"

namespace graftfs::tools {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kMaxDepth = 2048;

// Reads one record at or behind a number; gives the number behind it, or 0 at the end.
struct Probe {
  virtual ~Probe() = default;
  virtual Task<Result<uint64_t>> next(uint64_t from) = 0;
};

// The store fails on a damaged record and does not say where the next sound one is. Numbers are
// tried at growing distances, then between the last that failed and the first that did not.
Task<Result<uint64_t>> behind_damage(Probe& probe, uint64_t from, uint64_t end) {
  uint64_t bad = from, step = 1;
  for (; bad < end && step <= end - bad; step *= 2) {
    auto tried = co_await probe.next(bad + step);
    if (tried) break;
    if (!tried.error().is_damage()) co_return std::unexpected(tried.error());
    bad += step;
  }
  if (bad >= end || step > end - bad) co_return end;
  uint64_t good = bad + step;
  while (good - bad > 1) {
    uint64_t middle = bad + (good - bad) / 2;
    auto tried = co_await probe.next(middle);
    if (!tried && !tried.error().is_damage()) co_return std::unexpected(tried.error());
    (tried ? good : bad) = middle;
  }
  co_return good;
}

struct EntryProbe final : Probe {
  EntryProbe(DirStore& s, Ino d) : store(s), dir(d) {}
  Task<Result<uint64_t>> next(uint64_t from) override {
    EntryKey key = entry_key(from, {});
    CO_TRY_ASSIGN(auto page, co_await store.read_entries(dir, key, 1));
    co_return page.empty() ? Dir::kEndHash : from;
  }
  DirStore& store;
  Ino dir;
};

struct DirProbe final : Probe {
  explicit DirProbe(DirStore& s) : store(s) {}
  Task<Result<uint64_t>> next(uint64_t from) override {
    CO_TRY_ASSIGN(auto page, co_await store.list_dirs(Ino{from}, 1));
    co_return from;
  }
  DirStore& store;
};

Task<Result<std::vector<Ino>>> list_dirs(DirStore& store, FsckModel& model) {
  std::vector<Ino> all;
  size_t page_size = kPage;
  for (Ino from{1};;) {
    auto page = co_await store.list_dirs(from, page_size);
    if (page) {
      all.insert(all.end(), page->begin(), page->end());
      if (page->size() < page_size) co_return all;
      from = page->back().next();
      continue;
    }
    if (!page.error().is_damage()) co_return std::unexpected(page.error());
    if (page_size > 1) {  // up to the damaged one, one by one
      page_size = 1;
      continue;
    }
    model.unreadable.push_back(describe(page.error()));
    DirProbe probe(store);
    uint64_t last = UINT64_MAX - 1;
    CO_TRY_ASSIGN(uint64_t good, co_await behind_damage(probe, from.v, last));
    if (good >= last) co_return all;
    from = Ino{good};
  }
}

class Reader {
 public:
  Reader(Store& store, const KnownDirs& known, FsckModel& model)
      : store_(store), known_(known), model_(model) {}

  Task<Result<void>> read() {
    CO_TRY_ASSIGN(auto inos, co_await list_dirs(store_.dirs(), model_));
    std::set<Ino> all(inos.begin(), inos.end());
    for (const auto& [ino, known] : known_) all.insert(ino);
    for (Ino ino : all) CO_TRY(co_await read_dir(ino));
    // A directory whose header cannot be read does not show in the list.
    std::vector<Ino> named;
    for (const auto& [ino, dir] : model_.dirs)
      if (!all.contains(ino)) named.push_back(ino);
    for (size_t i = 0; i < named.size(); ++i) {
      if (!all.insert(named[i]).second) continue;
      CO_TRY(co_await read_dir(named[i]));
      for (const auto& [ino, dir] : model_.dirs)
        if (!all.contains(ino)) named.push_back(ino);
    }
    for (Ino from{0};;) {
      CO_TRY_ASSIGN(auto page, co_await store_.data().list(from, kPage));
      model_.data.insert(model_.data.end(), page.begin(), page.end());
      if (page.size() < kPage) break;
      from = page.back().next();
    }
    co_return Result<void>{};
  }

 private:
  Task<Result<void>> read_dir(Ino ino) {
    CO_TRY(co_await read_header(ino));
    std::string damage;
    CO_TRY_ASSIGN(auto entries, co_await read_all_entries(store_.dirs(), ino, damage));
    if (!damage.empty()) note_damage(ino, damage);
    const KnownDir at = known(ino);
    const Dir* cached = at.dir;
    std::set<const Dentry*> older;  // the store has a newer one
    for (const DirEntryBytes& bytes : entries) {
      auto split = split_entry_key(bytes.key);
      if (!split || split->hash != name_hash(split->name) || check_name(split->name) != 0) {
        model_.bad_names.push_back(
            {{ino, split ? std::string(split->name) : "?"}, "its key does not fit its name"});
        note_damage(ino, "an entry has a key that does not fit its name");
        continue;
      }
      const Dentry* known =
          cached ? at.cache->find_entry(*cached, split->hash, split->name) : nullptr;
      auto value = decode_entry_value(ino, bytes.key, bytes.value);
      if (!value) {
        if (known) continue;  // is written anew
        note_damage(ino, describe(value.error()));
        continue;
      }
      if (known && known->version >= value->version) continue;
      if (known) older.insert(known);
      take({ino, std::string(split->name)}, *value);
    }
    if (!cached) co_return Result<void>{};
    for (const auto& [hash, first] : cached->entries)
      for (const Dentry* e = first; e; e = e->same_hash)
        if (e->kind != EntryKind::null && !older.contains(e))
          take({ino, e->name, e->dirty()}, {e->kind, e->version, e->ino, e->type, e->inode});
    co_return Result<void>{};
  }

  Task<Result<void>> read_header(Ino ino) {
    DirNode& node = model_.dirs[ino];
    const Dir* cached = known(ino).dir;
    auto bytes = co_await store_.dirs().read_header(ino);
    Result<DirHeader> stored = fail(ENOENT);
    if (!bytes) {
      if (!bytes.error().is_damage()) co_return std::unexpected(bytes.error());
      stored = std::unexpected(bytes.error());
    } else if (*bytes) {
      stored = decode_dir_header(ino, **bytes);
    }
    if (cached && (!stored || cached->header.version >= stored->version)) {
      node.header = cached->header;
      node.has_header = true;
    } else if (stored) {
      node.header = *stored;
      node.has_header = true;
    } else if (stored.error().is_damage()) {
      note_damage(ino, describe(stored.error()));
    }
    co_return Result<void>{};
  }

  KnownDir known(Ino ino) const {
    auto it = known_.find(ino);
    return it == known_.end() ? KnownDir{} : it->second;
  }

  void note_damage(Ino ino, const std::string& what) {
    DirNode& node = model_.dirs[ino];
    node.damaged = true;
    if (node.damage.empty()) node.damage = what;
  }

  void take(NameRef name, const EntryValue& value) {
    DirNode& dir = model_.dirs[name.dir];
    dir.entries++;
    dir.newest = std::max(dir.newest, value.version);
    switch (value.kind) {
      case EntryKind::null:
        break;
      case EntryKind::dir_link:
        dir.subdirs++;
        model_.dirs[value.ino].links.push_back(std::move(name));
        break;
      case EntryKind::remote_link:
        model_.files[value.ino].remotes.push_back(std::move(name));
        break;
      case EntryKind::primary: {
        FileNode& file = model_.files[value.ino];
        if (file.homes.empty() || value.version > file.version) {
          file.inode = value.inode;
          file.version = value.version;
        }
        file.homes.push_back(std::move(name));
        break;
      }
    }
  }

  Store& store_;
  const KnownDirs& known_;
  FsckModel& model_;
};

}  // namespace

Task<Result<std::vector<DirEntryBytes>>> read_all_entries(DirStore& store, Ino dir,
                                                          std::string& damage) {
  std::vector<DirEntryBytes> all;
  size_t page_size = kPage;
  for (EntryKey from;;) {
    auto page = co_await store.read_entries(dir, from, page_size);
    if (page) {
      bool end = page->size() < page_size;
      for (DirEntryBytes& e : *page) all.push_back(std::move(e));
      if (end) co_return all;
      from = all.back().key + '\0';
      continue;
    }
    if (!page.error().is_damage()) co_return std::unexpected(page.error());
    if (page_size > 1) {
      page_size = 1;
      continue;
    }
    if (damage.empty()) damage = describe(page.error());
    EntryProbe probe(store, dir);
    auto split = split_entry_key(from);
    uint64_t hash = split ? split->hash : 0;
    uint64_t end = Dir::kEndHash;
    CO_TRY_ASSIGN(uint64_t good, co_await behind_damage(probe, hash, end));
    if (good >= Dir::kEndHash) co_return all;
    from = entry_key(good, {});
  }
}

Task<Result<FsckModel>> read_model(Store& store, const KnownDirs& known) {
  FsckModel model;
  Reader reader(store, known, model);
  CO_TRY(co_await reader.read());
  co_return model;
}

std::string FsckModel::path_of(Ino dir) const {
  std::string path;
  for (size_t depth = 0; depth < kMaxDepth; ++depth) {
    if (dir == kRootIno) return path.empty() ? "/" : path;
    auto it = dirs.find(dir);
    if (it == dirs.end() || it->second.links.empty()) break;
    const NameRef& link = it->second.links.front();
    path = "/" + link.name + path;
    dir = link.dir;
  }
  if (is_hidden_dir(dir)) return (dir.v % 2 ? "~orphans" : "~linked") + path;
  return fmt::format("?#{:x}", dir.v) + path;
}

std::string FsckModel::path_of(const NameRef& name) const {
  std::string dir = path_of(name.dir);
  return (dir == "/" ? "" : dir) + "/" + name.name;
}

}  // namespace graftfs::tools
