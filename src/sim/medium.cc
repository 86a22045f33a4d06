#include "sim/medium.h"

#include "store/memory/memory_store.h"
#include "store/rados/name.h"

namespace graftfs::sim {

std::unique_ptr<Store> DiskMedium::open(NodeExecutor& executor, const Process&) {
  return std::make_unique<MemoryStore>(executor, disk_, random_);
}

std::shared_ptr<Medium> DiskMedium::clone() const {
  std::shared_ptr<MemoryDisk> copy = disk_->clone();
  copy->faults() = {};
  return std::make_shared<DiskMedium>(std::move(copy), nullptr);
}

std::shared_ptr<Medium> DiskMedium::what_if(Random& random, CrashKind kind) const {
  std::shared_ptr<MemoryDisk> copy = disk_->clone();
  copy->crash(random, kind);
  return std::make_shared<DiskMedium>(std::move(copy), nullptr);
}

std::unique_ptr<Store> RadosMedium::open(NodeExecutor& executor, const Process& process) {
  return std::make_unique<RadosStore>(executor, cluster_->connect(executor, process), options_);
}

// Nothing guards file data but that its sender is shut out: where it is not, it comes now, or
// never.
void RadosMedium::kill(const Process& process) {
  cluster_->kill(process);
  if (cluster_->options().guards_alone) cluster_->settle("data/");
}

std::shared_ptr<Medium> RadosMedium::clone() const {
  return std::make_shared<RadosMedium>(cluster_->clone(), options_);
}

std::shared_ptr<Medium> RadosMedium::what_if(Random& random, CrashKind) const {
  return std::make_shared<RadosMedium>(cluster_->what_if(random), options_);
}

std::vector<Ino> RadosMedium::dirs() const {
  std::vector<Ino> dirs;
  for (const auto& [name, object] : cluster_->objects())
    if (Ino ino = rados::ino_of_dir(name)) dirs.push_back(ino);
  return dirs;
}

namespace {

constexpr size_t kPage = 1000;

Task<void> read_dirs(Store& store, std::vector<Ino> inos, std::map<Ino, StoredDir>& dirs,
                     Result<void>& result) {
  for (Ino ino : inos) {
    StoredDir& dir = dirs[ino];
    auto header = co_await store.dirs().read_header(ino);
    if (!header) {
      result = std::unexpected(header.error());
      co_return;
    }
    dir.header = *header;
    for (EntryKey from;;) {
      auto page = co_await store.dirs().read_entries(ino, from, kPage);
      if (!page) {
        result = std::unexpected(page.error());
        co_return;
      }
      for (DirEntryBytes& entry : *page) dir.entries[entry.key] = std::move(entry.value);
      if (page->size() < kPage) break;
      from = page->back().key + '\0';
    }
  }
}

}  // namespace

Result<std::map<Ino, StoredDir>> stored_dirs(const Medium& medium) {
  EventQueue queue(1);
  NodeExecutor& node = queue.add_node();
  std::shared_ptr<Medium> copy = medium.clone();
  std::unique_ptr<Store> store = copy->open(node, {"reader", 1});
  std::map<Ino, StoredDir> dirs;
  Result<void> result;
  {
    TaskScope tasks;
    std::vector<Ino> inos = copy->dirs();
    tasks.spawn(read_dirs(*store, inos, dirs, result));
    while (!tasks.empty() && queue.step()) {
    }
  }
  store.reset();
  TRY(result);
  return dirs;
}

}  // namespace graftfs::sim
