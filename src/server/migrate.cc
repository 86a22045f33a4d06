#include "server/migrate.h"

#include <algorithm>

#include "events/migration.h"
#include "server/authority.h"

namespace graftfs {

using migration::ExportInput;
using migration::ImportInput;

Migrations::Migrations(RankCore& core) : core_(core), alive_(std::make_shared<bool>(true)) {}
Migrations::~Migrations() { *alive_ = false; }

void Migrations::say(RankId to, Body body) {
  core_.say_when(Lsn{},
                 [this, to, body = std::move(body)]() mutable { core_.send(to, std::move(body)); });
}

void Migrations::when_durable(Lsn lsn, Fn then) {
  core_.say_when(lsn, std::move(then));
  // Not at the end of a turn that does other work: somebody is frozen.
  auto sync = [](Journal& journal) -> Task<void> { (void)co_await journal.sync(); };
  core_.tasks().spawn(sync(core_.journal()));
}

void Migrations::later(Nanos delay, Fn fn) {
  core_.executor().post_after(delay, [alive = alive_, fn = std::move(fn)]() mutable {
    if (*alive) fn();
  });
}

// -- messages -----------------------------------------------------------------------------------

namespace {

// The migration that a message is about; nullptr: it is about none.
struct IdOf {
  template <class M>
  const ProtocolId* operator()(const M& m) const {
    if constexpr (requires { requires std::same_as<decltype(m.id), ProtocolId>; })
      return &m.id;
    else
      return nullptr;
  }
};

}  // namespace

void Migrations::receive(RankId from, Message message) {
  Body& body = message.body;
  if (auto* known = std::get_if<msg::BoundMovedDone>(&body)) {
    for (auto& [id, e] : exports_) {
      if (e->root != known->root || e->moves != known->moves) continue;
      return feed(ProtocolId(id), ExportInput{.kind = ExportInput::bound_known});
    }
    return;
  }
  if (auto* offer = std::get_if<msg::MigrateOffer>(&body)) return offered(from, *offer);
  const ProtocolId* found = std::visit(IdOf{}, body);
  if (!found) return;
  const ProtocolId id = *found;
  auto give = [&](ExportInput::Kind kind, uint32_t part = 0) {
    feed(id, ExportInput{.kind = kind, .part = part});
  };
  auto take = [&](ImportInput::Kind kind, uint32_t number = 0, bool dirty = false) {
    feed(id, ImportInput{.kind = kind, .number = number, .dirty = dirty});
  };
  auto e = exports_.find(id);
  if (e != exports_.end() && e->second->to == from) {
    if (std::holds_alternative<msg::MigrateAccept>(body)) return give(ExportInput::accepted);
    if (std::holds_alternative<msg::MigrateRefuse>(body)) return give(ExportInput::refused);
    if (auto* m = std::get_if<msg::MigratePartDone>(&body))
      return give(ExportInput::part_taken, m->number);
    if (std::holds_alternative<msg::MigrateImported>(body)) return give(ExportInput::imported);
    if (std::holds_alternative<msg::MigrateFinished>(body)) return give(ExportInput::finished);
    if (std::holds_alternative<msg::MigrateAbort>(body)) return give(ExportInput::aborted);
    if (std::holds_alternative<msg::MigrateAsk>(body)) return give(ExportInput::asked);
    return;
  }
  auto i = imports_.find(id);
  if (i == imports_.end() || i->second->from != from) return stray(from, message, id);
  if (auto* part = std::get_if<msg::MigratePart>(&body)) {
    const uint32_t number = part->number;
    const bool dirty = std::any_of(part->dirs.begin(), part->dirs.end(), [](const auto& dir) {
      return dir.dirty || std::any_of(dir.entries.begin(), dir.entries.end(),
                                      [](const auto& entry) { return entry.dirty; });
    });
    i->second->parts.push_back(std::move(*part));
    return take(ImportInput::part, number, dirty);
  }
  if (auto* final = std::get_if<msg::MigrateFinal>(&body)) {
    const uint32_t parts = final->parts;
    i->second->final = std::move(*final);
    return take(ImportInput::final, parts);
  }
  if (std::holds_alternative<msg::MigrateFinish>(body)) return take(ImportInput::finish);
  if (std::holds_alternative<msg::MigrateAbort>(body)) return take(ImportInput::aborted);
  if (auto* told = std::get_if<msg::MigrateTell>(&body))
    return feed(id, ImportInput{.kind = ImportInput::told, .fate = told->fate});
}

// About a migration that is over, or that a crash has made us forget.
void Migrations::stray(RankId from, const Message& message, const ProtocolId& id) {
  const auto& forwards = core_.state().forwards;
  const bool gone = std::any_of(forwards.begin(), forwards.end(),
                                [&](const auto& f) { return f.second.id == id; });
  switch (migration::answer_without_state(message.body, gone)) {
    case migration::LostAnswer::none:
      break;
    case migration::LostAnswer::abort:
      return say(from, msg::MigrateAbort{id, "this migration is not known here"});
    case migration::LostAnswer::not_exported:
      return say(from, msg::MigrateTell{id, msg::MigrateFate::not_exported});
    case migration::LostAnswer::exported:
      return say(from, msg::MigrateTell{id, msg::MigrateFate::exported});
  }
  switch (migration::answer_without_state(message.body)) {
    case migration::StrayAnswer::none:
      return;
    case migration::StrayAnswer::finished:
      return say(from, msg::MigrateFinished{id});
    case migration::StrayAnswer::abort:
      return say(from, msg::MigrateAbort{id, "this migration is not known here"});
  }
}

// -- peers --------------------------------------------------------------------------------------

void Migrations::peer_up(RankId rank) {
  std::vector<ProtocolId> giving, taking;
  for (auto& [id, e] : exports_)
    if (e->to == rank) giving.push_back(id);
  for (auto& [id, i] : imports_)
    if (i->from == rank) taking.push_back(id);
  for (const ProtocolId& id : giving) feed(id, ExportInput{.kind = ExportInput::connected});
  for (const ProtocolId& id : taking) feed(id, ImportInput{.kind = ImportInput::connected});
}

void Migrations::peer_down(RankId rank) {
  std::vector<ProtocolId> giving, taking;
  for (auto& [id, e] : exports_)
    if (e->to == rank) giving.push_back(id);
  for (auto& [id, i] : imports_)
    if (i->from == rank) taking.push_back(id);
  for (const ProtocolId& id : giving) feed(id, ExportInput{.kind = ExportInput::disconnected});
  for (const ProtocolId& id : taking) feed(id, ImportInput{.kind = ImportInput::disconnected});
}

void Migrations::stop() {
  stopping_ = true;
  std::vector<ProtocolId> giving, taking;
  for (auto& [id, e] : exports_) giving.push_back(id);
  for (auto& [id, i] : imports_) taking.push_back(id);
  for (const ProtocolId& id : giving) feed(id, ExportInput{.kind = ExportInput::cancelled});
  for (const ProtocolId& id : taking) feed(id, ImportInput{.kind = ImportInput::cancelled});
}

// -- the rank asks ------------------------------------------------------------------------------

std::optional<Need> Migrations::parks(const Dir& dir, bool decided) const {
  for (const auto& [id, e] : exports_) {
    if (!e->frozen || (decided && e->state.phase == migration::ExportPhase::freezing)) continue;
    const Dir* root = core_.cache().find_dir(e->root);
    if (root && Cache::is_below(&dir, root)) return Need{Need::frozen, e->root, {}, 0};
  }
  Ino root = import_of(core_.state(), dir);
  if (!root || core_.state().imports.at(root).settled) return std::nullopt;
  return Need{Need::frozen, root, {}, 0};
}

bool Migrations::gives_away(const Dir& dir) const {
  for (const auto& [id, e] : exports_) {
    const Dir* root = core_.cache().find_dir(e->root);
    if (root && Cache::is_below(&dir, root)) return true;
  }
  return false;
}

std::optional<MovePlan> Migrations::plan(Ino root) const {
  const Dir* dir = core_.cache().find_dir(root);
  if (!dir || place_of(core_.cache(), core_.state(), root).what != Place::ours) return std::nullopt;
  MovePlan plan;
  for (const Dir* d : migration::subtree_of(core_.cache(), core_.state(), *dir)) {
    plan.dirs++;
    plan.dirty += d->dirty();
    for (const auto& [hash, first] : d->entries) {
      for (const Dentry* e = first; e; e = e->same_hash) {
        plan.entries += e->kind != EntryKind::null;
        plan.dirty += e->dirty();
      }
    }
  }
  return plan;
}

// One migration at a time for whatever hangs together: this rank is one end of each.
bool Migrations::overlaps(Ino root, const std::vector<msg::BoundItem>& bounds) const {
  auto bounded = [&](Ino ino) {
    return std::any_of(bounds.begin(), bounds.end(), [&](const auto& b) { return b.ino == ino; });
  };
  for (const auto& [id, e] : exports_)
    if (e->root == root || bounded(e->root)) return true;
  for (const auto& [id, i] : imports_) {
    if (i->root == root || bounded(i->root)) return true;
    if (std::find(i->bounds.begin(), i->bounds.end(), root) != i->bounds.end()) return true;
  }
  return false;
}

bool Migrations::takes(Ino root) const {
  return std::ranges::any_of(imports_, [&](const auto& i) { return i.second->root == root; });
}

void Migrations::recovered() {
  RankState& state = core_.state();
  std::vector<Import> open;
  for (const auto& [root, import] : state.imports)
    if (!import.settled) open.push_back(import);
  // Parts without an Import are void.
  std::erase_if(state.staged, [&](const auto& staged) {
    return std::none_of(open.begin(), open.end(),
                        [&](const Import& import) { return import.from == staged.first; });
  });
  for (const Import& import : open) resume_import(import);
  const std::map<Ino, Forward> forwards = state.forwards;
  for (const auto& [root, forward] : forwards) resume_export(root, forward);
  find_pins();
}

}  // namespace graftfs
