// The rank that gives a subtree away.
#include <fmt/format.h>

#include <algorithm>

#include "base/fault.h"
#include "events/import.h"
#include "events/migration.h"
#include "server/authority.h"
#include "server/leases.h"
#include "server/locks.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {

using migration::ExportAction;
using migration::ExportEnding;
using migration::ExportInput;
using migration::ExportPhase;

namespace {

constexpr size_t kPartBytes = 256 << 10;
// While something has to be looked at that nobody reports.
constexpr Nanos kLookAgain = kMillisecond;
// Entries of a subtree that has gone which are freed before requests get their turn.
constexpr size_t kSweepAtOnce = 2048;

Result<void> result_of(const migration::ExportState& state) {
  switch (state.ending) {
    case ExportEnding::exported:
      return {};
    case ExportEnding::refused:
      return fail(EBUSY, "the other rank does not take it; try again");
    case ExportEnding::too_busy:
      return fail(EBUSY, "the directory is too busy to be moved; try again");
    default:
      return fail(ECANCELED, "the move was given up, and nothing has changed; try again");
  }
}

}  // namespace

// -- beginning ----------------------------------------------------------------------------------

void Migrations::start(Ino root, RankId to, MoveFn done, bool hidden) {
  core_.tasks().spawn(start_task(root, to, std::move(done), hidden));
}

Task<void> Migrations::start_task(Ino root, RankId to, MoveFn done, bool hidden) {
  auto place = co_await core_.find_dir(root);
  if (!place) {
    done(std::unexpected(place.error()));
    co_return;
  }
  auto may = may_export(root, to, hidden, *place);
  if (!may)
    done(std::move(may));
  else
    begin(root, to, std::move(done));
}

void Migrations::weigh(Ino root, RankId to, std::move_only_function<void(Result<MovePlan>)> done) {
  core_.tasks().spawn(weigh_task(root, to, std::move(done)));
}

Task<void> Migrations::weigh_task(Ino root, RankId to,
                                  std::move_only_function<void(Result<MovePlan>)> done) {
  auto place = co_await core_.find_dir(root);
  Result<void> may = place ? may_export(root, to, false, *place) : std::unexpected(place.error());
  if (!may) {
    done(std::unexpected(std::move(may).error()));
    co_return;
  }
  done(*plan(root));
}

// This rank's own hidden directories last, and ~orphans behind ~linked: while an inode is here it
// may lose its last name here, or get a second one.
Ino Migrations::next_to_leave() const {
  auto turn = [this](Ino root) {
    if (!is_hidden_dir(root)) return 0;
    if (rank_of_hidden_dir(root) != core_.id()) return 1;
    return is_orphans_dir(root) ? 3 : 2;
  };
  Ino next;
  for (const auto& [root, import] : core_.state().imports)
    if (import.settled && (!next || turn(root) < turn(next))) next = root;
  return next;
}

Result<void> Migrations::may_export(Ino root, RankId to, bool hidden, const Place& place) const {
  Peers* peers = core_.peers();
  const std::vector<RankId> ranks = peers ? peers->ranks() : std::vector<RankId>{core_.id()};
  if (std::find(ranks.begin(), ranks.end(), to) == ranks.end())
    return fail(EINVAL,
                fmt::format("there is no rank {}; 'graftfs rank list' shows those there are", to));
  if (to == core_.id()) return fail(EINVAL, fmt::format("the directory is at rank {} already", to));
  if (!peers->alive(to))
    return fail(EHOSTDOWN, fmt::format("rank {} is down; move it when the rank is back", to));
  if (stopping_) return fail(ECANCELED, "this rank is stopping");
  // What this rank has lost they have done again here.
  if (const SessionLines* lines = core_.leases().lines(); lines && lines->in_window())
    return fail(EBUSY, "clients are still coming back to this rank; try again in a few seconds");
  const Dir* dir = core_.cache().find_dir(root);
  if (place.what == Place::frozen)
    return fail(EBUSY, "the directory is changing hands at the moment; try again");
  if (!dir && core_.cache().find_inode(root))
    return fail(ENOTDIR, "only directories can be moved to a rank");
  // What is not in the store yet only its rank knows.
  if (place.what != Place::ours || !dir)
    return fail(EREMOTE, "the directory is not at this rank; ask the one that has it");
  if (dir->inode().nlink == 0) return fail(ENOENT, "there is no such directory any more");
  if (is_hidden_dir(root) && !hidden)
    return fail(EINVAL, "a rank's hidden directories stay with it");
  for (const auto& [id, e] : exports_) {
    const Dir* other = core_.cache().find_dir(e->root);
    if (e->root == root || (other && !other->is_foreign() &&
                            (Cache::is_below(dir, other) || Cache::is_below(other, dir))))
      return fail(EBUSY, "the directory, or one around or in it, is being moved; try again");
  }
  if (overlaps(root, {}) || core_.state().forwards.contains(root))
    return fail(EBUSY, "the directory has just been moved; try again");
  return {};
}

