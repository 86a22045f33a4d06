// Inodes without names: held while somebody has them open, then purged, then InoRelease.
#include <algorithm>

#include "base/fault.h"
#include "server/holds.h"
#include "server/migrate.h"
#include "server/rank.h"

namespace graftfs {
namespace {

constexpr size_t kPurgeBatch = 1024;
constexpr size_t kReleasesInAnEvent = 64;
// How often, and how many times, the journal is looked at for a sync that somebody else asked for.
constexpr Nanos kLookEvery = 20 * kMillisecond;
constexpr int kLooks = 8;
constexpr Nanos kRetryAfter = kSecond;
// Purging makes room for those who ask for something: so many in that time are busy, and so long it
// waits for them, at the most, unless so much is to be purged.
constexpr Nanos kBusyLook = 10 * kMillisecond;
constexpr uint64_t kBusyRequests = 20;
constexpr int kBusyLooks = 100;
constexpr size_t kMuchToPurge = 1 << 20;

}  // namespace

// The inodes that one batch takes away. While it lives ~orphans is not evicted, no write-back
// brings their directories back, and requests for them are answered ESTALE.
class Rank::Purge {
 public:
  Purge(Rank& rank, Dir& orphans) : rank_(rank), orphans_(orphans) { orphans_.pins++; }
  ~Purge() {
    forget_dirs();
    orphans_.pins--;
    for (Ino ino : inos_) rank_.being_purged_.erase(ino.v);
  }
  Purge(const Purge&) = delete;
  Purge& operator=(const Purge&) = delete;

  void take(Ino ino, Dir* dir) {
    inos_.push_back(ino);
    rank_.being_purged_.insert(ino.v);
    if (!dir) return;
    dir->pins++;
    dir->frozen = true;
    dirs_.push_back(dir);
  }
  // Before the release drops them.
  void forget_dirs() {
    for (Dir* dir : dirs_) {
      dir->pins--;
      dir->frozen = false;
    }
    dirs_.clear();
  }
  const std::vector<Ino>& inos() const { return inos_; }

