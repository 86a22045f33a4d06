#include "sim/image.h"

#include <fmt/format.h>

#include <functional>

#include "base/fault.h"

#include "recovery/commit_mark.h"
#include "sim/executor.h"

namespace graftfs::sim {
namespace {

constexpr size_t kPage = 1000;
thread_local bool reading = false;

Task<Result<void>> read_dir(Store& store, Ino dir, Image& image) {
  CO_TRY_ASSIGN(auto bytes, co_await store.dirs().read_header(dir));
  if (bytes) {
    CO_TRY_ASSIGN(image.dirs[dir], decode_dir_header(dir, *bytes));
  }
  EntryKey from;
  for (;;) {
    CO_TRY_ASSIGN(auto page, co_await store.dirs().read_entries(dir, from, kPage));
    for (const DirEntryBytes& e : page) {
      auto key = split_entry_key(e.key);
      if (!key) co_return damaged(fmt::format("directory {:#x} has a bad key", dir.v));
      CO_TRY_ASSIGN(EntryValue value, decode_entry_value(dir, e.key, e.value));
      if (value.kind == EntryKind::primary) {
        auto at = co_await store.dirs().locate(value.ino);
        if (!at) co_return std::unexpected(at.error());
        if (*at) image.locations[value.ino] = **at;
      }
      image.entries[dir][std::string(key->name)] = std::move(value);
    }
    if (page.size() < kPage) break;
    from = page.back().key + '\0';
  }
  co_return Result<void>{};
}

void overlay(const Cache& cache, Image& image) {
  cache.for_each_dir([&](const Dir& dir) {
    auto it = image.dirs.find(dir.ino());
    if (it == image.dirs.end() || it->second.version < dir.header.version)
      image.dirs[dir.ino()] = dir.header;
    auto& names = image.entries[dir.ino()];
    for (const auto& [hash, first] : dir.entries) {
      for (const Dentry* e = first; e; e = e->same_hash) {
        auto there = names.find(e->name);
        if (there != names.end() && there->second.version >= e->version) continue;
        if (e->kind == EntryKind::null)
          names.erase(e->name);
        else
          names[e->name] = EntryValue{e->kind, e->version, e->ino, e->type, e->inode};
      }
    }
  });
}

Task<Result<void>> read_all(Executor& executor, Store& store, std::vector<Ino> dirs,
                            ImageOptions options, Image& image) {
  CO_TRY_ASSIGN(JournalDevice * device, co_await store.own_journal(options.rank));
  RecoveryOptions recovery;
  recovery.volume = options.volume;
  recovery.rank = options.rank;
  recovery.volume_name = "simulated";
  recovery.unsynced_survived = store.unsynced_survived(options.rank);
  recovery.from = options.from;
  Cache cache;
  auto recovered = co_await recover(executor, *device, store.dirs(), cache, image.state, recovery);
  if (!recovered) co_return std::unexpected(recovered.error());
  if (options.twice) {
    recovered = co_await recover(executor, *device, store.dirs(), cache, image.state, recovery);
    if (!recovered) co_return std::unexpected(recovered.error());
  }
  image.recovered = std::move(*recovered);
  for (Ino dir : dirs) {
    if (dir == kCommitMarks) continue;
    CO_TRY(co_await read_dir(store, dir, image));
  }
  overlay(cache, image);
  Ino first;
  CO_TRY_ASSIGN(image.data_inos, co_await store.data().list(first, SIZE_MAX));
  for (Ino ino : image.data_inos) image.data[ino];
  for (const auto& [dir, names] : image.entries) {
    for (const auto& [name, value] : names) {
      if (value.kind != EntryKind::primary || !value.inode.is_regular()) continue;
      std::string bytes(std::min<uint64_t>(value.inode.size, 1 << 20), '\0');
      auto read = co_await store.data().read(value.ino, 0, bytes.data(), bytes.size());
      if (!read && read.error().is_damage() && options.data_may_rot) {
        MARK("sim.data.spoiled");
        image.spoiled.insert(value.ino);
        image.data.erase(value.ino);
        continue;
      }
      if (!read) co_return read;
      image.data[value.ino] = std::move(bytes);
    }
  }
  co_return Result<void>{};
}

Task<void> read_into(Executor& executor, Store& store, std::vector<Ino> dirs, ImageOptions options,
                     Image& image, Result<void>& result) {
  result = co_await read_all(executor, store, std::move(dirs), options, image);
}

Stat without_blocks(const Stat& s) {
  Stat out = s;
  out.blocks = 0;
  return out;
}

// The inode that an entry leads to; null where it leads nowhere.
const Inode* follow(const Image& image, const EntryValue& value, RankId rank) {
  switch (value.kind) {
    case EntryKind::primary:
      return &value.inode;
    case EntryKind::dir_link: {
      auto it = image.dirs.find(value.ino);
      return it == image.dirs.end() ? nullptr : &it->second.inode;
    }
    case EntryKind::remote_link: {
      auto linked = image.entries.find(linked_dir_ino(rank));
      if (linked == image.entries.end()) return nullptr;
      auto it = linked->second.find(hidden_name(value.ino));
      if (it == linked->second.end() || it->second.kind != EntryKind::primary) return nullptr;
      return &it->second.inode;
    }
    default:
      return nullptr;
  }
}

struct Fsck {
  const Image& image;
  bool settled;
  std::map<Ino, uint32_t> links;    // names of files behind remote links
  std::map<Ino, uint32_t> subdirs;  // of each directory
  std::map<Ino, std::string> embedded;