void Migrations::begin(Ino root, RankId to, MoveFn done) {
  auto giving = std::make_unique<Exporting>();
  Exporting& e = *giving;
  e.id = {core_.id(), core_.epoch(), next_number_++};
  e.root = root;
  e.to = to;
  e.done = std::move(done);
  e.cut = cut_of(root);
  auto import = core_.state().imports.find(root);
  e.moves = import == core_.state().imports.end() ? 1 : import->second.moves + 1;
  const size_t part_bytes = std::min<size_t>(kPartBytes, core_.segment_capacity() / 4);
  e.copy = std::make_unique<migration::SubtreeCopy>(core_.cache(), core_.state(), root, part_bytes);
  exports_[e.id] = std::move(giving);
  carry_out(e, migration::begin_export(e.cut.tell_parent));
}

Migrations::Cut Migrations::cut_of(Ino root) const {
  const RankState& state = core_.state();
  const Dir* dir = core_.cache().find_dir(root);
  Cut cut;
  auto import = state.imports.find(root);
  if (import == state.imports.end()) {
    cut.within = import_of(state, *dir);
    cut.parent = dir->header.at.parent;
    return cut;
  }
  cut.is_import = true;
  cut.parent = import->second.parent;
  // Where it hangs in one of ours, the event makes the bound.
  const Bound* bound = state.find_bound(root, &cut.within);
  if (bound) cut.parent = bound->parent;
  cut.tell_parent = !bound && (cut.parent || root == kRootIno);
  return cut;
}

// Until it is frozen the root may be removed, or renamed.
bool Migrations::is_as_begun(const Exporting& e) const {
  const Dir* dir = core_.cache().find_dir(e.root);
  if (dir && !dir->is_foreign() && dir->inode().nlink > 0 && cut_of(e.root) == e.cut) return true;
  MARK("migration.export.root_changed");
  return false;
}

void Migrations::resume_export(Ino root, const Forward& forward) {
  MARK("migration.export.resumed");
  auto giving = std::make_unique<Exporting>();
  Exporting& e = *giving;
  e.id = forward.id;
  e.root = root;
  e.to = forward.to;
  e.moves = forward.moves;
  const bool tell_parent = !core_.state().find_bound(root) && !is_hidden_dir(root);
  exports_[e.id] = std::move(giving);
  carry_out(e,
            std::move(*migration::after_export({.exported = true, .ended = false}, tell_parent)));
}

// -- the machine --------------------------------------------------------------------------------

void Migrations::feed(const ProtocolId& id, const ExportInput& input) {
  auto found = exports_.find(id);
  if (found == exports_.end()) return;
  Exporting& e = *found->second;
  e.inputs.push_back(input);
  if (e.stepping) return;
  e.stepping = true;
  while (!e.inputs.empty()) {
    ExportInput next = e.inputs.front();
    e.inputs.pop_front();
    carry_out(e, step(e.state, next));
    if (e.inputs.empty() && e.state.phase == ExportPhase::copying) look(e);
  }
  e.stepping = false;
  if (e.state.phase == ExportPhase::ended) end(ProtocolId(id));
}

void Migrations::carry_out(Exporting& e, migration::ExportStep next) {
  e.state = next.next;
  for (const ExportAction& action : next.actions) act(e, action);
}

