#include "migration/importer.h"

#include "base/fault.h"

namespace graftfs::migration {
namespace {

using Input = ImportInput;
using Action = ImportAction;
using Phase = ImportPhase;

struct Stepper {
  ImportState state;
  ImportActions actions;

  void act(Action::Kind kind) { actions.push_back({.kind = kind}); }
  void act(Action::Kind kind, uint32_t number) {
    actions.push_back({.kind = kind, .number = number});
  }
  void pass(Point point) { actions.push_back({.kind = Action::pass, .point = point}); }
  void timer(Nanos delay) { actions.push_back({.kind = Action::set_timer, .delay = delay}); }

  void gone() {
    state.phase = Phase::ended;
    timer(0);
    act(Action::gone);
  }

  void drop() {
    MARK("migration.import.dropped");
    state.asking = false;
    pass(Point::import_aborting);
    act(Action::discard);
    if (!state.logged) return gone();
    state.phase = Phase::dropping;
    timer(0);
    actions.push_back({.kind = Action::log_end, .settled = false});
  }

  void settle() {
    state.phase = Phase::ending;
    state.settled = true;
    state.asking = false;
    timer(0);
    pass(Point::import_finish_received);
    act(Action::absorb);
    pass(Point::import_absorbed);
    actions.push_back({.kind = Action::log_end, .settled = true});
    pass(Point::import_end_logged);
  }

  void ask() {
    act(Action::send_ask);
    timer(kAskAgain);
  }

  void take_part(const Input& input) {
    if (input.number != state.received + 1) {
      act(Action::send_abort);
      return drop();
    }
    state.phase = Phase::receiving;
    state.received++;
    pass(Point::import_part_received);
    act(Action::keep_part, input.number);
    if (!input.dirty) return act(Action::send_part_done, input.number);
    state.logged = true;
    act(Action::log_part, input.number);
    pass(Point::import_part_logged);
  }

  void receiving(const Input& input) {
    switch (input.kind) {
      case Input::part:
        return take_part(input);
      case Input::part_durable:
        pass(Point::import_part_durable);
        return act(Action::send_part_done, input.number);
      case Input::final:
        if (input.number != state.received || state.received == 0) {
          act(Action::send_abort);
          return drop();
        }
        state.phase = Phase::logging;
        state.logged = true;
        pass(Point::import_final_received);
        act(Action::log_import);
        return pass(Point::import_logged);
      case Input::aborted:
      case Input::disconnected:
        return drop();
      case Input::cancelled:
        act(Action::send_abort);
        return drop();
      default:
        return;
    }
  }

  // Import may be durable: only the exporter knows.
  void ambiguous(const Input& input) {
    switch (input.kind) {
      case Input::import_durable:
        if (state.phase == Phase::imported) return;
        state.phase = Phase::imported;
        pass(Point::import_durable);
        if (state.asking) return ask();
        act(Action::send_imported);
        return pass(Point::import_imported_sent);
      case Input::finish:
        // Only ever said of an Import that was durable.
        if (state.phase == Phase::imported) settle();
        return;
      case Input::aborted:
        return drop();
      case Input::told:
        return told(input.fate);
      case Input::disconnected:
        state.asking = true;
        if (state.phase == Phase::imported) timer(kAskAgain);
        return;
      case Input::connected:
      case Input::timeout:
        if (state.asking && state.phase == Phase::imported) ask();
        return;
      default:
        return;
    }
  }

  void told(msg::MigrateFate fate) {
    if (fate == msg::MigrateFate::not_exported) return drop();
    if (state.phase != Phase::imported) return;
    if (fate == msg::MigrateFate::exported) return settle();
    timer(kAskAgain);
  }

  void closing(const Input& input) {
    if (input.kind != Input::end_durable) return;
    if (state.phase == Phase::ending) {
      pass(Point::import_end_durable);
      act(Action::send_finished);
    }
    gone();
  }
};

}  // namespace

ImportStep begin_import() {
  Stepper s;
  s.pass(Point::import_offered);
  s.act(Action::send_accept);
  s.pass(Point::import_accepted);
  return {s.state, std::move(s.actions)};
}

ImportStep step(const ImportState& state, const ImportInput& input) {
  Stepper s{state, {}};
  switch (state.phase) {
    case Phase::accepted:
    case Phase::receiving:
      s.receiving(input);
      break;
    case Phase::logging:
    case Phase::imported:
      s.ambiguous(input);
      break;
    case Phase::ending:
    case Phase::dropping:
      s.closing(input);
      break;
    case Phase::ended:
      break;
  }
  return {s.state, std::move(s.actions)};
}

const char* why_not(const Willingness& w) {
  if (w.leaving) return "the rank is leaving";
  if (w.overlaps) return "the rank is moving another part of that subtree at the moment";
  if (w.full) return "the rank's cache is over its limit";
  if (w.throttled) return "the rank's journal is at its cap";
  return nullptr;
}

std::optional<ImportStep> after_import(const ImportJournal& journal) {
  if (!journal.imported || journal.ended) return std::nullopt;
  Stepper s;
  s.state.phase = Phase::imported;
  s.state.logged = true;
  s.state.asking = true;
  s.ask();
  return ImportStep{s.state, std::move(s.actions)};
}

StrayAnswer answer_without_state(const Body& message) {
  if (std::holds_alternative<msg::MigrateFinish>(message)) return StrayAnswer::finished;
  if (std::holds_alternative<msg::MigratePart>(message) ||
      std::holds_alternative<msg::MigrateFinal>(message))
    return StrayAnswer::abort;
  return StrayAnswer::none;
}

}  // namespace graftfs::migration
