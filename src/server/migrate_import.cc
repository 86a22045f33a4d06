// The rank that takes a subtree.
#include <algorithm>

#include "base/fault.h"
#include "events/import.h"
#include "events/migration.h"
#include "migration/staging.h"
#include "server/locks.h"
#include "server/migrate.h"
#include "server/rank.h"
#include "server/two_party.h"

namespace graftfs {

using migration::ImportAction;
using migration::ImportInput;
using migration::ImportPhase;

namespace {
constexpr size_t kArrivals = 1024;  // remembered
}

void Migrations::offered(RankId from, const msg::MigrateOffer& offer) {
  if (imports_.contains(offer.id)) return;
  migration::Willingness willingness;
  willingness.leaving = stopping_ || leaving_;
  willingness.full = core_.cache().usage().bytes + offer.bytes > core_.options().memory_limit;
  willingness.throttled = core_.is_throttled();
  const auto& state = core_.state();
  willingness.overlaps = overlaps(offer.root, offer.bounds) ||
                         state.forwards.contains(offer.root) || state.is_root(offer.root);
  // It is to hang elsewhere, which the others may have carried out already: as long as it hangs
  // here for this rank, it would become a part of what it hangs in.
  if (core_.two_party().busy(offer.root, {}, 0)) {
    MARK("migration.import.marked");
    willingness.overlaps = true;
  }
  // What it hangs in is about to be another rank's.
  if (const Dir* parent = parent_here(offer.root)) willingness.overlaps |= gives_away(*parent);
  if (const char* why = migration::why_not(willingness))
    return say(from, msg::MigrateRefuse{offer.id, why});
  auto taking = std::make_unique<Importing>();
  taking->id = offer.id;
  taking->from = from;
  taking->root = offer.root;
  for (const msg::BoundItem& bound : offer.bounds) taking->bounds.push_back(bound.ino);
  Importing& i = *taking;
  imports_[offer.id] = std::move(taking);
  carry_out(i, migration::begin_import());
}

void Migrations::feed(const ProtocolId& id, const ImportInput& input) {
  auto found = imports_.find(id);
  if (found == imports_.end()) return;
  Importing& i = *found->second;
  i.inputs.push_back(input);
  if (i.stepping) return;
  i.stepping = true;
  while (!i.inputs.empty()) {
    ImportInput next = i.inputs.front();
    i.inputs.pop_front();
    carry_out(i, step(i.state, next));
  }
  i.stepping = false;
  if (i.state.phase == ImportPhase::ended) imports_.erase(ProtocolId(id));
}

void Migrations::carry_out(Importing& i, migration::ImportStep next) {
  i.state = next.next;
  for (const ImportAction& action : next.actions) act(i, action);
}

void Migrations::act(Importing& i, const ImportAction& a) {
  switch (a.kind) {
    case ImportAction::send_accept:
      return say(i.from, msg::MigrateAccept{i.id});
    case ImportAction::keep_part:
      return keep_part(i);
    case ImportAction::log_part:
      return log_part(i, a.number);
    case ImportAction::send_part_done:
      return say(i.from, msg::MigratePartDone{i.id, a.number});
    case ImportAction::log_import:
      return log_import(i);
    case ImportAction::send_imported:
      return say(i.from, msg::MigrateImported{i.id});
    case ImportAction::absorb:
      return absorb(i);
    case ImportAction::log_end:
      return log_end(i, a.settled);
    case ImportAction::discard:
      core_.state().staged.erase(i.id);
      return;
    case ImportAction::send_finished:
      return say(i.from, msg::MigrateFinished{i.id});
    case ImportAction::send_abort:
      return say(i.from, msg::MigrateAbort{i.id, "the importer has given up"});
    case ImportAction::send_ask:
      return say(i.from, msg::MigrateAsk{i.id});
    case ImportAction::set_timer: {
      const uint64_t timer = ++i.timer;
      if (a.delay == 0) return;
      return later(a.delay, [this, id = i.id, timer] {
        auto found = imports_.find(id);
        if (found != imports_.end() && found->second->timer == timer)
          feed(id, ImportInput{.kind = ImportInput::timeout});
      });
    }
    case ImportAction::pass:
      return migration::pass(a.point);
    case ImportAction::gone:
      return;  // feed() sees it
  }
}

// What is clean in it stands aside, too, without an event: the store has it.
void Migrations::keep_part(Importing& i) {
  i.part = std::move(i.parts.front());
  i.parts.pop_front();
  migration::merge_clean(*core_.state().staged[i.id].cache, i.part);
  for (const msg::PartDir& dir : i.part.dirs)
    if (dir.header.inode.extra && pin_of(dir.header.inode)) i.pins.insert(dir.header.inode.ino);
}

void Migrations::log_part(Importing& i, uint32_t number) {
  std::string payload;
  ByteWriter w(payload);
  encode_import_part(w, i.id, migration::dirty_items(i.part));
  Lsn lsn = core_.log_event(EventType::import_part, payload);
  core_.say_when(lsn, [this, id = i.id, number] {
    feed(id, ImportInput{.kind = ImportInput::part_durable, .number = number});
  });
}

void Migrations::log_import(Importing& i) {
  const msg::MigrateFinal& final = *i.final;
  i.bounds.clear();
  for (const msg::BoundItem& bound : final.bounds) i.bounds.push_back(bound.ino);
  // Who was told of an inode there will come here with it.
  for (const msg::SessionItem& item : final.sessions) core_.open_session(item.session);
  Import import;
  import.root = i.root;
  import.path = final.path;
  import.parent = final.parent;
  import.moves = final.moves;
  import.from = i.id;
  import.settled = false;
  import.above = final.above;
  for (const msg::BoundItem& b : final.bounds)
    import.bounds[b.ino] = Bound{b.parent, b.rank, b.moves};
  std::string payload;
  ByteWriter w(payload);
  encode_import(w, import, {});
  i.gated = true;
  core_.add_gate(1);
  Lsn lsn = core_.log_event(EventType::import, payload);
  when_durable(lsn,
               [this, id = i.id] { feed(id, ImportInput{.kind = ImportInput::import_durable}); });
}

// It is this rank's: what stood aside joins the cache.
void Migrations::absorb(Importing& i) {
  Cache& cache = core_.cache();
  cache.drop_stub(i.root);
  std::string payload;
  ByteWriter w(payload);
  encode_import_end(w, i.id, true);
  i.end = core_.log_event(EventType::import_end, payload);
  arrivals_[i.root] = core_.executor().now();
  if (arrivals_.size() > kArrivals)
    arrivals_.erase(
        std::min_element(arrivals_.begin(), arrivals_.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; }));
  // What of ours hung in it hangs in what is ours now.
  for (Ino bound : i.bounds) {
    Dir* dir = cache.find_dir(bound);
    if (dir && !dir->is_foreign()) cache.attach(*dir);
  }
  if (i.final)
    for (const msg::SessionItem& item : i.final->sessions) {
      for (const HoldCount& hold : item.holds) core_.add_hold(item.session, hold);
      for (const LockRange& lock : item.locks) core_.locks().add(item.session, lock);
    }
  open_gate(i);
  if (is_orphans_dir(i.root)) core_.rank().adopt_orphans(i.root);
  for (Ino dir : i.pins) pinned(dir);
}

