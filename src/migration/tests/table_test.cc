// The tables of docs/protocols/migration.md, walked: every state with every input. What is not
// written down here must change nothing and do nothing.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <map>
#include <set>

#include "base/fault.h"
#include "migration/exporter.h"
#include "migration/importer.h"

namespace graftfs::migration {
namespace {

const char* fate_text(msg::MigrateFate fate) {
  switch (fate) {
    case msg::MigrateFate::not_exported:
      return "not_exported";
    case msg::MigrateFate::exported:
      return "exported";
    case msg::MigrateFate::undecided:
      return "undecided";
  }
  return "?";
}

// A kill point in brackets, without "migration.export." or "migration.import.".
std::string point_text(Point point) {
  std::string name = point_name(point);
  return "[" + name.substr(std::string("migration.export.").size()) + "]";
}

std::string text(const ExportAction& a) {
  static constexpr const char* names[] = {
      "offer",  "recall",      "part",    "freeze", "thaw", "final", "log_export", "drop",
      "finish", "bound_moved", "log_end", "abort",  "tell", "timer", "pass",       "gone"};
  if (a.kind == ExportAction::pass) return point_text(a.point);
  if (a.kind == ExportAction::tell) return fmt::format("tell({})", fate_text(a.fate));
  if (a.kind == ExportAction::set_timer) return fmt::format("timer({})", a.delay / kMillisecond);
  return names[a.kind];
}

std::string text(const ImportAction& a) {
  static constexpr const char* names[] = {
      "accept",  "keep",     "log_part", "part_done", "log_import", "imported", "absorb", "log_end",
      "discard", "finished", "abort",    "ask",       "timer",      "pass",     "gone"};
  switch (a.kind) {
    case ImportAction::pass:
      return point_text(a.point);
    case ImportAction::set_timer:
      return fmt::format("timer({})", a.delay / kMillisecond);
    case ImportAction::keep_part:
    case ImportAction::log_part:
    case ImportAction::send_part_done:
      return fmt::format("{}({})", names[a.kind], a.number);
    case ImportAction::log_end:
      return a.settled ? "log_end(settled)" : "log_end(dropped)";
    default:
      return names[a.kind];
  }
}

template <class Actions>
std::string text(const Actions& actions) {
  std::string out;
  for (const auto& a : actions) out += (out.empty() ? "" : " ") + text(a);
  return out;
}

// -- the exporter's -----------------------------------------------------------------------------

using EP = ExportPhase;
using EE = ExportEnding;
using EI = ExportInput;

// Every phase, with each of its flags that an input can tell apart.
const std::map<std::string, ExportState> kExport = {
    {"offered", {.phase = EP::offered}},
    {"copying", {.phase = EP::copying, .sent = 1}},
    {"copying.full", {.phase = EP::copying, .sent = 1 + kWindow, .taken = 1}},
    {"copying.taken", {.phase = EP::copying, .sent = 3, .taken = 3}},
    {"copying.pausing", {.phase = EP::copying, .sent = 3, .taken = 3, .thaws = 1, .pausing = true}},
    {"freezing", {.phase = EP::freezing, .sent = 3, .taken = 3}},
    {"freezing.last", {.phase = EP::freezing, .sent = 3, .taken = 3, .thaws = kMaxThaws - 1}},
    {"waiting", {.phase = EP::waiting, .sent = 3, .taken = 3}},
    {"committing", {.phase = EP::committing, .sent = 3, .taken = 3}},
    {"committing.no_parent", {.phase = EP::committing, .bound_known = true}},
    {"finishing", {.phase = EP::finishing}},
    {"finishing.finished", {.phase = EP::finishing, .finished = true}},
    {"finishing.bound_known", {.phase = EP::finishing, .bound_known = true}},
    {"ended", {.phase = EP::ended, .ending = EE::exported}},
};

const std::map<std::string, ExportInput> kExportInputs_ = {
    {"accepted", {EI::accepted}},
    {"refused", {EI::refused}},
    {"part_taken", {EI::part_taken, 1}},
    {"progress.much", {.kind = EI::progress, .unsent = 5000}},
    {"progress.long", {.kind = EI::progress, .unsent = 5000, .rounds = kMaxRounds}},
    {"progress.long.leases",
     {.kind = EI::progress, .unsent = 5000, .rounds = kMaxRounds, .leases = true}},
    {"progress.few", {.kind = EI::progress, .unsent = kFewItems - 1}},
    {"progress.few.leases", {.kind = EI::progress, .unsent = kFewItems - 1, .leases = true}},
    {"progress.none", {.kind = EI::progress}},
    {"quiet", {EI::quiet}},
    {"imported", {EI::imported}},
    {"export_durable", {EI::export_durable}},
    {"finished", {EI::finished}},
    {"bound_known", {EI::bound_known}},
    {"aborted", {EI::aborted}},
    {"disconnected", {EI::disconnected}},
    {"connected", {EI::connected}},
    {"asked", {EI::asked}},
    {"timeout", {EI::timeout}},
    {"cancelled", {EI::cancelled}},
};

using Rows = std::map<std::pair<std::string, std::string>, std::string>;

// What each does, "next phase: actions"; absent: nothing.
Rows export_rows() {
  Rows t;
  const char* early[] = {"offered",         "copying",  "copying.full",  "copying.taken",
                         "copying.pausing", "freezing", "freezing.last", "waiting"};
  for (std::string s : early) {
    const bool frozen = s.starts_with("freezing") || s == "waiting";
    const std::string thaw = frozen ? "thaw " : "";
    t[{s, "refused"}] = "ended/refused: " + thaw + "timer(0) gone";
    t[{s, "aborted"}] = "ended/aborted: " + thaw + "timer(0) gone";
    t[{s, "disconnected"}] = "ended/aborted: " + thaw + "timer(0) gone";
    t[{s, "asked"}] = "ended/aborted: tell(not_exported) " + thaw + "timer(0) gone";
    t[{s, "cancelled"}] = "ended/aborted: " + thaw + "abort timer(0) gone";
    t[{s, "timeout"}] = "ended/aborted: " + thaw + "abort timer(0) gone";
  }
  t[{"offered", "accepted"}] = "copying: [accepted] recall timer(10000) part [part_sent]";

  const std::string freeze = "freezing: [copied] [recalled] timer(15) freeze [frozen]";
  for (std::string s : {"copying", "copying.full", "copying.taken"})
    t[{s, "part_taken"}] = "copying: timer(10000)";
  t[{"copying.taken", "part_taken"}] = "copying: timer(10000)";
  for (std::string s : {"copying", "copying.taken", "copying.pausing"}) {
    t[{s, "progress.much"}] = "copying: part [part_sent]";
    t[{s, "progress.long.leases"}] = "copying: part [part_sent]";
  }
  for (const char* p : {"progress.long", "progress.few", "progress.none"})
    t[{"copying.taken", p}] = freeze;
  t[{"copying.pausing", "timeout"}] = "copying: timer(10000)";

  t[{"freezing", "timeout"}] = "copying: thaw timer(20)";
  t[{"freezing.last", "timeout"}] = "ended/too_busy: thaw abort timer(0) gone";
  t[{"freezing", "quiet"}] = "waiting: [quiet] timer(100) final [final_sent]";
  t[{"freezing.last", "quiet"}] = t[{"freezing", "quiet"}];
  // A refusal that comes so late is one all the same, and so on: see `early`.
  t[{"waiting", "imported"}] =
      "committing: [imported_received] timer(0) log_export [export_logged]";

  const std::string finish = "finish [finish_sent]";
  const std::string moved = "bound_moved [bound_moved_sent]";
  for (std::string s : {"committing", "committing.no_parent"}) {
    t[{s, "asked"}] = "committing: tell(undecided)";
    t[{s, "export_durable"}] = "finishing: [export_durable] drop [dropped] " + finish +
                               (s == "committing" ? " " + moved : "") + " timer(50)";
  }
  const std::string end = "ended/exported: log_end [end_logged] timer(0) gone";
  const std::string received = "[finished_received]";
  for (std::string s : {"finishing", "finishing.finished", "finishing.bound_known"})
    t[{s, "asked"}] = "finishing: tell(exported)";
  for (const char* again : {"timeout", "connected"}) {
    t[{"finishing", again}] = "finishing: " + finish + " " + moved + " timer(50)";
    t[{"finishing.finished", again}] = "finishing: " + moved + " timer(50)";
    t[{"finishing.bound_known", again}] = "finishing: " + finish + " timer(50)";
  }
  t[{"finishing", "finished"}] = "finishing: " + received;
  t[{"finishing.bound_known", "finished"}] =
      "ended/exported: " + received + " log_end [end_logged] timer(0) gone";
  t[{"finishing", "bound_known"}] = "finishing:";
  t[{"finishing.finished", "bound_known"}] = end;
  return t;
}

std::string phase_text(const ExportState& s) {
  static constexpr const char* phases[] = {"offered",    "copying",   "freezing", "waiting",
                                           "committing", "finishing", "ended"};
  static constexpr const char* endings[] = {"", "/exported", "/refused", "/aborted", "/too_busy"};
  return std::string(phases[static_cast<int>(s.phase)]) + endings[static_cast<int>(s.ending)];
}

TEST(ExporterTable, EveryStateWithEveryInput) {
  const Rows rows = export_rows();
  std::set<int> phases, kinds;
  size_t met = 0;
  for (const auto& [state_name, state] : kExport) {
    phases.insert(static_cast<int>(state.phase));
    for (const auto& [input_name, input] : kExportInputs_) {
      SCOPED_TRACE(state_name + " x " + input_name);
      kinds.insert(input.kind);
      ExportStep got = step(state, input);
      auto row = rows.find({state_name, input_name});
      if (row == rows.end()) {
        EXPECT_EQ(text(got.actions), "");
        EXPECT_EQ(got.next, state);
        continue;
      }
      met++;
      std::string actions = text(got.actions);
      EXPECT_EQ(phase_text(got.next) + ":" + (actions.empty() ? "" : " " + actions), row->second);
    }
  }
  EXPECT_EQ(phases.size(), static_cast<size_t>(kExportPhases));
  EXPECT_EQ(kinds.size(), static_cast<size_t>(kExportInputs));
  EXPECT_EQ(met, rows.size()) << "a row that no state x input meets";
}

TEST(ExporterTable, CountsPartsRoundsAndThaws) {
  ExportState s = begin_export(true).next;
  s = step(s, {EI::accepted}).next;
  EXPECT_EQ(s.sent, 1u);
  const ExportInput much{.kind = EI::progress, .unsent = 100'000};
  for (int k = 0; k < 20; ++k) s = step(s, much).next;
  EXPECT_EQ(s.sent, kWindow) << "no more than the window";
  s = step(s, {EI::part_taken, 1}).next;
  for (int k = 0; k < 20; ++k) s = step(s, much).next;
  EXPECT_EQ(s.sent, kWindow + 1);
  for (uint32_t n = 2; n <= kWindow + 1; ++n) s = step(s, {EI::part_taken, n}).next;
  EXPECT_EQ(s.taken, s.sent);
  EXPECT_EQ(step(s, {EI::part_taken, 99}).next.taken, s.sent) << "never more than were sent";
  for (uint32_t k = 1; k < kMaxThaws; ++k) {
    s = step(s, {.kind = EI::progress}).next;
    ASSERT_EQ(s.phase, EP::freezing);
    s = step(s, {EI::timeout}).next;
    ASSERT_EQ(s.phase, EP::copying);
    EXPECT_EQ(s.thaws, k);
    EXPECT_EQ(step(s, {.kind = EI::progress}).next.phase, EP::copying) << "requests come first";
    s = step(s, {EI::timeout}).next;
    EXPECT_FALSE(s.pausing);
  }
  s = step(s, {.kind = EI::progress}).next;
  s = step(s, {EI::timeout}).next;
  EXPECT_EQ(s.ending, EE::too_busy);
}

TEST(ExporterTable, Begins) {
  EXPECT_EQ(text(begin_export(true).actions), "timer(2000) offer [offered]");
  EXPECT_FALSE(begin_export(true).next.bound_known);
  EXPECT_TRUE(begin_export(false).next.bound_known) << "nobody else has to be told";
}

TEST(ExporterTable, RecoveryDecidesByTheJournalAlone) {
  for (bool tell_parent : {false, true}) {
    EXPECT_FALSE(after_export({.exported = false, .ended = false}, tell_parent));
    EXPECT_FALSE(after_export({.exported = false, .ended = true}, tell_parent));
    EXPECT_FALSE(after_export({.exported = true, .ended = true}, tell_parent));
    auto open = after_export({.exported = true, .ended = false}, tell_parent);
    ASSERT_TRUE(open);
    EXPECT_EQ(open->next.phase, EP::finishing);
    EXPECT_EQ(open->next.bound_known, !tell_parent);
    EXPECT_EQ(text(open->actions),
              tell_parent ? "finish [finish_sent] bound_moved [bound_moved_sent] timer(50)"
                          : "finish [finish_sent] timer(50)");
  }
  for (const Body& body : {Body(msg::MigrateAsk{}), Body(msg::MigrateImported{})}) {
    EXPECT_EQ(answer_without_state(body, true), LostAnswer::exported);
    EXPECT_EQ(answer_without_state(body, false), LostAnswer::not_exported);
  }
  for (const Body& body : {Body(msg::MigrateAccept{}), Body(msg::MigratePartDone{})})
    EXPECT_EQ(answer_without_state(body, false), LostAnswer::abort);
  for (const Body& body : {Body(msg::MigrateRefuse{}), Body(msg::MigrateFinished{})})
    EXPECT_EQ(answer_without_state(body, false), LostAnswer::none);
}

// -- the importer's -----------------------------------------------------------------------------

using IP = ImportPhase;
using II = ImportInput;
using MF = msg::MigrateFate;

const std::map<std::string, ImportState> kImport = {
    {"accepted", {.phase = IP::accepted}},
    {"receiving.clean", {.phase = IP::receiving, .received = 2}},
    {"receiving", {.phase = IP::receiving, .received = 2, .logged = true}},
    {"logging", {.phase = IP::logging, .received = 2, .logged = true}},
    {"logging.asking", {.phase = IP::logging, .received = 2, .logged = true, .asking = true}},
    {"imported", {.phase = IP::imported, .received = 2, .logged = true}},
    {"imported.asking", {.phase = IP::imported, .logged = true, .asking = true}},
    {"ending", {.phase = IP::ending, .logged = true, .settled = true}},
    {"dropping", {.phase = IP::dropping, .logged = true}},
    {"ended", {.phase = IP::ended, .settled = true}},
};

const std::map<std::string, ImportInput> kImportInputs_ = {
    {"part1.clean", {II::part, 1, false}},
    {"part1.dirty", {II::part, 1, true}},
    {"part3.clean", {II::part, 3, false}},
    {"part3.dirty", {II::part, 3, true}},
    {"part_durable", {II::part_durable, 2}},
    {"final0", {II::final, 0}},
    {"final2", {II::final, 2}},
    {"final7", {II::final, 7}},
    {"import_durable", {II::import_durable}},
    {"finish", {II::finish}},
    {"aborted", {II::aborted}},
    {"told.exported", {.kind = II::told, .fate = MF::exported}},
    {"told.not_exported", {.kind = II::told, .fate = MF::not_exported}},
    {"told.undecided", {.kind = II::told, .fate = MF::undecided}},
    {"end_durable", {II::end_durable}},
    {"disconnected", {II::disconnected}},
    {"connected", {II::connected}},
    {"timeout", {II::timeout}},
    {"cancelled", {II::cancelled}},
};

Rows import_rows() {
  Rows t;
  const std::string forget = "ended: [aborting] discard timer(0) gone";
  const std::string drop = "dropping: [aborting] discard timer(0) log_end(dropped)";
  for (std::string s : {"accepted", "receiving.clean", "receiving"}) {
    const std::string leave = s == "receiving" ? drop : forget;
    const std::string say = s == "receiving"
                                ? "dropping: abort [aborting] discard timer(0) log_end(dropped)"
                                : "ended: abort [aborting] discard timer(0) gone";
    t[{s, "aborted"}] = leave;
    t[{s, "disconnected"}] = leave;
    t[{s, "cancelled"}] = say;
    t[{s, "part_durable"}] =
        (s == "accepted" ? "accepted" : "receiving") + std::string(": [part_durable] part_done(2)");
    const bool first = s == "accepted";
    const std::string n = first ? "1" : "3";
    const std::string wrong = first ? "3" : "1";
    t[{s, "part" + n + ".clean"}] =
        "receiving: [part_received] keep(" + n + ") part_done(" + n + ")";
    t[{s, "part" + n + ".dirty"}] =
        "receiving: [part_received] keep(" + n + ") log_part(" + n + ") [part_logged]";
    for (const char* kind : {".clean", ".dirty"}) t[{s, "part" + wrong + kind}] = say;
    for (const char* f : {"final0", "final2", "final7"}) t[{s, f}] = say;
    if (!first) t[{s, "final2"}] = "logging: [final_received] log_import [import_logged]";
  }
  for (std::string s : {"logging", "logging.asking", "imported", "imported.asking"}) {
    t[{s, "aborted"}] = drop;
    t[{s, "told.not_exported"}] = drop;
  }
  t[{"logging", "import_durable"}] = "imported: [import_durable] imported [imported_sent]";
  t[{"logging.asking", "import_durable"}] = "imported.asking: [import_durable] ask timer(10)";
  t[{"logging", "disconnected"}] = "logging.asking:";
  const std::string settle =
      "ending: timer(0) [finish_received] absorb [absorbed] log_end(settled) [end_logged]";
  for (std::string s : {"imported", "imported.asking"}) {
    t[{s, "finish"}] = settle;
    t[{s, "told.exported"}] = settle;
    t[{s, "told.undecided"}] =
        (s == "imported" ? "imported" : "imported.asking") + std::string(": timer(10)");
    t[{s, "disconnected"}] = "imported.asking: timer(10)";
  }
  t[{"imported.asking", "connected"}] = "imported.asking: ask timer(10)";
  t[{"imported.asking", "timeout"}] = "imported.asking: ask timer(10)";
  t[{"ending", "end_durable"}] = "ended: [end_durable] finished timer(0) gone";
  t[{"dropping", "end_durable"}] = "ended: timer(0) gone";
  return t;
}

std::string phase_text(const ImportState& s) {
  static constexpr const char* phases[] = {"accepted", "receiving", "logging", "imported",
                                           "ending",   "dropping",  "ended"};
  return std::string(phases[static_cast<int>(s.phase)]) + (s.asking ? ".asking" : "");
}

TEST(ImporterTable, EveryStateWithEveryInput) {
  const Rows rows = import_rows();
  std::set<int> phases, kinds;
  size_t met = 0;
  for (const auto& [state_name, state] : kImport) {
    phases.insert(static_cast<int>(state.phase));
    for (const auto& [input_name, input] : kImportInputs_) {
      SCOPED_TRACE(state_name + " x " + input_name);
      kinds.insert(input.kind);
      ImportStep got = step(state, input);
      auto row = rows.find({state_name, input_name});
      if (row == rows.end()) {
        EXPECT_EQ(text(got.actions), "");
        EXPECT_EQ(got.next, state);
        continue;
      }
      met++;
      std::string actions = text(got.actions);
      EXPECT_EQ(phase_text(got.next) + ":" + (actions.empty() ? "" : " " + actions), row->second);
      EXPECT_TRUE(got.next.phase != IP::ending || got.next.settled);
    }
  }
  EXPECT_EQ(phases.size(), static_cast<size_t>(kImportPhases));
  EXPECT_EQ(kinds.size(), static_cast<size_t>(kImportInputs));
  EXPECT_EQ(met, rows.size()) << "a row that no state x input meets";
}

TEST(ImporterTable, Begins) {
  EXPECT_EQ(text(begin_import().actions), "[offered] accept [accepted]");
}

TEST(ImporterTable, RecoveryAsksWhereItIsAmbiguous) {
  EXPECT_FALSE(after_import({.imported = false, .ended = false})) << "parts alone are void";
  EXPECT_FALSE(after_import({.imported = false, .ended = true}));
  EXPECT_FALSE(after_import({.imported = true, .ended = true}));
  auto open = after_import({.imported = true, .ended = false});
  ASSERT_TRUE(open);
  EXPECT_EQ(open->next.phase, IP::imported);
  EXPECT_TRUE(open->next.asking);
  EXPECT_EQ(text(open->actions), "ask timer(10)");
}

TEST(ImporterTable, AnswersWithoutState) {
  EXPECT_EQ(answer_without_state(Body(msg::MigrateFinish{})), StrayAnswer::finished);
  EXPECT_EQ(answer_without_state(Body(msg::MigratePart{})), StrayAnswer::abort);
  EXPECT_EQ(answer_without_state(Body(msg::MigrateFinal{})), StrayAnswer::abort);
  EXPECT_EQ(answer_without_state(Body(msg::MigrateAbort{})), StrayAnswer::none);
  EXPECT_EQ(answer_without_state(Body(msg::MigrateTell{})), StrayAnswer::none);
}

TEST(ImporterTable, Refuses) {
  EXPECT_EQ(why_not({}), nullptr);
  EXPECT_NE(why_not({.leaving = true}), nullptr);
  EXPECT_NE(why_not({.full = true}), nullptr);
  EXPECT_NE(why_not({.throttled = true}), nullptr);
  EXPECT_NE(why_not({.overlaps = true}), nullptr);
}

TEST(Points, EachIsASiteOfItsOwn) {
  std::set<std::string> names;
  for (int k = 0; k < kPoints; ++k) {
    const Point point = static_cast<Point>(k);
    EXPECT_TRUE(names.insert(point_name(point)).second) << point_name(point);
    fault::reset_hits();
    pass(point);
    for (fault::Site* site : fault::sites()) {
      if (std::string(site->name) != point_name(point)) continue;
      EXPECT_EQ(site->hits.load(), 1u) << site->name;
    }
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(kPoints));
}

}  // namespace
}  // namespace graftfs::migration