 private:
  Rank& rank_;
  Dir& orphans_;
  std::vector<Ino> inos_;
  std::vector<Dir*> dirs_;
};

Rank::Hold* Rank::find_hold(Ino ino, SessionId session) {
  auto it = holds_.find(ino.v);
  if (it == holds_.end()) return nullptr;
  for (Hold& hold : it->second)
    if (hold.session == session) return &hold;
  return nullptr;
}

void Rank::add_hold(Ino ino, SessionId session, uint32_t count) {
  if (!state_.sessions.contains(session)) return;
  Hold* hold = find_hold(ino, session);
  if (!hold) hold = &holds_[ino.v].emplace_back(Hold{.session = session});
  hold->count += count;
  hold->nameless |= count == 0;
}

// What a session says that it has opened counts. That an inode has lost its last name it may not
// have heard yet.
void Rank::claim_holds(SessionId session, const std::vector<HoldCount>& claimed) {
  held_for_.erase(session);
  std::vector<Ino> held;
  for (auto& [ino, holds] : holds_)
    for (Hold& hold : holds)
      if (hold.session == session) {
        hold.count = 0;
        held.push_back(Ino{ino});
      }
  for (const HoldCount& claim : claimed) add_hold(claim.ino, session, claim.count);
  std::sort(held.begin(), held.end());
  for (Ino ino : held) drop_hold(ino, session, 0);
}

bool Rank::note_held(const Request& request) {
  if (request.seq == 0) return true;
  std::set<uint64_t>& held = held_for_[request.session];
  held.erase(held.begin(), held.lower_bound(request.oldest));
  return held.insert(request.seq).second;
}

bool Rank::is_held_by(Ino ino, SessionId session) const {
  auto it = holds_.find(ino.v);
  return it != holds_.end() && std::any_of(it->second.begin(), it->second.end(),
                                           [&](const Hold& h) { return h.session == session; });
}

void Rank::drop_hold(Ino ino, SessionId session, uint32_t count) {
  Hold* hold = find_hold(ino, session);
  if (!hold) return;
  if (count <= hold->count) {
    hold->count -= count;
    if (hold->count > 0 || hold->nameless) return;
  }
  auto& holds = holds_[ino.v];
  holds.erase(holds.begin() + (hold - holds.data()));
  if (!holds.empty()) return;
  holds_.erase(ino.v);
  want_purge(ino);
}

// The last hold is gone; if the last name is, too, nothing leads to it any more.
void Rank::want_purge(Ino ino) {
  if (options_.read_only || failed_) return;
  const std::string name = hidden_name(ino);
  bool known = false, doubtful = false;
  for (Ino dir : orphans_dirs()) {
    Dir* orphans = cache_.find_dir(dir);
    if (!orphans) continue;
    Dentry* e = cache_.find_entry(*orphans, name);
    known = known || (e && e->kind != EntryKind::null);
    doubtful = doubtful || (!e && !orphans->knows(name_hash(name)));
  }
  if (!known && !doubtful) return;
  if (!known) {
    // Not known: only an inode that surely has a name is none.
    MARK("purge.orphan_not_cached");
    Dentry* inode = cache_.find_inode(ino);
    Dir* dir = cache_.find_dir(ino);
    if (inode && inode->inode.nlink > 0) return;
    if (dir && dir->inode().nlink > 0) return;
  }
  purge_queue_.push_back(ino);
  start_purging();
}

void Rank::start_purging() {
  if (claiming_ || std::exchange(purging_, true)) return;
  executor_.post([this, alive = alive_] {
    if (*alive) tasks_.spawn(purge_loop());
  });
}

Task<void> Rank::purge_loop() {
  while ((drop_lost_ || !purge_queue_.empty()) && !failed_) {
    if (std::exchange(drop_lost_, false)) {
      auto dropped = co_await drop_data_of_lost_files();
      if (!dropped && !failed_)
        say("data of files that a crash has taken stays in the store: " +
            describe(dropped.error()));
      continue;
    }
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
    co_await yield_to_requests();
    auto purged = co_await purge_batch(batch);
    quieter_.ring();
    if (!purged && !failed_) {
      say("purging removed files: " + describe(purged.error()));
      for (Ino ino : batch) purge_queue_.push_back(ino);
      co_await sleep_for(executor_, kRetryAfter);
      if (stopping_) break;
    }
  }
  purging_ = false;
  quieter_.ring();
}

Task<void> Rank::yield_to_requests() {
  for (int i = 0; i < kBusyLooks && purge_queue_.size() < kMuchToPurge; ++i) {
    if (failed_ || stopping_ || out_of_space_ || journal_->out_of_space()) break;
    const uint64_t before = stats_.requests;
    co_await sleep_for(executor_, kBusyLook);
    if (stats_.requests - before < kBusyRequests) break;
    MARK("purge.yields");
  }
}

Task<Result<void>> Rank::durable_in_time(Lsn lsn) {
  for (int i = 0; i < kLooks && journal_->durable() < lsn; ++i) {
    if (failed_ || stopping_) break;
    co_await sleep_for(executor_, kLookEvery);
  }
  co_return co_await journal_->sync();
}

// Whether the name is still in ~orphans; reads the entry where it is not cached.
Task<Result<bool>> Rank::is_orphan(Dir& orphans, Ino ino) {
  std::string name = hidden_name(ino);
  if (!cache_.find_entry(orphans, name) && !orphans.knows(name_hash(name)))
    CO_TRY(co_await fetch_entry(orphans.ino(), name));
  Dentry* e = cache_.find_entry(orphans, name);
  co_return e && e->kind != EntryKind::null;
}

Task<Result<void>> Rank::purge_batch(std::vector<Ino> asked) {
  // The unlink must not be forgotten by a crash once the data is gone. Nobody waits for the purge,
  // so it asks for no sync of its own where one is about to come.
  CO_TRY(co_await durable_in_time(journal_->appended()));
  // Behind every answer that could have told of one.
  co_await hold_queries_->ask(asked);
  if (failed_) co_return std::unexpected(*failed_);
  for (Ino dir : orphans_dirs()) {
    std::vector<Ino> inos = asked;
    CO_TRY(co_await purge_from(dir, std::move(inos)));
  }
  co_return Result<void>{};
}

// Until it is done: of an inode whose contents have begun to go nobody must get hold again.
Task<Result<void>> Rank::remove_contents(std::vector<Ino> files, std::vector<DirUpdate> dirs) {
  for (;;) {
    Result<void> removed;
    if (!files.empty()) {
      KILL_POINT("purge.before_data");
      std::vector<Ino> inos = files;
      removed = co_await store_.data().remove_many(std::move(inos));
    }
    if (removed && !dirs.empty()) {
      KILL_POINT("purge.before_dirs");
      std::vector<DirUpdate> updates = dirs;
      removed = co_await store_.dirs().commit(std::move(updates));
    }
    if (removed || failed_ || stopping_) co_return removed;
    MARK("purge.tried_again");
    say("purging removed files: " + describe(removed.error()));
    co_await sleep_for(executor_, kRetryAfter);
  }
}

Task<Result<void>> Rank::purge_from(Ino dir_ino, std::vector<Ino> asked) {
  Dir* found_dir = cache_.find_dir(dir_ino);
  if (!found_dir || found_dir->is_foreign()) co_return Result<void>{};
  if (migrations_->parks(*found_dir)) {
    // It is about to be another rank's, which will purge them, or to stay.
    MARK("purge.frozen");
    for (Ino ino : asked) purge_queue_.push_back(ino);
    co_await sleep_for(executor_, kMillisecond);
    co_return Result<void>{};
  }
  Dir& orphans = *found_dir;
  Purge purge(*this, orphans);
  std::vector<Ino> found;
  for (Ino ino : asked) {
    CO_TRY_ASSIGN(bool orphan, co_await is_orphan(orphans, ino));
    if (orphan) found.push_back(ino);
  }
  // From here to the release nobody finds these inodes; who has got hold of one meanwhile keeps it.
  std::vector<DirUpdate> gone;
  for (Ino ino : found) {
    Dir* dir = cache_.find_dir(ino);
    if (holds_.contains(ino.v) || being_purged_.contains(ino.v)) continue;
    if (dir && dir->pins > 0) {
      MARK("purge.pinned");
      purge_queue_.push_back(ino);
      continue;
    }
    purge.take(ino, dir);
    if (dir || cache_.find_entry(orphans, hidden_name(ino))->kind == EntryKind::dir_link) {
      DirUpdate update;
      update.dir = ino;
      update.remove = true;
      gone.push_back(std::move(update));
    }
  }
  std::vector<Ino> files;
  for (Ino ino : purge.inos())
    if (cache_.find_entry(orphans, hidden_name(ino))->type == S_IFREG) files.push_back(ino);
  const bool any_dirs = !gone.empty();
  CO_TRY(co_await remove_contents(std::move(files), std::move(gone)));
  if (any_dirs)
    for (Ino ino : purge.inos()) header_reads_.committed(ino);
  KILL_POINT("purge.before_release");
  TreeEvent event;
  for (size_t i = 0; i < purge.inos().size();) {
    event.clear();
    event.type = EventType::ino_release;
    event.dirs.push_back({.dirty = true, .full = false, .header = orphans.header});
    DirHeader& header = event.dirs.back().header;
    header.version = header.version.next();
    for (size_t n = 0; n < kReleasesInAnEvent && i < purge.inos().size(); ++n, ++i) {
      EntryItem& item = event.entries.emplace_back();
      item.name = hidden_name(purge.inos()[i]);
      item.value.version = header.version;
      if (header.inode.size > 0) header.inode.size--;
    }
    purge.forget_dirs();
    log(event);
    stats_.purged += event.entries.size();
  }
  co_return Result<void>{};
}

// A power cut may have taken the event that made a file and left its data. Its ino will be used
// again, for a directory, too; so what lies at inos that were not given out goes.
Task<Result<void>> Rank::drop_data_of_lost_files() {
  constexpr size_t kPage = 256;
  const std::vector<InoRange> ranges = std::exchange(lost_inos_, {});
  for (const InoRange& range : ranges) {
    for (Ino from{range.next}; from.v < range.end;) {
      CO_TRY_ASSIGN(auto inos, co_await store_.data().list(from, kPage));
      for (Ino ino : inos) {
        if (ino.v >= range.end) break;
        if (made_again_.contains(ino)) continue;
        MARK("purge.lost_file");
        KILL_POINT("purge.before_lost_data");
        CO_TRY(co_await store_.data().remove(ino));
      }
      if (inos.size() < kPage || stopping_) break;
      from = inos.back().next();
    }
  }
  made_again_.clear();
  co_return Result<void>{};
}

void Rank::nothing_is_made_again() {
  if (lost_inos_.empty() || options_.read_only || failed_) return made_again_.clear();
  MARK("purge.nothing_made_again");
  drop_lost_ = true;
  start_purging();
}

std::vector<Ino> Rank::orphans_dirs() const {
  std::vector<Ino> out;
  for (const auto& [root, import] : state_.imports)
    if (import.settled && is_orphans_dir(root)) out.push_back(root);
  return out;
}

// After a start: what was orphaned before, and is held by nobody, is purged.
Task<Result<void>> Rank::find_orphans() {
  claiming_ = options_.reconnect_window > 0;
  for (Ino dir : orphans_dirs()) CO_TRY(co_await find_orphans_in(dir));
  co_return Result<void>{};
}

Task<void> Rank::let_sessions_claim() {
  co_await give_clients(options_.reconnect_window);
  claiming_ = false;
  if (drop_lost_ || !purge_queue_.empty()) start_purging();
}

Task<Result<void>> Rank::find_orphans_in(Ino ino) {
  Dir* orphans = cache_.find_dir(ino);
  for (NameHash from = 0; orphans && from < Dir::kEndHash;) {
    if (!orphans->knows(from)) CO_TRY(co_await fetch_range(ino, from));
    orphans = cache_.find_dir(ino);
    if (orphans) from = orphans->known_to;
  }
  if (!orphans) co_return Result<void>{};
  std::vector<Ino> found;
  for (const auto& [hash, first] : orphans->entries)
    for (Dentry* e = first; e; e = e->same_hash)
      if (e->kind != EntryKind::null)
        if (Ino orphan = parse_hidden_name(e->name)) found.push_back(orphan);
  for (Ino orphan : found) CO_TRY(co_await fetch_inode(orphan));
  for (Ino orphan : found)
    if (!holds_.contains(orphan.v)) want_purge(orphan);
  co_return Result<void>{};
}

void Rank::adopt_orphans(Ino dir) {
  MARK("purge.adopted");
  auto adopt = [](Rank& rank, Ino dir) -> Task<void> {
    auto found = co_await rank.find_orphans_in(dir);
    if (!found)
      rank.say("removed files of another rank cannot be purged: " + describe(found.error()));
  };
  tasks_.spawn(adopt(*this, dir));
}

}  // namespace graftfs