void Migrations::log_end(Importing& i, bool settled) {
  if (!settled) {
    std::string payload;
    ByteWriter w(payload);
    encode_import_end(w, i.id, false);
    i.end = core_.log_event(EventType::import_end, payload);
    open_gate(i);
  }
  when_durable(i.end,
               [this, id = i.id] { feed(id, ImportInput{.kind = ImportInput::end_durable}); });
}

// Requests that waited find out whose it is.
void Migrations::open_gate(Importing& i) {
  if (!i.gated) return;
  i.gated = false;
  core_.add_gate(-1);
  const Need need{Need::frozen, i.root, {}, 0};
  core_.executor().post([this, alive = alive_, need] {
    if (*alive) core_.wake(need);
  });
}

void Migrations::resume_import(const Import& import) {
  MARK("migration.import.resumed");
  auto taking = std::make_unique<Importing>();
  taking->id = import.from;
  taking->from = import.from.rank;
  taking->root = import.root;
  for (const auto& [ino, bound] : import.bounds) taking->bounds.push_back(ino);
  taking->gated = true;
  core_.add_gate(1);
  Importing& i = *taking;
  imports_[import.from] = std::move(taking);
  carry_out(i, std::move(*migration::after_import({.imported = true, .ended = false})));
}

}  // namespace graftfs
