// Sealing what is at rest, in the background.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "store/local/local_data.h"

namespace graftfs::local {
namespace {

constexpr size_t kBatch = 32;
// A file with no more to be read is sealed at once; others a piece at a time.
constexpr uint64_t kSmall = 1 << 20;
constexpr size_t kPage = 256;
constexpr int kForOthers = 15;
constexpr Nanos kBetweenPages = 20 * kMillisecond;

}  // namespace

void LocalData::rests(Ino ino) {
  if (never_) return;
  to_seal_[ino] = executor_.now() + options_.seal_after;
  if (sealing_) return;
  sealing_ = true;
  tasks_.spawn(seal_at_rest());
}

Task<void> LocalData::seal_at_rest() {
  while (!to_seal_.empty()) {
    co_await sleep_for(executor_, options_.seal_after / 2);
    if (!alive()) break;
    std::vector<Ino> due;
    for (auto [ino, when] : to_seal_)
      if (when <= executor_.now()) due.push_back(ino);
    // Neighbours lie together.
    std::sort(due.begin(), due.end());
    std::vector<SyncItem> items;
    for (Ino ino : due)
      if (auto it = unsynced_.find(ino); it != unsynced_.end())
        items.push_back({ino, it->second.generation, it->second.created, nullptr});
    if (!items.empty()) {
      // What a seal speaks of is durable before it.
      MARK("store.local.data.sync_to_seal");
      Result<void> synced = items.size() > options_.sync_files_max
                                ? co_await sync_volume(std::move(items))
                                : co_await sync_present(std::move(items));
      (void)synced;  // the next sync says so
    }
    for (size_t i = 0; i < due.size(); i += kBatch) {
      std::vector<Ino> some(due.begin() + i, due.begin() + std::min(i + kBatch, due.size()));
      co_await seal(std::move(some));
    }
  }
  sealing_ = false;
}

Task<void> LocalData::seal(std::vector<Ino> inos) {
  struct Work {
    std::unique_ptr<Sealing> sealing;
    std::shared_ptr<DataFile> file;
    Ino ino;
    Nanos due = 0;  // when this began
    Nanos wait = 0;
    Result<void> result;
  };
  auto works = std::make_shared<std::vector<Work>>();
  for (Ino ino : inos) {
    auto it = to_seal_.find(ino);
    if (it == to_seal_.end() || it->second > executor_.now()) continue;  // gone, or changed
    Nanos due = it->second;
    if (unsynced_.contains(ino) || poisoned_.contains(ino) || all_poisoned()) {
      to_seal_.erase(it);  // a sync has failed; or it has changed, and another has its turn
      continue;
    }
    auto file = open_file(ino, Make::no);
    if (file && *file) {
      works->push_back({nullptr, std::move(*file), ino, due});
    } else {
      to_seal_.erase(ino);
    }
  }
  if (works->empty()) co_return;
  auto begun =
      start_job(pool_, executor_, [files = files_, works, rate = options_.seal_bytes_per_second] {
        for (Work& w : *works) {
          auto sealing = begin_sealing(w.file, rate, w.wait, *files);
          if (!sealing) {
            w.result = std::unexpected(std::move(sealing).error());
            continue;
          }
          w.sealing = std::move(*sealing);
          while (w.sealing && w.result && w.sealing->work.bytes() <= kSmall &&
                 !w.sealing->work.done())
            w.result = go_on_sealing(*w.sealing, *files);
        }
        return true;
      });
  co_await begun;
  for (Work& w : *works) {
    while (w.result && w.sealing && !w.sealing->work.done()) {
      auto piece = start_job(pool_, executor_, [files = files_, works, &w] {
        return go_on_sealing(*w.sealing, *files);
      });
      w.result = co_await piece;
    }
  }
  for (Work& w : *works) {
    if (w.result && w.sealing) {
      Gates::Hold hold(gates_, w.ino, true);
      if (hold.must_wait()) co_await hold.entered();
      // Inline: it reads and writes an inode that is in memory.
      w.result = end_sealing(*w.sealing, *files_);
    } else if (w.result && w.wait == 0) {
      // Sealed, by another process or before it was asked for.
      Gates::Hold hold(gates_, w.ino, true);
      if (hold.must_wait()) co_await hold.entered();
      unlock(*w.file);
    }
    auto it = to_seal_.find(w.ino);
    if (it == to_seal_.end() || it->second != w.due) continue;  // changed meanwhile
    if (!w.result) (void)told(w.ino, w.result.error());
    const int error = w.result ? 0 : w.result.error().code;
    if (error == EOPNOTSUPP) co_return never_seal();
    if (w.wait > 0 || error == EAGAIN) {
      // Who may be changing it seals it, when he ends; unless he dies.
      const Nanos rest = error ? kForOthers * options_.seal_after : options_.seal_after;
      it->second = executor_.now() + std::max(w.wait, rest);
    } else {
      to_seal_.erase(it);
    }
  }
}

void LocalData::never_seal() {
  MARK("store.local.data.no_attributes");
  never_ = true;
  to_seal_.clear();
  if (on_damage_)
    on_damage_(Error{EOPNOTSUPP, fmt::format("{}: the file system below has no extended attributes "
                                             "(user.*), so the contents of files have no checksums",
                                             files_->volume().path)});
}

// Not before the first sync_all(): until then the previous owner's writes may be unsynced.
void LocalData::look_for_unsealed() {
  look_ = true;
  if (!inherited_) start_looking();
}

void LocalData::start_looking() {
  if (std::exchange(look_, false)) tasks_.spawn(find_unsealed());
}

Task<void> LocalData::find_unsealed() {
  auto listed = start_job(pool_, executor_, [files = files_] { return files->list_all(); });
  Result<std::vector<Ino>> all = co_await listed;
  for (size_t i = 0; all && i < all->size(); i += kPage) {
    std::vector<Ino> some(all->begin() + i, all->begin() + std::min(i + kPage, all->size()));
    auto looked = start_job(pool_, executor_, [files = files_, some = std::move(some)] {
      return files->unsealed(some);
    });
    std::vector<Ino> unsealed = co_await looked;
    for (Ino ino : unsealed) {
      MARK("store.local.data.found_unsealed");
      if (!to_seal_.contains(ino)) rests(ino);
    }
    co_await sleep_for(executor_, kBetweenPages);
  }
}

Error LocalData::told(Ino ino, Error error) {
  if (error.is_damage() && on_damage_ && told_.insert(ino).second) on_damage_(error);
  return error;
}

Task<Result<void>> LocalData::believe(Ino ino) {
  Gates::Hold hold(gates_, ino, true);
  if (hold.must_wait()) co_await hold.entered();
  CO_TRY(alive());
  files_->forget(ino);
  told_.erase(ino);
  auto done = start_job(pool_, executor_, [files = files_, ino] { return files->drop_seal(ino); });
  co_return co_await done;
}

}  // namespace graftfs::local