void Migrations::act(Exporting& e, const ExportAction& a) {
  switch (a.kind) {
    case ExportAction::send_offer:
      return send_offer(e);
    case ExportAction::recall: {
      const Dir* root = core_.cache().find_dir(e.root);
      if (!root) return;
      return core_.leases().recall_tree(*root, [this, alive = alive_, id = e.id] {
        auto found = *alive ? exports_.find(id) : exports_.end();
        if (!*alive || found == exports_.end()) return;
        found->second->recalled = true;
        look_soon(*found->second);
      });
    }
    case ExportAction::send_part:
      return send_part(e);
    case ExportAction::freeze:
      e.frozen = true;
      core_.add_gate(1);
      return look_soon(e);
    case ExportAction::thaw:
      return thaw(e);
    case ExportAction::send_final:
      return send_final(e);
    case ExportAction::log_export:
      return log_export(e);
    case ExportAction::drop:
      return drop(e);
    case ExportAction::send_finish:
      return say(e.to, msg::MigrateFinish{e.id});
    case ExportAction::send_bound_moved:
      return send_bound_moved(e);
    case ExportAction::log_end: {
      std::string payload;
      ByteWriter w(payload);
      encode_export_end(w, e.id);
      core_.log_event(EventType::export_end, payload);
      return;
    }
    case ExportAction::send_abort:
      return say(e.to, msg::MigrateAbort{e.id, "the exporter has given up"});
    case ExportAction::tell:
      return say(e.to, msg::MigrateTell{e.id, a.fate});
    case ExportAction::set_timer: {
      const uint64_t timer = ++e.timer;
      if (a.delay == 0) return;
      return later(a.delay, [this, id = e.id, timer] {
        auto found = exports_.find(id);
        if (found != exports_.end() && found->second->timer == timer)
          feed(id, ExportInput{.kind = ExportInput::timeout});
      });
    }
    case ExportAction::pass:
      return migration::pass(a.point);
    case ExportAction::gone:
      return;  // feed() sees it
  }
}

// Copying goes on while there is something to send and room for it.
void Migrations::look(Exporting& e) {
  while (e.inputs.empty() && e.state.phase == ExportPhase::copying &&
         e.state.sent - e.state.taken < migration::kWindow) {
    if (e.copy->broken() || !is_as_begun(e)) {
      e.inputs.push_back({.kind = ExportInput::cancelled});
      return carry_out(e, step(e.state, e.inputs.front())), e.inputs.pop_front();
    }
    ExportInput progress{.kind = ExportInput::progress};
    progress.unsent = e.copy->unsent(migration::kFewItems);
    progress.rounds = e.copy->rounds();
    progress.leases = !e.recalled;
    const Dir* root = core_.cache().find_dir(e.root);
    if (e.recalled && root) progress.leases = !core_.leases().none_below(*root);
    if (progress.unsent < migration::kFewItems && !progress.leases) {
      // A write-back that is under way may take longer than a freeze; no other one begins.
      e.copy->hold_off(true);
      progress.leases = e.copy->in_use();
    }
    auto next = step(e.state, progress);
    if (next.actions.empty()) return look_soon(e);
    carry_out(e, std::move(next));
  }
}

void Migrations::look_soon(Exporting& e) {
  const uint64_t due = ++e.look;
  later(kLookAgain, [this, id = e.id, due] {
    auto found = exports_.find(id);
    if (found == exports_.end() || found->second->look != due) return;
    Exporting& e = *found->second;
    if (e.stepping) return;
    if (e.state.phase == ExportPhase::freezing) {
      e.copy->hold_off(true);
      if (!is_as_begun(e)) return feed(id, ExportInput{.kind = ExportInput::cancelled});
      if (is_quiet(e)) return feed(id, ExportInput{.kind = ExportInput::quiet});
      return look_soon(e);
    }
    if (e.state.phase != ExportPhase::copying) return;
    e.stepping = true;
    look(e);
    e.stepping = false;
    if (e.state.phase == ExportPhase::ended) end(ProtocolId(id));
  });
}

bool Migrations::is_quiet(const Exporting& e) const {
  if (e.copy->in_use()) return false;
  const Dir* root = core_.cache().find_dir(e.root);
  if (!root) return false;
  // What is on its way here, and hangs in it, would go along without anybody knowing.
  for (const auto& [id, i] : imports_)
    if (const Dir* parent = parent_here(i->root); parent && Cache::is_below(parent, root))
      return false;
  return !core_.two_party().busy_below(*root);
}

// The directory of this rank in which another rank's subtree hangs; null: it hangs in none.
const Dir* Migrations::parent_here(Ino root) const {
  const Bound* bound = core_.state().find_bound(root);
  return bound ? core_.cache().find_dir(bound->parent) : nullptr;
}

void Migrations::thaw(Exporting& e) {
  // One that a start has taken up again had nothing frozen.
  if (std::exchange(e.frozen, false)) core_.add_gate(-1);
  if (e.copy) e.copy->hold_off(false);
  core_.executor().post([this, alive = alive_, root = e.root] {
    if (*alive) core_.wake(Need{Need::frozen, root, {}, 0});
  });
}

