#include "migration/exporter.h"

#include "base/fault.h"

namespace graftfs::migration {
namespace {

using Input = ExportInput;
using Action = ExportAction;
using Phase = ExportPhase;

struct Stepper {
  ExportState state;
  ExportActions actions;

  void act(Action::Kind kind) { actions.push_back({.kind = kind}); }
  void pass(Point point) { actions.push_back({.kind = Action::pass, .point = point}); }
  void timer(Nanos delay) { actions.push_back({.kind = Action::set_timer, .delay = delay}); }
  void tell(msg::MigrateFate fate) { actions.push_back({.kind = Action::tell, .fate = fate}); }

  void gone(ExportEnding ending) {
    state.phase = Phase::ended;
    state.ending = ending;
    timer(0);
    act(Action::gone);
  }

  // Before the commit point: it stays where it is.
  void abort(ExportEnding ending, bool say) {
    MARK("migration.export.aborted");
    if (state.phase == Phase::freezing || state.phase == Phase::waiting) act(Action::thaw);
    if (say) act(Action::send_abort);
    gone(ending);
  }

  void begin_finishing() {
    state.phase = Phase::finishing;
    repeat();
  }

  // Until both are acknowledged.
  void repeat() {
    if (!state.finished) {
      act(Action::send_finish);
      pass(Point::export_finish_sent);
    }
    if (!state.bound_known) {
      act(Action::send_bound_moved);
      pass(Point::export_bound_moved_sent);
    }
    timer(kRepeatAfter);
  }

  void maybe_end() {
    if (!state.finished || !state.bound_known) return;
    act(Action::log_end);
    pass(Point::export_end_logged);
    gone(ExportEnding::exported);
  }

  // The same in every phase up to `waiting`. True: that was it.
  bool leave_early(const Input& input) {
    switch (input.kind) {
      case Input::refused:
        abort(ExportEnding::refused, false);
        return true;
      case Input::aborted:
      case Input::disconnected:
        abort(ExportEnding::aborted, false);
        return true;
      case Input::asked:
        // It has lost its connection or its memory, and this end has not heard of it yet.
        tell(msg::MigrateFate::not_exported);
        abort(ExportEnding::aborted, false);
        return true;
      case Input::cancelled:
        abort(ExportEnding::aborted, true);
        return true;
      default:
        return false;
    }
  }

  void offered(const Input& input) {
    if (input.kind == Input::timeout) return abort(ExportEnding::aborted, true);
    if (input.kind != Input::accepted) return;
    state.phase = Phase::copying;
    pass(Point::export_accepted);
    act(Action::recall);
    timer(kCopyLimit);
    act(Action::send_part);
    state.sent++;
    pass(Point::export_part_sent);
  }

  void copying(const Input& input) {
    switch (input.kind) {
      case Input::timeout:
        if (!state.pausing) return abort(ExportEnding::aborted, true);
        state.pausing = false;
        return timer(kCopyLimit);
      case Input::part_taken:
        if (state.taken < state.sent) state.taken++;
        if (!state.pausing) timer(kCopyLimit);
        return;
      case Input::progress:
        return progress(input);
      default:
        return;
    }
  }

  void progress(const Input& input) {
    // What changes all the time is not copied for ever; but as long as leases are out there is
    // time.
    const bool little = input.unsent < kFewItems || (input.rounds >= kMaxRounds && !input.leases);
    // All parts have to be there: a freeze does not wait for megabytes.
    if (little && !input.leases && !state.pausing && state.taken == state.sent) {
      state.phase = Phase::freezing;
      pass(Point::export_copied);
      pass(Point::export_recalled);
      timer(kFreezeLimit);
      act(Action::freeze);
      return pass(Point::export_frozen);
    }
    if (little || state.sent - state.taken >= kWindow) return;
    act(Action::send_part);
    state.sent++;
    pass(Point::export_part_sent);
  }

  void freezing(const Input& input) {
    if (input.kind == Input::timeout) {
      MARK("migration.export.thawed");
      if (++state.thaws >= kMaxThaws) return abort(ExportEnding::too_busy, true);
      state.phase = Phase::copying;
      state.pausing = true;
      act(Action::thaw);
      return timer(kThawPause);
    }
    if (input.kind != Input::quiet) return;
    state.phase = Phase::waiting;
    pass(Point::export_quiet);
    timer(kImportedLimit);
    act(Action::send_final);
    pass(Point::export_final_sent);
  }

  void waiting(const Input& input) {
    if (input.kind == Input::timeout) return abort(ExportEnding::aborted, true);
    if (input.kind != Input::imported) return;
    state.phase = Phase::committing;
    pass(Point::export_imported_received);
    timer(0);
    act(Action::log_export);
    pass(Point::export_logged);
  }

  void committing(const Input& input) {
    if (input.kind == Input::asked) return tell(msg::MigrateFate::undecided);
    if (input.kind != Input::export_durable) return;
    pass(Point::export_durable);
    act(Action::drop);
    pass(Point::export_dropped);
    begin_finishing();
  }

  void finishing(const Input& input) {
    switch (input.kind) {
      case Input::finished:
        if (state.finished) return;
        state.finished = true;
        pass(Point::export_finished_received);
        return maybe_end();
      case Input::bound_known:
        state.bound_known = true;
        return maybe_end();
      case Input::asked:
        return tell(msg::MigrateFate::exported);
      case Input::connected:
      case Input::timeout:
        return repeat();
      default:
        return;
    }
  }
};

}  // namespace

ExportStep begin_export(bool tell_parent) {
  Stepper s;
  s.state.bound_known = !tell_parent;
  s.timer(kOfferLimit);
  s.act(Action::send_offer);
  s.pass(Point::export_offered);
  return {s.state, std::move(s.actions)};
}

ExportStep step(const ExportState& state, const ExportInput& input) {
  Stepper s{state, {}};
  if (state.phase < Phase::committing && s.leave_early(input))
    return {s.state, std::move(s.actions)};
  switch (state.phase) {
    case Phase::offered:
      s.offered(input);
      break;
    case Phase::copying:
      s.copying(input);
      break;
    case Phase::freezing:
      s.freezing(input);
      break;
    case Phase::waiting:
      s.waiting(input);
      break;
    case Phase::committing:
      s.committing(input);
      break;
    case Phase::finishing:
      s.finishing(input);
      break;
    case Phase::ended:
      break;
  }
  return {s.state, std::move(s.actions)};
}

std::optional<ExportStep> after_export(const ExportJournal& journal, bool tell_parent) {
  if (!journal.exported || journal.ended) return std::nullopt;
  Stepper s;
  s.state.bound_known = !tell_parent;
  s.begin_finishing();
  return ExportStep{s.state, std::move(s.actions)};
}

LostAnswer answer_without_state(const Body& message, bool forward_has_id) {
  if (std::holds_alternative<msg::MigrateAsk>(message) ||
      std::holds_alternative<msg::MigrateImported>(message))
    return forward_has_id ? LostAnswer::exported : LostAnswer::not_exported;
  if (std::holds_alternative<msg::MigrateAccept>(message) ||
      std::holds_alternative<msg::MigratePartDone>(message))
    return LostAnswer::abort;
  return LostAnswer::none;
}

}  // namespace graftfs::migration
