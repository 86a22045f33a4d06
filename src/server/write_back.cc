// Dirty items go to the store in the background, oldest first, and the journal's tail follows.
#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "recovery/commit_mark.h"
#include "server/rank.h"

namespace graftfs {
namespace {

constexpr Nanos kRetryAfter = 200 * kMillisecond;
// Items that are looked for, encoded, marked clean or evicted before requests get their turn.
constexpr size_t kSlice = 2048;

Task<void> next_turn(Executor& executor) {
  Promised<bool> turn(executor);
  executor.post([turn] { turn.set(true); });
  co_await turn;
}

// One item as it was when its bytes were taken.
struct Taken {
  DirtyItem* item;
  Version version;
};

Version version_of(const DirtyItem& item) {
  return item.is_header ? static_cast<const Dir&>(item).header.version
                        : static_cast<const Dentry&>(item).version;
}

void add_to_update(DirUpdate& update, const Dentry& e) {
  std::string key = entry_key(e.hash, e.name);
  if (e.kind == EntryKind::null) {
    // What leaves ~orphans is nowhere any more.
    if (is_orphans_dir(e.dir->ino()))
      if (Ino ino = parse_hidden_name(e.name)) update.unlocated.push_back(ino);
    update.erase.push_back(std::move(key));
    return;
  }
  EntryValue value{e.kind, e.version, e.ino, e.type, e.inode};
  std::string bytes = encode_entry_value(e.dir->ino(), key, value);
  if (e.kind == EntryKind::primary) update.located.emplace_back(e.ino, key);
  update.put.emplace_back(std::move(key), std::move(bytes));
}

}  // namespace

void Rank::wake_write_back() {
  if (options_.read_only || failed_) return;
  write_back_now_ = true;
  if (write_back_running_) return;
  write_back_running_ = true;
  tasks_.spawn(write_back_loop());
}

// Runs while there is something to do: at once where the journal is above a quarter of its cap or
// the cache is full of dirty items or the disk is full, else when items have waited long enough.
Task<void> Rank::write_back_loop() {
  while (!failed_ && !stopping_) {
    bool pressed = journal_->live_bytes() > soft_cap() ||
                   cache_.usage().bytes > options_.memory_limit || !throttled_.empty() ||
                   out_of_space_ || journal_->out_of_space();
    if (!pressed) break;
    if (cache_.dirty_count() == 0) {
      // Only a checkpoint stands between the tail and the head.
      auto trimmed = co_await trim();
      if (!trimmed) say("the journal could not be trimmed: " + describe(trimmed.error()));
      co_await evict();
      resume_throttled();
      if (throttled_.empty()) break;
      co_await sleep_for(executor_, kMillisecond);
      continue;
    }
    auto written = co_await write_back_batch();
    if (!written) {
      set_out_of_space(written.error().code == ENOSPC);
      if (written.error().code != ENOSPC) say("write-back: " + describe(written.error()));
      resume_throttled();
      relog_stuck();
      co_await sleep_for(executor_, kRetryAfter);
      continue;
    }
    set_out_of_space(false);
    if (auto trimmed = co_await trim(); !trimmed)
      say("the journal could not be trimmed: " + describe(trimmed.error()));
    co_await evict();
    resume_throttled();
    if (*written == 0) {
      relog_stuck();
      co_await sleep_for(executor_, kMillisecond);
    }
  }
  write_back_running_ = false;
  quieter_.ring();
  if (failed_ || stopping_ || write_back_timer_) co_return;
  // What is left waits for company, but not forever.
  write_back_timer_ = true;
  executor_.post_after(options_.write_back_after, [this, alive = alive_] {
    if (!*alive) return;
    write_back_timer_ = false;
    if (failed_ || stopping_ || write_back_running_) return;
    write_back_running_ = true;
    auto once = [](Rank& rank) -> Task<void> {
      auto written = co_await rank.write_back_batch();
      if (written) {
        rank.set_out_of_space(false);
        auto trimmed = co_await rank.trim();
        if (!trimmed) rank.say("the journal could not be trimmed: " + describe(trimmed.error()));
      } else {
        rank.set_out_of_space(written.error().code == ENOSPC);
      }
      co_await rank.evict();
      co_await rank.write_back_loop();
    };
    tasks_.spawn(once(*this));
  });
}

bool Rank::only_damaged_dirty() const {
  for (DirtyItem* item = cache_.first_dirty(); item; item = cache_.next_dirty(item)) {
    Dir* dir = item->is_header ? static_cast<Dir*>(item) : static_cast<Dentry*>(item)->dir;
    if (!dir->damaged) return false;
  }
  return cache_.dirty_count() > 0;
}

Task<void> Rank::evict() {
  for (size_t left = 4 * options_.write_back_batch; left > 0;) {
    if (hungry_ > 0 || cache_.usage().bytes <= options_.memory_limit) co_return;
    const size_t steps = std::min(left, kSlice);
    cache_.evict(options_.memory_limit, steps);
    left -= steps;
    if (left > 0) co_await next_turn(executor_);
  }
}

// Takes the oldest dirty items as they are, waits until that is durable in the journal, commits,
// and marks clean what did not change meanwhile. Returns how many items went.
Task<Result<size_t>> Rank::write_back_batch() {
  std::vector<Dir*> dirs;
  absl::flat_hash_map<Dir*, size_t> index;
  std::vector<std::vector<DirtyItem*>> items;
  // A commit needs room for all the pages that it changes before it gives any back: where there was
  // none, there may be some for fewer.
  const size_t most = std::max<size_t>(options_.write_back_batch / (out_of_space_ ? 8 : 1), 1);
  size_t count = 0;
  for (DirtyItem* item = cache_.first_dirty(); item && count < most;
       item = cache_.next_dirty(item)) {
    Dir* dir = item->is_header ? static_cast<Dir*>(item) : static_cast<Dentry*>(item)->dir;
    if (dir->frozen || dir->damaged) continue;
    auto [it, fresh] = index.try_emplace(dir, dirs.size());
    if (fresh) {
      dirs.push_back(dir);
      items.emplace_back();
      dir->pins++;
    }
    items[it->second].push_back(item);
    // On a full disk what is begun must end before more comes into the journal.
    if (++count % kSlice != 0 || out_of_space_) continue;
    co_await next_turn(executor_);
    // It is still there, as its directory is pinned; where it has become clean the batch ends here.
    if (!item->dirty()) break;
  }
  if (count == 0) co_return size_t{0};
  auto unpin = [&] {
    for (Dir* dir : dirs) dir->pins--;
  };
  // Directories that were replayed have to be merged with the store first.
  for (size_t d = 0; d < dirs.size(); ++d) {
    if (dirs[d]->fetched) continue;
    std::vector<Dentry*> dentries;
    for (DirtyItem* item : items[d])
      if (!item->is_header) dentries.push_back(static_cast<Dentry*>(item));
    auto merged = co_await merge_before_commit(*dirs[d], std::move(dentries));
    if (merged) continue;
    if (!merged.error().is_damage()) {
      unpin();
      co_return std::unexpected(merged.error());
    }
    // The others go on; what was done to this one is kept in the journal.
    MARK("write_back.damaged_directory");
    dirs[d]->damaged = true;
    say("a directory cannot be written back, and its changes stay in the journal: " +
        describe(merged.error()));
  }
  std::vector<DirUpdate> updates;
  std::vector<Taken> taken;
  taken.reserve(count);
  Lsn taken_at = journal_->appended();  // whatever changes from here on has a newer event
  for (size_t d = 0; d < dirs.size(); ++d) {
    if (dirs[d]->damaged) continue;
    DirUpdate update;
    update.dir = dirs[d]->ino();
    for (DirtyItem* item : items[d]) {
      if (taken.size() % kSlice == kSlice - 1) co_await next_turn(executor_);
      if (!item->dirty()) continue;  // the store was newer
      taken.push_back({item, version_of(*item)});
      if (item->is_header)
        update.header = encode_dir_header(update.dir, dirs[d]->header);
      else
        add_to_update(update, static_cast<Dentry&>(*item));
    }
    // Entries never stand in a directory without a header.
    if (!update.header && !dirs[d]->dirty() && !update.put.empty() &&
        dirs[d]->header.version.v <= 1)
      update.header = encode_dir_header(update.dir, dirs[d]->header);
    updates.push_back(std::move(update));
  }
  if (taken.empty()) {
    unpin();
    co_return size_t{0};
  }
  // On a full disk only what makes room goes, and nothing beside it.
  const bool counts = std::any_of(updates.begin(), updates.end(),
                                  [](const DirUpdate& u) { return u.header || !u.put.empty(); });
  const uint64_t commits = commits_ + counts;
  if (counts) {
    // A number is never used for two: one that failed may be there all the same.
    commits_ = commits;
    updates.push_back(commit_mark(options_.rank, commits));
  }
  KILL_POINT("write_back.taken");
  // Nothing reaches the store before it is durable in the journal.
  Result<void> done = co_await journal_->sync();
  KILL_POINT("write_back.before_commit");
  if (done) done = co_await store_.dirs().commit(std::move(updates));
  KILL_POINT("write_back.after_commit");
  if (!done) {
    unpin();
    co_return std::unexpected(done.error());
  }
  for (const Dir* dir : dirs) header_reads_.committed(dir->ino());
  if (counts) journal_->set_commits(commits);
  std::vector<Taken> gone;
  std::vector<DirtyItem*> changed;
  auto mark = [&](const Taken& t) {
    if (!t.item->dirty()) return;  // a fetch has found the store to be newer
    if (version_of(*t.item) == t.version) {
      cache_.mark_clean(*t.item);
    } else {
      MARK("write_back.changed_meanwhile");
      changed.push_back(t.item);
    }
  };
  for (size_t n = 0; n < taken.size(); ++n) {
    if (n % kSlice == kSlice - 1) co_await next_turn(executor_);
    DirtyItem* item = taken[n].item;
    const bool null = !item->is_header && static_cast<Dentry*>(item)->kind == EntryKind::null;
    if (null)
      gone.push_back(taken[n]);
    else
      mark(taken[n]);
  }
  // Marking a null entry clean drops it, unless its directory is pinned by somebody else.
  unpin();
  for (const Taken& t : gone) mark(t);
  std::erase_if(changed, [](const DirtyItem* item) { return !item->dirty(); });
  cache_.wait_from(changed, taken_at.next());
  stats_.write_backs++;
  stats_.written_back_items += taken.size();
  co_return taken.size();
}

// The store may have something newer than a replayed item (it was written back, and more, before
// the crash, or by another rank): the newest version wins.
Task<Result<void>> Rank::merge_before_commit(Dir& dir, std::vector<Dentry*> dentries) {
  CO_TRY_ASSIGN(auto bytes, co_await store_.dirs().read_header(dir.ino()));
  if (!bytes) {
    dir.fetched = true;
    co_return Result<void>{};
  }
  CO_TRY_ASSIGN(DirHeader header, decode_dir_header(dir.ino(), *bytes));
  for (Dentry* e : dentries) {
    if (e->version > header.version) continue;
    EntryKey key = entry_key(e->hash, e->name);
    CO_TRY_ASSIGN(auto value_bytes, co_await store_.dirs().read_entry(dir.ino(), key));
    if (!value_bytes) continue;
    CO_TRY_ASSIGN(EntryValue value, decode_entry_value(dir.ino(), key, *value_bytes));
    std::string name = e->name;
    cache_.merge_entry(dir, e->hash, name, value);
  }
  cache_.merge_header(header);
  co_return Result<void>{};
}

// Segments whose every event is in the store go. The newest segment is rolled where it alone
// keeps the tail.
Task<Result<void>> Rank::trim() {
  SegmentId keep = journal_->current_segment();
  std::optional<Lsn> needed;
  if (DirtyItem* oldest = cache_.oldest_dirty()) needed = oldest->since;
  // Parts of subtrees that are on their way here are nowhere else.
  for (const auto& [id, staged] : state_.staged)
    if (staged.first) needed = std::min(needed.value_or(staged.first), staged.first);
  if (needed) {
    for (const SegmentState& segment : journal_->segments()) {
      if (segment.first > *needed) break;
      keep = segment.id;
    }
  }
  const auto& segments = journal_->segments();
  // A trim stops at a major segment; with none behind the tail, make one.
  bool major_behind = std::any_of(segments.begin() + 1, segments.end(),
                                  [&](const SegmentState& s) { return s.major && s.id <= keep; });
  const bool grown = journal_->live_bytes() > soft_cap() || journal_->out_of_space();
  if (!major_behind && grown && journal_->can_roll()) {
    MARK("write_back.trim.rolled");
    journal_->roll(true);
    journal_->flush();
    if (!needed) keep = journal_->current_segment();
  }
  co_return co_await journal_->trim(keep);
}

// What cannot be written back is logged again at the head, so that it does not pin the tail.
void Rank::relog_stuck() {
  if (journal_->live_bytes() < journal_cap_ / 2 || journal_->out_of_space()) return;
  cache_.sweep(SIZE_MAX);
  const auto& segments = journal_->segments();
  Lsn old = segments.size() > 2 ? segments[segments.size() / 2].first : Lsn{};
  for (size_t n = 0; n < options_.write_back_batch; ++n) {
    DirtyItem* item = cache_.oldest_dirty();
    if (!item || item->since >= old) break;
    TreeEvent event;
    event.type = EventType::inode;
    Dir* dir = item->is_header ? static_cast<Dir*>(item) : static_cast<Dentry*>(item)->dir;
    event.dirs.push_back({.dirty = item->is_header, .full = true, .header = dir->header});
    if (!item->is_header) {
      auto* e = static_cast<Dentry*>(item);
      EntryItem& entry = event.entries.emplace_back();
      entry.name = e->name;
      entry.value = {e->kind, e->version, e->ino, e->type, e->inode};
    }
    MARK("write_back.relogged");
    stats_.relogged++;
    // Its versions are old news to the cache: only the place in the journal changes.
    Lsn lsn = log(event);
    DirtyItem* items[] = {item};
    cache_.wait_from(items, lsn);
  }
}

}  // namespace graftfs