void Migrations::end(const ProtocolId& id) {
  auto node = exports_.extract(id);
  Exporting& e = *node.mapped();
  if (e.copy) e.copy->release();
  if (e.done) e.done(result_of(e.state));
}

// -- what is said of it -------------------------------------------------------------------------

std::vector<msg::BoundItem> Migrations::bounds_of(const Exporting& e) const {
  const RankState& state = core_.state();
  std::vector<msg::BoundItem> out;
  auto add = [&](Ino ino, const Bound& b) { out.push_back({ino, b.parent, b.rank, b.moves}); };
  auto own = state.imports.find(e.root);
  if (own != state.imports.end()) {
    for (const auto& [ino, bound] : own->second.bounds) add(ino, bound);
    return out;
  }
  const Import& around = state.imports.at(e.cut.within);
  const Dir* root = core_.cache().find_dir(e.root);
  for (Ino ino : bounds_below(core_.cache(), around, *root)) add(ino, around.bounds.at(ino));
  return out;
}

std::string Migrations::path_of(const Exporting& e) const {
  const RankState& state = core_.state();
  auto own = state.imports.find(e.root);
  if (own != state.imports.end()) return own->second.path;
  std::string path;
  for (const Dir* d = core_.cache().find_dir(e.root); d && d->ino() != e.cut.within; d = d->parent)
    path = "/" + d->header.at.name + path;
  const std::string& above = state.imports.at(e.cut.within).path;
  return above == "/" ? path : above + path;
}

