// Inodes without names: held while somebody has them open, then purged, then InoRelease.
#include <algorithm>

#include "base/fault.h"
#include "server/rank.h"

namespace graftfs {
namespace {

constexpr size_t kPurgeBatch = 64;
constexpr Nanos kRetryAfter = kSecond;

}  // namespace

void Rank::add_hold(Ino ino, SessionId session, uint32_t count) {
  auto& holds = holds_[ino.v];
  for (Hold& hold : holds) {
    if (hold.session == session) {
      hold.count += count;
      return;
    }
  }
  holds.push_back({session, count});
}

void Rank::drop_hold(Ino ino, SessionId session, uint32_t count) {
  auto it = holds_.find(ino.v);
  if (it == holds_.end()) return;
  auto& holds = it->second;
  for (size_t i = 0; i < holds.size(); ++i) {
    if (holds[i].session != session) continue;
    if (holds[i].count > count) {
      holds[i].count -= count;
      return;
    }
    holds.erase(holds.begin() + static_cast<ptrdiff_t>(i));
    break;
  }
  if (!holds.empty()) return;
  holds_.erase(it);
  want_purge(ino);
}

// The last hold is gone; if the last name is, too, nothing leads to it any more.
void Rank::want_purge(Ino ino) {
  Dir* orphans = cache_.find_dir(orphans_dir_ino(options_.rank));
  if (!orphans || options_.read_only || failed_) return;
  Dentry* e = cache_.find_entry(*orphans, hidden_name(ino));
  if (!e || e->kind == EntryKind::null) {
    // Not an orphan as far as the cache knows; an evicted one is found by its nlink.
    if (orphans->complete() || orphans->knows(name_hash(hidden_name(ino)))) return;
    MARK("purge.orphan_not_cached");
    Dentry* inode = cache_.find_inode(ino);
    Dir* dir = cache_.find_dir(ino);
    if (inode && inode->inode.nlink > 0) return;
    if (dir && dir->inode().nlink > 0) return;
    if (!inode && !dir) return;  // found again by find_orphans() at the next start
  }
  purge_queue_.push_back(ino);
  if (purging_) return;
  purging_ = true;
  executor_.post([this, alive = alive_] {
    if (*alive) tasks_.spawn(purge_loop());
  });
}

Task<void> Rank::purge_loop() {
  while (!purge_queue_.empty() && !failed_) {
    std::vector<Ino> batch;
    while (!purge_queue_.empty() && batch.size() < kPurgeBatch) {
      Ino ino = purge_queue_.front();
      purge_queue_.pop_front();
      if (holds_.contains(ino.v)) continue;  // somebody holds it again
      // Write-back has it in hand: later.
      Dir* dir = cache_.find_dir(ino);
      if (dir && dir->pins > 0) {
        MARK("purge.pinned");
        purge_queue_.push_back(ino);
        break;
      }
      batch.push_back(ino);
    }
    if (batch.empty()) {
      co_await sleep_for(executor_, kMillisecond);
      continue;
    }
    auto purged = co_await purge_batch(batch);
    if (!purged && !failed_) {
      say("purging removed files: " + describe(purged.error()));
      for (Ino ino : batch) purge_queue_.push_back(ino);
      co_await sleep_for(executor_, kRetryAfter);
      if (stopping_) break;
    }
  }
  purging_ = false;
}

Task<Result<void>> Rank::purge_batch(std::vector<Ino> inos) {
  // The unlink must not be forgotten by a crash once the data is gone.
  CO_TRY(co_await journal_->sync());
  Dir* orphans = cache_.find_dir(orphans_dir_ino(options_.rank));
  std::vector<DirUpdate> gone;
  for (Ino ino : inos) {
    Dentry* entry = cache_.find_entry(*orphans, hidden_name(ino));
    Dir* dir = cache_.find_dir(ino);
    if (dir || (entry && entry->kind == EntryKind::dir_link)) {
      if (dir) {
        dir->pins++;  // no write-back may bring the object back
        dir->frozen = true;
      }
      DirUpdate update;
      update.dir = ino;
      update.remove = true;
      gone.push_back(std::move(update));
      continue;
    }
    KILL_POINT("purge.before_data");
    CO_TRY(co_await store_.data().remove(ino));
  }
  if (!gone.empty()) {
    KILL_POINT("purge.before_dirs");
    auto committed = co_await store_.dirs().commit(gone);
    for (const DirUpdate& update : gone) {
      if (Dir* dir = cache_.find_dir(update.dir)) {
        dir->pins--;
        dir->frozen = false;
      }
    }
    CO_TRY(committed);
  }
  KILL_POINT("purge.before_release");
  TreeEvent event;
  for (size_t i = 0; i < inos.size();) {
    event.clear();
    event.type = EventType::ino_release;
    event.dirs.push_back({.dirty = true, .full = false, .header = orphans->header});
    DirHeader& header = event.dirs.back().header;
    header.version = header.version.next();
    for (size_t n = 0; n < TreeEvent::kMaxItems && i < inos.size(); ++n, ++i) {
      EntryItem& item = event.entries.emplace_back();
      item.name = hidden_name(inos[i]);
      item.value.version = header.version;
      if (header.inode.size > 0) header.inode.size--;
    }
    log(event);
    stats_.purged += event.entries.size();
  }
  co_return Result<void>{};
}

// After a start: what was orphaned before, and is held by nobody, is purged.
Task<Result<void>> Rank::find_orphans() {
  Ino ino = orphans_dir_ino(options_.rank);
  Dir* orphans = cache_.find_dir(ino);
  for (NameHash from = 0; from < Dir::kEndHash;) {
    if (!orphans->knows(from)) CO_TRY(co_await fetch_range(ino, from));
    from = orphans->known_to;
  }
  std::vector<Ino> found;
  for (const auto& [hash, first] : orphans->entries)
    for (Dentry* e = first; e; e = e->same_hash)
      if (e->kind != EntryKind::null)
        if (Ino orphan = parse_hidden_name(e->name)) found.push_back(orphan);
  for (Ino orphan : found) {
    CO_TRY(co_await fetch_inode(orphan));
  }
  auto purge = [this, alive = alive_, found] {
    if (!*alive) return;
    for (Ino orphan : found)
      if (!holds_.contains(orphan.v)) want_purge(orphan);
  };
  if (options_.reconnect_window > 0)
    executor_.post_after(options_.reconnect_window, purge);
  else
    purge();
  co_return Result<void>{};
}

}  // namespace graftfs
