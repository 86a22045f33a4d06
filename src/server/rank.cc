#include "server/rank.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "events/import.h"
#include "events/session.h"
#include "server/holds.h"
#include "server/leases.h"
#include "server/locks.h"
#include "server/migrate.h"
#include "server/rank_core.h"
#include "server/two_party.h"

namespace graftfs {
namespace {

// Replay is assumed to be this fast until a recovery has measured it.
constexpr uint64_t kAssumedReplayBytesPerSecond = 80 << 20;
// Part of the recovery target that replaying may take; the rest is for finding the journal,
// attaching, and for machines that are busier than the one that measured.
constexpr double kReplayShare = 0.4;
constexpr uint64_t kWorthMeasuring = 20'000;  // events

std::string speed_key(RankId rank) { return fmt::format("rank-{}/replay-speed", rank); }

}  // namespace

Rank::Rank(Executor& executor, Store& store, RankOptions options)
    : executor_(executor),
      store_(store),
      options_(std::move(options)),
      encoder_(cache_, options_.trace),
      quieter_(executor),
      peers_(options_.peers),
      core_(std::make_unique<RankCore>(*this)),
      leases_(std::make_unique<Leases>(*core_)),
      hold_queries_(std::make_unique<HoldQueries>(*core_)),
      locks_(std::make_unique<Locks>(*core_)),
      migrations_(std::make_unique<Migrations>(*core_)),
      two_party_(std::make_unique<TwoParty>(*core_)),
      alive_(std::make_shared<bool>(true)) {}

Rank::~Rank() { *alive_ = false; }

void Rank::say(const std::string& line) const {
  if (options_.log) options_.log(line);
}

// -- start and stop -----------------------------------------------------------------------------

Task<Result<void>> Rank::start() {
  Result<void> begun = co_await begin();
  if (!begun && device_) CO_TRY(co_await see_that_it_is_ours());
  co_return begun;
}

Task<Result<void>> Rank::begin() {
  CO_TRY_ASSIGN(device_, co_await store_.own_journal(options_.rank, options_.own));
  KILL_POINT("rank.start.owned");
  store_.data().on_damage([this, alive = alive_](const Error& damage) {
    if (*alive) say(describe(damage));
  });
  RecoveryOptions recovery;
  recovery.volume = options_.volume;
  recovery.rank = options_.rank;
  recovery.unsynced_survived = store_.unsynced_survived(options_.rank);
  recovery.rewrite_doubtful = true;
  recovery.accept_loss = options_.accept_loss;
  recovery.must_exist = options_.journal_must_exist;
  recovery.volume_name = options_.volume_name;
  recovery.progress = options_.progress;
  auto recovered =
      co_await recover(executor_, *device_, store_.dirs(), cache_, state_, std::move(recovery));
  if (!recovered) co_return std::unexpected(std::move(recovered).error());
  recovered_ = std::move(*recovered);
  for (const std::string& message : recovered_.messages) say(message);
  cache_.sweep(SIZE_MAX);  // what the journal says has gone elsewhere
  commits_ = recovered_.commits;
  CO_TRY(co_await choose_cap());
  lost_inos_ = state_.inos;
  // With other processes about, clients are going to make lost files again, whose data is there.
  const bool made_again = peers_ && !recovered_.fresh;
  if (!options_.read_only && !made_again) CO_TRY(co_await drop_data_of_lost_files());

  JournalOptions journal;
  journal.volume = options_.volume;
  journal.rank = options_.rank;
  CO_TRY_ASSIGN(epoch_, co_await store_.raise_epoch(options_.rank, recovered_.epoch.next()));
  journal.epoch = epoch_;
  journal.durability = options_.durability;
  journal.segment_events = options_.segment_events;
  journal.segments_per_major = options_.segments_per_major;
  // Until begin_fresh() has logged the imports there is nothing to checkpoint.
  JournalHooks& hooks = *this;
  journal_ = std::make_unique<Journal>(executor_, *device_, store_.data(), hooks, journal,
                                       recovered_.last, recovered_.newest.next(), recovered_.live);
  CO_TRY(co_await journal_->start());
  KILL_POINT("rank.start.journal_begun");
  if (!options_.leaving && (!options_.read_only || recovered_.fresh))
    CO_TRY(co_await begin_fresh());
  // The roots of subtrees are always cached.
  std::vector<Ino> roots;
  for (const auto& [root, import] : state_.imports)
    if (import.settled) roots.push_back(root);
  for (Ino root : roots) {
    CO_TRY_ASSIGN(Place place, co_await fetch_dir(root));
    if (place.what != Place::ours && !cache_.find_dir(root))
      co_return damaged(
          fmt::format("directory {:#x}, the root of a subtree, is not in the store; "
                      "run 'graftfs fsck {}'",
                      root.v, options_.volume_name));
  }
  CO_TRY(co_await fetch_bounds());
  // What a machine has lost clients have done again, with the inos that they were told: nobody else
  // may get them, and which they are nobody knows here.
  if (made_again)
    for (InoRange& range : state_.inos) range.next = range.end;
  // On a full disk there may be none: then nothing new can be made, and things can be removed.
  auto inos = co_await fetch_inos();
  if (!inos && inos.error().code != ENOSPC) co_return std::unexpected(inos.error());
  if ((!inos || !*inos) && !options_.read_only) say("no inode numbers could be allocated");
  CO_TRY(co_await journal_->sync());
  if (!options_.read_only) CO_TRY(co_await find_orphans());
  serving_ = true;
  if (claiming_) tasks_.spawn(let_sessions_claim());
  wake_write_back();
  KILL_POINT("rank.start.serving");
  migrations_->recovered();
  two_party_->recovered();
  co_return Result<void>{};
}

// Nobody finds a rank before it may speak, nor while the store stands still. Its time is measured
// in parts, and one in which the store did not answer for that long does not count.
Task<void> Rank::give_clients(Nanos time) {
  constexpr int kParts = 4;
  const Nanos part = time / kParts;
  Promised<bool> speaks(executor_);
  say_when({}, [speaks] { speaks.set(true); });
  co_await speaks;
  for (int parts = 0; parts < kParts;) {
    co_await sleep_for(executor_, part);
    const Nanos asked = executor_.now();
    co_await store_.state().get(speed_key(options_.rank));
    if (executor_.now() - asked <= part)
      parts++;
    else
      MARK("rank.store_stood_still");
  }
}

// A process that was stopped while it started finds parts of the journal gone that another owner
// has trimmed since: that is no damage, and no failure of the store.
Task<Result<void>> Rank::see_that_it_is_ours() {
  if (options_.read_only) co_return Result<void>{};
  CO_TRY_ASSIGN(Epoch now, co_await store_.raise_epoch(options_.rank, Epoch{}));
  auto next = co_await store_.raise_epoch(options_.rank, now.next());
  if (next || next.error().code != ESTALE) co_return Result<void>{};
  MARK("rank.start.taken_meanwhile");
  co_return std::unexpected(std::move(next).error());
}

// A rank that never served: its hidden directories come into being, and each is an import of it;
// rank 0 makes the root, too. ~orphans is the last, so what has that has all.
Task<Result<void>> Rank::begin_fresh() {
  struct Root {
    Ino ino;
    const char* path;
    uint32_t mode;
  };
  const Root roots[] = {{kRootIno, "/", 0755},
                        {linked_dir_ino(options_.rank), "~linked", 0700},
                        {orphans_dir_ino(options_.rank), "~orphans", 0700}};
  Timespec now = executor_.wall_now();
  const Dir* last = cache_.find_dir(roots[2].ino);
  if (state_.is_root(roots[2].ino) && last && last->header.version > Version{1})
    co_return Result<void>{};
  bool logged = false;
  for (const Root& root : roots) {
    // Where what comes behind it is there, it has been made, and another rank may have it by now.
    const bool others_are_there = state_.is_root(roots[1].ino);
    if (root.ino == kRootIno && (options_.rank != RankId{0} || others_are_there)) continue;
    CO_TRY_ASSIGN(auto bytes, co_await store_.dirs().read_header(root.ino));
    // A crash may have left only the first of these events, and an Import without the event that
    // makes its header dirty.
    Dir* known = cache_.find_dir(root.ino);
    if (state_.is_root(root.ino) && (bytes || (known && known->header.version > Version{1})))
      continue;
    MARK("rank.fresh.root");
    logged = true;
    DirHeader header;
    bool made = !bytes;
    if (bytes) {
      CO_TRY_ASSIGN(header, decode_dir_header(root.ino, *bytes));
    } else {
      header.version = Version{1};
      header.inode.ino = root.ino;
      header.inode.mode = S_IFDIR | root.mode;
      header.inode.nlink = 2;
      header.inode.atime = header.inode.mtime = header.inode.ctime = header.inode.btime = now;
    }
    Import import;
    import.root = root.ino;
    import.path = root.path;
    std::string payload;
    ByteWriter w(payload);
    encode_import(w, import, {header});
    log_raw(EventType::import, payload);
    if (!made) continue;
    TreeEvent event;
    event.type = EventType::inode;
    header.version = Version{2};
    event.dirs.push_back({.dirty = true, .full = true, .header = header});
    log(event);
    cache_.find_dir(root.ino)->set_complete();
    cache_.find_dir(root.ino)->fetched = true;
  }
  if (!logged) co_return Result<void>{};
  KILL_POINT("rank.fresh.logged");
  co_return co_await journal_->sync();
}

Task<Result<void>> Rank::choose_cap() {
  CO_TRY_ASSIGN(StateValue known, co_await store_.state().get(speed_key(options_.rank)));
  uint64_t speed = kAssumedReplayBytesPerSecond;
  if (!known.value.empty()) speed = std::strtoull(known.value.c_str(), nullptr, 10);
  if (recovered_.events >= kWorthMeasuring && recovered_.replay > 0) {
    // Half old, half new: one slow recovery on a busy machine should not shrink the cap at once.
    auto measured = static_cast<uint64_t>(static_cast<double>(recovered_.bytes) * 1e9 /
                                          static_cast<double>(recovered_.scan + recovered_.replay));
    speed = (speed + measured) / 2;
    if (!options_.read_only) {
      std::string value = std::to_string(speed);
      // Only a measurement: where there is no space for it, the old one does.
      auto set = co_await store_.state().set(speed_key(options_.rank), known.version, value);
      if (!set && set.error().code != ENOSPC) co_return std::unexpected(set.error());
    }
  }
  uint64_t cap = options_.journal_cap;
  if (cap == 0)
    cap = static_cast<uint64_t>(static_cast<double>(speed) * kReplayShare *
                                static_cast<double>(options_.recovery_target) / 1e9);
  // A few segments are always needed to make progress.
  journal_cap_ = std::max(cap, device_->segment_capacity() * 6);
  co_return Result<void>{};
}

Task<Result<void>> Rank::write_back_all() {
  // One batch at a time: two would mark the same items clean.
  while (write_back_running_ && !failed_) co_await quieter_.next();
  write_back_running_ = true;
  Result<void> done;
  while (done && cache_.dirty_count() > 0 && !failed_) {
    auto written = co_await write_back_batch();
    // There may be room for fewer.
    if (!written && written.error().code == ENOSPC && !out_of_space_) {
      set_out_of_space(true);
      continue;
    }
    if (!written) done = std::unexpected(written.error());
    resume_throttled();
    if (written && *written == 0 && only_damaged_dirty()) {
      done =
          damaged(fmt::format("a directory is damaged, and changes to it are only in the "
                              "journal; run 'graftfs fsck {}'",
                              options_.volume_name));
      break;
    }
    // What is left is frozen by a purge.
    if (written && *written == 0 && purging_) co_await quieter_.next();
  }
  if (failed_) done = std::unexpected(*failed_);
  if (done) done = co_await trim();
  write_back_running_ = false;
  quieter_.ring();
  co_return done;
}

Task<Result<void>> Rank::stop() {
  ending_ = true;
  migrations_->stop();
  fail_waiting(EIO);
  hold_queries_->end();
  // They may wait for write-back.
  while (running_ > 0 && !failed_) co_await quieter_.next();
  stopping_ = true;
  while ((write_back_running_ || purging_) && !failed_) co_await quieter_.next();
  if (failed_) co_return std::unexpected(*failed_);
  Result<void> written;
  if (!options_.read_only) written = co_await write_back_all();
  if (!options_.read_only && written && !journal_->out_of_space()) {
    // The last segments' events are all in the store: with a checkpoint behind them there is
    // nothing to be replayed.
    MARK("rank.stop.rolled");
    journal_->roll(true);
    journal_->flush();
    written = co_await journal_->trim(journal_->current_segment());
  }
  // What cannot be written back stays in the journal, for the next start.
  bool stays = !written && (written.error().is_damage() || written.error().code == ENOSPC);
  if (!written && !stays) co_return written;
  serving_ = false;  // nothing is logged behind the last barrier
  CO_TRY(co_await journal_->close());
  CO_TRY(co_await store_.disown_journal(options_.rank));
  co_return written;
}

// -- the journal --------------------------------------------------------------------------------

Lsn Rank::log(const TreeEvent& event, const Commit* commit) {
  KILL_POINT("rank.log.before_append");
  Lsn lsn = journal_->append(static_cast<uint8_t>(event.type), [&](std::string& out) {
    if (commit) {
      ByteWriter w(out);
      encode_commit(w, *commit, {});
    }
    encoder_.encode(event, out);
  });
  bool applied = apply_tree_event(cache_, state_, lsn, event);
  CHECK(applied, "event {} has no base in the cache", lsn.v);
  if (commit) {
    apply_commit(state_, *commit);
    refresh_bounds();
  }
  encoder_.note_named(event);
  if (peers_ && (event.type == EventType::rename || commit)) tell_paths(event, lsn);
  // What others did to any of these directories shows in all of them now: entries move.
  Lsn others;
  for (const DirItem& item : event.dirs) {
    const Dir* d = cache_.find_dir(item.header.inode.ino);
    if (d) others = std::max(others, d->last_session == event.session ? d->other_lsn : d->last_lsn);
  }
  for (const DirItem& item : event.dirs) {
    Dir* d = cache_.find_dir(item.header.inode.ino);
    if (!d) continue;
    if (item.full && item.header.version == Version{1}) {
      d->set_complete();  // it was made by this event
      d->fetched = true;
    }
    d->other_lsn = others;
    d->last_session = event.session;
    d->last_lsn = lsn;
  }
  note_recent(event, lsn);
  end_of_turn();
  return lsn;
}

Lsn Rank::hidden_from(SessionId session, const Dir& dir) const {
  if (options_.durability == Durability::strict) return dir.last_lsn;
  return dir.last_session == session ? dir.other_lsn : dir.last_lsn;
}

// Of what happened before notes were taken only that is known which concerns all of the directory.
Lsn Rank::hidden_from(SessionId session, const Dir& dir, NameHash name) const {
  const Lsn all = hidden_from(session, dir);
  if (all <= journal_->durable() || !recent_.on() || all < recent_.since()) return all;
  return std::max(recent_.others(dir.ino(), name, session), Lsn{recent_.since().v - 1});
}

// Who is alone waits for nobody else's events, and in `strict` every reply waits for all it shows.
void Rank::note_recent(const TreeEvent& event, Lsn lsn) {
  if (options_.durability == Durability::strict) return;
  if (state_.sessions.size() > 1)
    recent_.note(event, lsn);
  else
    recent_.stop();
}

Lsn Rank::log_raw(EventType type, const std::string& payload) {
  Lsn lsn =
      journal_->append(static_cast<uint8_t>(type), [&](std::string& out) { out.append(payload); });
  ReplayContext context{cache_, state_, {}};
  bool applied = find_event(static_cast<uint8_t>(type))->replay(context, lsn, payload);
  CHECK(applied, "event {} of type {} cannot be applied", lsn.v, static_cast<int>(type));
  end_of_turn();
  return lsn;
}

// What this turn of the loop has logged goes out in one write, once everything that has arrived
// was run.
void Rank::end_of_turn() {
  if (turn_posted_) return;
  turn_posted_ = true;
  executor_.post([this, alive = alive_] {
    if (!*alive) return;
    turn_posted_ = false;
    if (!journal_->failed()) journal_->flush();
    const bool pressed = journal_->live_bytes() > soft_cap() || journal_->out_of_space();
    if (pressed) wake_write_back();
    if (!throttled_.empty() && has_room(throttled_.front()->request.args)) resume_throttled();
  });
}

void Rank::begin_segment(SegmentId id, bool major, std::string& payload) {
  encode_segment_payload(major ? &state_ : nullptr, payload);
  // A quarter of a segment is the most there is for both.
  encoder_.begin_segment(id, device_->segment_capacity() / 8, payload);
}

void Rank::journal_progress() {
  recent_.forget(journal_->durable());
  release_replies();
  // Not at once: who logs something may be in the middle of it.
  if (journal_->out_of_space() || !throttled_.empty()) end_of_turn();
}

void Rank::journal_failed(const Error& error) {
  if (failed_) return;
  failed_ = error;
  say(
      fmt::format("the journal cannot be written any more ({}); every operation fails with an "
                  "input/output error until the volume is unmounted and mounted again",
                  describe(error)));
  sayings_.clear();
  fail_replies(EIO);
  fail_waiting(EIO);
  quieter_.ring();
}

void Rank::set_out_of_space(bool full) {
  if (out_of_space_ == full) return;
  out_of_space_ = full;
  say(full ? "the disk of the volume is full: nothing new can be made until space is freed"
           : "the volume has space again");
}

// -- sessions -----------------------------------------------------------------------------------

void Rank::open_session(SessionId session) {
  if (failed_ || state_.sessions.contains(session)) return;
  std::string payload;
  ByteWriter w(payload);
  encode_session(w, session, true);
  log_raw(EventType::session, payload);
}

void Rank::close_session(SessionId session) {
  if (failed_ || !state_.sessions.contains(session)) return;
  std::string payload;
  ByteWriter w(payload);
  encode_session(w, session, false);
  log_raw(EventType::session, payload);
  drop_holds(session);
  leases_->session_gone(session);
  hold_queries_->session_gone(session);
  locks_->session_gone(session);
}

void Rank::drop_holds(SessionId session) {
  held_for_.erase(session);
  std::vector<Ino> held;
  for (const auto& [ino, holds] : holds_)
    for (const Hold& hold : holds)
      if (hold.session == session) held.push_back(Ino{ino});
  std::sort(held.begin(), held.end());
  for (Ino ino : held) drop_hold(ino, session, UINT32_MAX);
}

}  // namespace graftfs