std::vector<Ino> Migrations::above(const Exporting& e) const {
  const RankState& state = core_.state();
  auto own = state.imports.find(e.root);
  if (own != state.imports.end()) return own->second.above;
  std::vector<Ino> out;
  if (const Dir* parent = core_.cache().find_dir(e.cut.parent)) out = way_up(state, *parent);
  const std::vector<Ino>& more = state.imports.at(e.cut.within).above;
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

std::vector<msg::SessionItem> Migrations::sessions_of(Exporting& e) const {
  std::map<SessionId, msg::SessionItem> items;
  for (const auto& [session, state] : core_.state().sessions) items[session].session = session;
  const Dir* root = core_.cache().find_dir(e.root);
  e.handed_over.clear();
  e.locked.clear();
  auto goes = [&](Ino ino) {
    const Dir* dir = core_.cache().find_dir(ino);
    const Dentry* file = dir ? nullptr : core_.cache().find_inode(ino);
    if (file) dir = file->dir;
    return dir && Cache::is_below(dir, root);
  };
  const LockTable& locks = core_.locks().table();
  for (Ino ino : locks.inos()) {
    if (!goes(ino)) continue;
    e.locked.push_back(ino);
    for (const LockTable::Held& held : locks.on(ino))
      if (auto item = items.find(held.session); item != items.end())
        item->second.locks.push_back(held.range);
  }
  for (Ino ino : core_.held()) {
    if (!goes(ino)) continue;
    for (const auto& [session, hold] : core_.holds(ino)) {
      auto item = items.find(session);
      if (item == items.end()) continue;
      item->second.holds.push_back(hold);
      e.handed_over.emplace_back(ino, session);
    }
  }
  std::vector<msg::SessionItem> out;
  e.sessions.clear();
  for (auto& [session, item] : items) {
    e.sessions.push_back(session);
    // Who has nothing open there opens its session at the other rank when it comes.
    if (!item.holds.empty() || !item.locks.empty()) out.push_back(std::move(item));
  }
  return out;
}

void Migrations::send_offer(Exporting& e) {
  msg::MigrateOffer offer;
  offer.id = e.id;
  offer.root = e.root;
  offer.parent = e.cut.parent;
  offer.path = path_of(e);
  offer.moves = e.moves;
  for (const Dir* d :
       migration::subtree_of(core_.cache(), core_.state(), *core_.cache().find_dir(e.root))) {
    offer.dirs++;
    offer.bytes += sizeof(Dir) + d->entries.size() * sizeof(Dentry);
  }
  offer.bounds = bounds_of(e);
  say(e.to, std::move(offer));
}

void Migrations::send_part(Exporting& e) {
  msg::MigratePart part;
  e.copy->next(part);
  part.id = e.id;
  part.number = ++e.parts;
  say(e.to, std::move(part));
}

void Migrations::send_final(Exporting& e) {
  for (;;) {
    msg::MigratePart part;
    if (!e.copy->next(part)) break;
    part.id = e.id;
    part.number = ++e.parts;
    say(e.to, std::move(part));
  }
  // The root's header lies in the importer's journal in any case: it stands in the cache from the
  // moment on that the import is settled.
  msg::MigratePart last;
  last.id = e.id;
  last.number = ++e.parts;
  last.dirs.push_back({.dirty = true, .header = core_.cache().find_dir(e.root)->header});
  say(e.to, std::move(last));
  msg::MigrateFinal final;
  final.id = e.id;
  final.parts = e.parts;
  final.root = e.root;
  final.parent = e.cut.parent;
  final.path = path_of(e);
  final.moves = e.moves;
  final.above = above(e);
  final.bounds = bounds_of(e);
  final.sessions = sessions_of(e);
  say(e.to, std::move(final));
}

// -- the commit point ---------------------------------------------------------------------------

void Migrations::log_export(Exporting& e) {
  if (!is_quiet(e)) {
    // Somebody reads in it, for a question that does not park; not for long.
    MARK("migration.export.not_quiet");
    return later(kLookAgain / 4, [this, id = e.id] {
      auto found = exports_.find(id);
      if (found != exports_.end()) log_export(*found->second);
    });
  }
  // What it hangs in may have become a part of another import.
  e.cut = cut_of(e.root);
  e.state.bound_known = !e.cut.tell_parent;
  Export exported;
  exported.root = e.root;
  exported.id = e.id;
  exported.to = e.to;
  exported.moves = e.moves;
  exported.within = e.cut.within;
  exported.parent = e.cut.parent;
  for (const msg::BoundItem& bound : bounds_of(e)) exported.bounds.push_back(bound.ino);
  // Replay finds what hangs below the root by itself; named are those that it might not, because
  // what they hang in is not in the journal any more. An event has no room for very many.
  const size_t most = core_.segment_capacity() / 64;
  exported.dirs = e.copy->dirs();
  if (exported.dirs.size() > most) exported.dirs.resize(most);
  e.copy->release();
  e.copy.reset();
  std::string payload;
  ByteWriter w(payload);
  encode_export(w, exported);
  Lsn lsn = core_.log_event(EventType::export_, payload);
  when_durable(lsn,
               [this, id = e.id] { feed(id, ExportInput{.kind = ExportInput::export_durable}); });
}

// Applying the event has dropped the directories; now everybody who waits may know.
void Migrations::drop(Exporting& e) {
  std::map<SessionId, std::vector<HoldCount>> gone;
  for (const auto& [ino, session] : e.handed_over) {
    for (const auto& [holder, hold] : core_.holds(ino))
      if (holder == session) gone[session].push_back(hold);
    core_.drop_hold(ino, session, UINT32_MAX);
  }
  for (Ino ino : e.locked) core_.locks().forget(ino);
  if (SessionLines* lines = core_.leases().lines())
    for (SessionId session : e.sessions)
      lines->send(session, msg::SessionMoved{core_.leases().next_order(), e.root, e.to,
                                             std::move(gone[session])});
  thaw(e);
  core_.tasks().spawn(sweep());
}

Task<void> Migrations::sweep() {
  while (!core_.cache().sweep(kSweepAtOnce)) co_await sleep_for(core_.executor(), 0);
}

void Migrations::send_bound_moved(Exporting& e) {
  Peers* peers = core_.peers();
  if (e.root == kRootIno) {
    // It hangs nowhere: everybody looks for it in the cluster's table. Who has got it may have
    // given it on before it stood there, and tells when that does not matter any more.
    if (peers->root_rank() == e.to) return e.inputs.push_back({.kind = ExportInput::bound_known});
    return say(e.to, msg::BoundMoved{e.root, e.to, e.moves});
  }
  // The parent may be this rank's by now, and have come with what its rank knew.
  const Bound* bound = core_.state().find_bound(e.root);
  if (bound && (bound->rank == e.to || bound->moves >= e.moves))
    return e.inputs.push_back({.kind = ExportInput::bound_known});
  // Who has the parent now is not known here for sure; the others say nothing. (Where it is this
  // rank, e.to tells it what is so.)
  for (RankId rank : peers->ranks())
    if (rank != core_.id()) say(rank, msg::BoundMoved{e.root, e.to, e.moves});
}

}  // namespace graftfs