  std::string entry(Ino dir, const std::string& name, const EntryValue& value);
  std::string check_dir(Ino dir, const DirHeader& header);
  std::string links_add_up();
  std::string data_has_owners();
};

std::string Fsck::entry(Ino dir, const std::string& name, const EntryValue& value) {
  std::string where = fmt::format("entry '{}' of directory {:#x}", name, dir.v);
  bool orphans = dir == orphans_dir_ino(RankId{0});
  bool linked = dir == linked_dir_ino(RankId{0});
  const Inode* inode = follow(image, value, RankId{0});
  if (!inode) {
    // A purge that a crash cut short has removed the directory and not yet its place here.
    if (orphans && value.kind == EntryKind::dir_link && !settled) return {};
    return where + " leads nowhere";
  }
  if (inode->ino != value.ino) return where + " leads to another inode";
  if (value.type != (inode->mode & S_IFMT)) return where + " has the wrong type";
  if ((orphans || linked) && hidden_name(value.ino) != name) return where + " has the wrong name";
  if (value.kind == EntryKind::primary) {
    auto [it, fresh] = embedded.emplace(value.ino, where);
    if (!fresh) return where + " and " + it->second + " are the same inode";
    if (image.dirs.contains(value.ino)) return where + " is a directory, too";
    if (orphans && inode->nlink != 0) return where + " is an orphan with links";
    if (!orphans && !linked && inode->nlink != 1) return where + " embeds an inode with links";
    auto at = image.locations.find(value.ino);
    if (settled && at == image.locations.end()) return where + " is missing in the index";
    if (settled && (at->second.dir != dir || at->second.key != entry_key(name)))
      return where + " is elsewhere in the index";
  } else if (value.kind == EntryKind::remote_link) {
    links[value.ino]++;
    if (orphans || linked) return where + " must not be a link";
  } else {
    const DirHeader& header = image.dirs.at(value.ino);
    if (header.at.parent != dir || header.at.name != name)
      return where + fmt::format(" is a directory that hangs at '{}' of {:#x}", header.at.name,
                                 header.at.parent.v);
    if (!orphans) subdirs[dir]++;
    if (orphans && inode->nlink != 0) return where + " is an orphan with links";
  }
  return {};
}

std::string Fsck::check_dir(Ino dir, const DirHeader& header) {
  if (header.inode.ino != dir) return fmt::format("directory {:#x} has another's header", dir.v);
  auto it = image.entries.find(dir);
  size_t n = it == image.entries.end() ? 0 : it->second.size();
  if (header.inode.size != n)
    return fmt::format("directory {:#x} has {} entries and says {}", dir.v, n, header.inode.size);
  bool orphan = header.at.parent == orphans_dir_ino(RankId{0});
  if (!is_hidden_dir(dir) && !orphan && header.inode.nlink != 2 + subdirs[dir])
    return fmt::format("directory {:#x} has {} subdirectories and {} links", dir.v, subdirs[dir],
                       header.inode.nlink);
  if (dir == kRootIno || is_hidden_dir(dir)) return {};
  auto up = image.entries.find(header.at.parent);
  if (up != image.entries.end()) {
    auto e = up->second.find(header.at.name);
    if (e != up->second.end() && e->second.ino == dir) return {};
  }
  return fmt::format("directory {:#x} hangs at '{}' of {:#x}, which has no such entry", dir.v,
                     header.at.name, header.at.parent.v);
}

std::string Fsck::links_add_up() {
  auto linked = image.entries.find(linked_dir_ino(RankId{0}));
  if (linked == image.entries.end()) return {};
  for (const auto& [name, value] : linked->second)
    if (value.inode.nlink != links[value.ino] || links[value.ino] == 0)
      return fmt::format("inode {:#x} has {} names and {} links", value.ino.v, links[value.ino],
                         value.inode.nlink);
  return {};
}

std::string Fsck::data_has_owners() {
  if (!settled) return {};
  for (Ino ino : image.data_inos) {
    if (embedded.contains(ino)) continue;
    bool unused = false;  // left by a create that was lost; the ino comes again
    for (const InoRange& range : image.state.inos) unused |= ino.v >= range.next;
    if (!unused) return fmt::format("there is data of inode {:#x}, which does not exist", ino.v);
  }
  return {};
}

}  // namespace

bool reading_image() { return reading; }

Result<Image> read_image(const Medium& medium, ImageOptions options) {
  EventQueue queue(1);
  NodeExecutor& node = queue.add_node();
  std::shared_ptr<Medium> copy = medium.clone();
  std::unique_ptr<Store> store = copy->open(node, {"reader", 1});
  Image image;
  Result<void> result = fail(EIO, "reading the image never ended");
  TaskScope tasks;
  reading = true;
  std::vector<Ino> dirs = copy->dirs();
  tasks.spawn(read_into(node, *store, dirs, options, image, result));
  while (!tasks.empty() && queue.step()) {
  }
  reading = false;
  TRY(result);
  return image;
}

std::string check_consistent(const Image& image, bool settled) {
  Fsck fsck{image, settled, {}, {}, {}};
  for (const auto& [dir, names] : image.entries) {
    if (!names.empty() && !image.dirs.contains(dir))
      return fmt::format("directory {:#x} has entries and no header", dir.v);
    for (const auto& [name, value] : names)
      if (auto wrong = fsck.entry(dir, name, value); !wrong.empty()) return wrong;
  }
  for (const auto& [dir, header] : image.dirs)
    if (auto wrong = fsck.check_dir(dir, header); !wrong.empty()) return wrong;
  if (auto wrong = fsck.links_add_up(); !wrong.empty()) return wrong;
  return fsck.data_has_owners();
}

std::string compare_names(const Image& image, const Model& model, const std::set<Ino>& held,
                          bool settled) {
  std::set<Ino> seen;
  // From the root down, both at once.
  std::function<std::string(Ino, const std::string&)> walk =
      [&](Ino dir, const std::string& path) -> std::string {
    const ModelNode* want = model.find(dir);
    auto names = image.entries.find(dir);
    static const std::map<std::string, EntryValue> kNone;
    const auto& have = names == image.entries.end() ? kNone : names->second;
    for (const auto& [name, ino] : want->names)
      if (!have.contains(name)) return fmt::format("{}/{} is missing", path, name);
    for (const auto& [name, value] : have) {
      auto it = want->names.find(name);
      std::string at = path + "/" + name;
      if (it == want->names.end()) return at + " should not exist";
      if (it->second != value.ino)
        return fmt::format("{} is {:#x} instead of {:#x}", at, value.ino.v, it->second.v);
      const Inode* inode = follow(image, value, RankId{0});
      if (!inode) return at + " leads nowhere";
      const ModelNode& n = *model.find(value.ino);
      if (without_blocks(*inode) != n.stat)
        return fmt::format("{}\n    has  {}\n    want {}", at, describe_stat(*inode),
                           describe_stat(n.stat));
      if (inode->symlink() != n.target) return at + " has another target";
      if (inode->xattrs() != n.xattrs) return at + " has other extended attributes";
      seen.insert(value.ino);
      if (inode->is_dir())
        if (auto wrong = walk(value.ino, at); !wrong.empty()) return wrong;
    }
    return {};
  };
  auto root = image.dirs.find(kRootIno);
  if (root == image.dirs.end()) return "there is no root";
  if (without_blocks(root->second.inode) != model.find(kRootIno)->stat)
    return "/\n    has  " + describe_stat(root->second.inode) + "\n    want " +
           describe_stat(model.find(kRootIno)->stat);
  if (root->second.inode.xattrs() != model.find(kRootIno)->xattrs)
    return "/ has other extended attributes";
  if (auto wrong = walk(kRootIno, ""); !wrong.empty()) return wrong;

  static const std::map<std::string, EntryValue> kNone;
  auto orphans = image.entries.find(orphans_dir_ino(RankId{0}));
  for (const auto& [name, value] : orphans == image.entries.end() ? kNone : orphans->second) {
    if (!model.is_orphan(value.ino))
      return fmt::format("inode {:#x} is an orphan and should not be", value.ino.v);
    if (settled && !held.contains(value.ino))
      return fmt::format("inode {:#x} was never purged", value.ino.v);
    seen.insert(value.ino);
  }
  for (Ino ino : held)
    if (model.is_orphan(ino) && !seen.contains(ino))
      return fmt::format("inode {:#x} is open and was purged", ino.v);
  return {};
}

std::string compare_data(const Image& image, const Model& model,
                         const std::map<Ino, FileHistory>& files, const Look& look) {
  for (const auto& [ino, bytes] : image.data) {
    const ModelNode* n = model.find(ino);
    auto file = files.find(ino);
    if (!n || n->stat.nlink == 0 || !n->stat.is_regular()) continue;
    static const FileHistory kNever;
    const FileHistory& history = file == files.end() ? kNever : file->second;
    if (auto at = history.wrong(0, bytes, look))
      return fmt::format("inode {:#x} (size {}): byte {} is {:#04x}; writes that cover it:{}",
                         ino.v, n->stat.size, *at, static_cast<uint8_t>(bytes[*at]),
                         history.explain(*at));
  }
  return {};
}

std::string compare_trees(const Image& a, const Image& b) {
  for (const auto& [ino, header] : a.dirs) {
    auto it = b.dirs.find(ino);
    if (it == b.dirs.end()) return fmt::format("directory {:#x} is missing", ino.v);
    if (header.inode != it->second.inode || !(header.at == it->second.at))
      return fmt::format("directory {:#x} differs", ino.v);
  }
  if (a.dirs.size() != b.dirs.size()) return "there are more directories";
  for (const auto& [ino, names] : a.entries) {
    auto it = b.entries.find(ino);
    size_t n = it == b.entries.end() ? 0 : it->second.size();
    if (names.size() != n)
      return fmt::format("directory {:#x} has {} entries, not {}", ino.v, n, names.size());
    for (const auto& [name, value] : names) {
      auto e = it->second.find(name);
      if (e == it->second.end() || e->second.ino != value.ino || e->second.kind != value.kind ||
          !(e->second.inode == value.inode))
        return fmt::format("entry '{}' of directory {:#x} differs", name, ino.v);
    }
  }
  return {};
}

}  // namespace graftfs::sim
