#include "migration/tests/pair_model.h"

#include <algorithm>

namespace graftfs::migration::testing {
namespace {

struct Died {};

// Carries out what the machines want, in a world. Throws Died at the kill point it is told to.
class Hand {
 public:
  Hand(World& world, int die) : w_(world), die_(die) {}
  int passed() const { return passed_; }

  void exporter(const ExportInput& input) {
    if (!w_.e) return;
    ExportStep next = step(*w_.e, input);
    carry_out(std::move(next));
  }

  void carry_out(ExportStep next) {
    w_.e = next.next;
    for (const ExportAction& a : next.actions) act(a);
  }

  void importer(const ImportInput& input) {
    if (!w_.i) return;
    ImportStep next = step(*w_.i, input);
    carry_out(std::move(next));
  }

  void carry_out(ImportStep next) {
    w_.i = next.next;
    for (const ImportAction& a : next.actions) act(a);
  }

  void say_to_i(Word word) {
    if (w_.connected) w_.to_i.push_back(word);
  }
  void say_to_e(Word word) {
    if (w_.connected) w_.to_e.push_back(word);
  }

 private:
  void pass_point(Point point) {
    pass(point);
    if (++passed_ == die_) throw Died{};
  }

  void send_part() {
    say_to_i({Say::part, ++w_.parts_sent});
    if (w_.unsent > 0 && --w_.unsent == 0) w_.rounds++;
  }

  void act(const ExportAction& a) {
    switch (a.kind) {
      case ExportAction::send_offer:
        return say_to_i({Say::offer});
      case ExportAction::recall:
        return;
      case ExportAction::send_part:
        return send_part();
      case ExportAction::freeze:
        w_.e_frozen = true;
        return;
      case ExportAction::thaw:
        w_.e_frozen = false;
        return;
      case ExportAction::send_final:
        while (w_.unsent > 0) send_part();
        return say_to_i({Say::final, w_.parts_sent});
      case ExportAction::log_export:
        w_.e_log.events += 'X';
        return;
      case ExportAction::drop:
        w_.e_holds = false;
        w_.e_frozen = false;
        return;
      case ExportAction::send_finish:
        return say_to_i({Say::finish});
      case ExportAction::send_bound_moved:
        w_.parent_asked = true;
        return;
      case ExportAction::log_end:
        w_.e_log.events += 'Z';
        return;
      case ExportAction::send_abort:
        return say_to_i({Say::abort});
      case ExportAction::tell:
        return say_to_i({Say::tell, 0, a.fate});
      case ExportAction::set_timer:
        w_.e_timer = a.delay != 0;
        return;
      case ExportAction::pass:
        return pass_point(a.point);
      case ExportAction::gone:
        w_.e.reset();
        return;
    }
  }

  void act(const ImportAction& a) {
    switch (a.kind) {
      case ImportAction::send_accept:
        return say_to_e({Say::accept});
      case ImportAction::keep_part:
        return;
      case ImportAction::log_part:
        w_.i_log.events += static_cast<char>('a' + a.number - 1);
        return;
      case ImportAction::send_part_done:
        return say_to_e({Say::part_done, a.number});
      case ImportAction::log_import:
        w_.i_log.events += 'M';
        return;
      case ImportAction::send_imported:
        return say_to_e({Say::imported});
      case ImportAction::absorb:
        w_.i_serves = true;
        return;
      case ImportAction::log_end:
        w_.i_log.events += a.settled ? 'S' : 'D';
        return;
      case ImportAction::discard:
        return;
      case ImportAction::send_finished:
        return say_to_e({Say::finished});
      case ImportAction::send_abort:
        return say_to_e({Say::abort});
      case ImportAction::send_ask:
        return say_to_e({Say::ask});
      case ImportAction::set_timer:
        w_.i_timer = a.delay != 0;
        return;
      case ImportAction::pass:
        return pass_point(a.point);
      case ImportAction::gone:
        w_.i.reset();
        return;
    }
  }

  World& w_;
  int die_;
  int passed_ = 0;
};

// The connection is lost, with all but the first `kept` words that were on their way to each side.
void cut(World& w, size_t kept) {
  if (!w.connected) return;
  w.connected = false;
  auto end = [&](std::deque<Word>& words, bool online) {
    if (!online) return;
    if (words.size() > kept) words.resize(kept);
    words.push_back({Say::gone});
  };
  end(w.to_i, w.i_online);
  end(w.to_e, w.e_online);
}

void crash_e(World& w, size_t kept_events, size_t kept_words) {
  cut(w, kept_words);
  w.to_e.clear();
  w.e_up = false;
  w.e_online = false;
  w.e.reset();
  w.e_timer = w.e_frozen = w.e_holds = w.parent_asked = false;
  w.e_log.events.resize(std::min(kept_events, w.e_log.events.size()));
}

void crash_i(World& w, size_t kept_events, size_t kept_words) {
  cut(w, kept_words);
  w.to_i.clear();
  w.i_up = false;
  w.i_online = false;
  w.i.reset();
  w.i_timer = w.i_serves = false;
  w.i_log.events.resize(std::min(kept_events, w.i_log.events.size()));
}

void deliver_to_i(World& w, Hand& hand) {
  Word word = w.to_i.front();
  w.to_i.pop_front();
  ImportInput input;
  switch (word.say) {
    case Say::offer:
      if (!w.i) hand.carry_out(begin_import());
      return;
    case Say::part:
      if (!w.i) return hand.say_to_e({Say::abort});
      return hand.importer({ImportInput::part, word.number, is_dirty(word.number)});
    case Say::final:
      if (!w.i) return hand.say_to_e({Say::abort});
      return hand.importer({ImportInput::final, word.number});
    case Say::finish:
      if (!w.i) return hand.say_to_e({Say::finished});
      return hand.importer({ImportInput::finish});
    case Say::abort:
      return hand.importer({ImportInput::aborted});
    case Say::tell:
      input.kind = ImportInput::told;
      input.fate = word.fate;
      return hand.importer(input);
    case Say::gone:
      w.i_online = false;
      return hand.importer({ImportInput::disconnected});
    default:
      return;
  }
}

void deliver_to_e(World& w, Hand& hand) {
  Word word = w.to_e.front();
  w.to_e.pop_front();
  if (!w.e && word.say != Say::gone) {
    const bool forward = w.e_log.has('X') && !w.e_log.has('Z');
    Body body = msg::MigrateFinished{};
    if (word.say == Say::accept) body = msg::MigrateAccept{};
    if (word.say == Say::part_done) body = msg::MigratePartDone{};
    if (word.say == Say::imported) body = msg::MigrateImported{};
    if (word.say == Say::ask) body = msg::MigrateAsk{};
    switch (answer_without_state(body, forward)) {
      case LostAnswer::none:
        return;
      case LostAnswer::abort:
        return hand.say_to_i({Say::abort});
      case LostAnswer::not_exported:
        return hand.say_to_i({Say::tell, 0, msg::MigrateFate::not_exported});
      case LostAnswer::exported:
        return hand.say_to_i({Say::tell, 0, msg::MigrateFate::exported});
    }
  }
  switch (word.say) {
    case Say::accept:
      return hand.exporter({ExportInput::accepted});
    case Say::part_done:
      return hand.exporter({ExportInput::part_taken, word.number});
    case Say::imported:
      return hand.exporter({ExportInput::imported});
    case Say::finished:
      return hand.exporter({ExportInput::finished});
    case Say::abort:
      return hand.exporter({ExportInput::aborted});
    case Say::ask:
      return hand.exporter({ExportInput::asked});
    case Say::gone:
      w.e_online = false;
      return hand.exporter({ExportInput::disconnected});
    default:
      return;
  }
}

// The next event of the journal is durable; whoever waits for it is told.
void sync_e(World& w, Hand& hand) {
  char event = w.e_log.events[w.e_log.durable++];
  if (event == 'X') hand.exporter({ExportInput::export_durable});
}

void sync_i(World& w, Hand& hand) {
  char event = w.i_log.events[w.i_log.durable++];
  if (event == 'M') return hand.importer({ImportInput::import_durable});
  if (event == 'S' || event == 'D') return hand.importer({ImportInput::end_durable});
  hand.importer({ImportInput::part_durable, static_cast<uint32_t>(event - 'a' + 1)});
}

void recover_e(World& w, Hand& hand) {
  w.e_up = true;
  w.e_log.durable = static_cast<uint32_t>(w.e_log.events.size());
  w.e_holds = !w.e_log.has('X');
  auto open = after_export({w.e_log.has('X'), w.e_log.has('Z')}, w.tell_parent);
  if (open) hand.carry_out(std::move(*open));
}

void recover_i(World& w, Hand& hand) {
  w.i_up = true;
  w.i_log.durable = static_cast<uint32_t>(w.i_log.events.size());
  const bool ended = w.i_log.has('S') || w.i_log.has('D');
  // Parts without an Import are dropped at the end of replay.
  w.i_serves = w.i_log.has('S');
  auto open = after_import({w.i_log.has('M'), ended});
  if (open) hand.carry_out(std::move(*open));
}

using Do = void (*)(World&, Hand&);

// `who`: 'e' or 'i', whose process dies at a kill point.
void add(std::vector<Way>& out, const World& world, std::string name, char who, Do what) {
  auto go = [who, what](World& w, Death death) {
    Hand hand(w, death.point);
    try {
      what(w, hand);
    } catch (const Died&) {
      if (who == 'e')
        crash_e(w, death.loses ? w.e_log.durable : SIZE_MAX, SIZE_MAX);
      else
        crash_i(w, death.loses ? w.i_log.durable : SIZE_MAX, SIZE_MAX);
    }
  };
  World probe = world;
  Hand hand(probe, 0);
  what(probe, hand);
  out.push_back({std::move(name), false, go, hand.passed()});
}

void add_fault(std::vector<Way>& out, std::string name, std::function<void(World&)> go) {
  out.push_back({std::move(name), true, [go](World& w, Death) { go(w); }, 0});
}

void add_crashes(std::vector<Way>& out, const World& w) {
  if (w.left.crashes == 0) return;
  for (size_t words : {size_t{0}, SIZE_MAX}) {
    if (w.e_up)
      for (size_t n = w.e_log.durable; n <= w.e_log.events.size(); ++n)
        add_fault(out, "exporter dies", [n, words](World& x) {
          x.left.crashes--;
          crash_e(x, n, words);
        });
    if (w.i_up)
      for (size_t n = w.i_log.durable; n <= w.i_log.events.size(); ++n)
        add_fault(out, "importer dies", [n, words](World& x) {
          x.left.crashes--;
          crash_i(x, n, words);
        });
  }
}

}  // namespace

std::vector<Way> ways(const World& w) {
  std::vector<Way> out;
  if (!w.e_began && w.e_up)
    add(out, w, "begin", 'e', [](World& x, Hand& hand) {
      x.e_began = true;
      hand.carry_out(begin_export(x.tell_parent));
    });
  if (w.i_up && !w.to_i.empty()) add(out, w, "to importer", 'i', deliver_to_i);
  if (w.e_up && !w.to_e.empty()) add(out, w, "to exporter", 'e', deliver_to_e);
  if (w.e_up && w.e_log.durable < w.e_log.events.size()) add(out, w, "exporter syncs", 'e', sync_e);
  if (w.i_up && w.i_log.durable < w.i_log.events.size()) add(out, w, "importer syncs", 'i', sync_i);
  if (!w.e_up) add(out, w, "exporter recovers", 'e', recover_e);
  if (!w.i_up) add(out, w, "importer recovers", 'i', recover_i);
  if (w.e_up && w.i_up && !w.e_online && !w.i_online && w.to_e.empty() && w.to_i.empty())
    add(out, w, "connect", 'e', [](World& x, Hand& hand) {
      x.connected = x.e_online = x.i_online = true;
      hand.exporter({ExportInput::connected});
      hand.importer({ImportInput::connected});
    });
  if (w.parent_asked && w.e_up)
    add(out, w, "parent knows", 'e', [](World& x, Hand& hand) {
      x.parent_asked = false;
      hand.exporter({ExportInput::bound_known});
    });
  if (w.e && w.e->phase == ExportPhase::copying) {
    if (w.leases) add(out, w, "leases are back", 'e', [](World& x, Hand&) { x.leases = false; });
    const ExportInput progress{.kind = ExportInput::progress,
                               .unsent = w.unsent * kFewItems,
                               .rounds = w.rounds,
                               .leases = w.leases};
    if (!step(*w.e, progress).actions.empty())
      add(out, w, "progress", 'e', [](World& x, Hand& hand) {
        hand.exporter({.kind = ExportInput::progress,
                       .unsent = x.unsent * kFewItems,
                       .rounds = x.rounds,
                       .leases = x.leases});
      });
    if (w.left.changes > 0)
      add(out, w, "a client changes something", 'e', [](World& x, Hand&) {
        x.left.changes--;
        x.unsent++;
      });
  }
  if (w.e && w.e->phase == ExportPhase::freezing)
    add(out, w, "quiet", 'e', [](World&, Hand& hand) { hand.exporter({ExportInput::quiet}); });
  // A timer that repeats something does so when it is not on its way any more; one that gives up
  // may fire at any time, which is a fault.
  if (w.e && w.e_timer) {
    const bool repeats = w.e->phase == ExportPhase::finishing ||
                         (w.e->phase == ExportPhase::copying && w.e->pausing);
    if (repeats && w.to_i.empty() && w.to_e.empty() && !w.parent_asked)
      add(out, w, "exporter's timer", 'e',
          [](World&, Hand& hand) { hand.exporter({ExportInput::timeout}); });
    if (!repeats && w.left.timeouts > 0)
      add_fault(out, "exporter gives up", [](World& x) {
        x.left.timeouts--;
        Hand(x, 0).exporter({ExportInput::timeout});
      });
  }
  if (w.i && w.i_timer && w.to_e.empty() && w.to_i.empty())
    add(out, w, "importer's timer", 'i',
        [](World&, Hand& hand) { hand.importer({ImportInput::timeout}); });
  add_crashes(out, w);
  if (w.left.cuts > 0 && w.connected)
    for (size_t words : {size_t{0}, SIZE_MAX})
      add_fault(out, "the connection breaks", [words](World& x) {
        x.left.cuts--;
        cut(x, words);
      });
  if (w.left.cancels > 0) {
    if (w.e)
      add_fault(out, "the exporter is told to stop", [](World& x) {
        x.left.cancels--;
        Hand(x, 0).exporter({ExportInput::cancelled});
      });
    if (w.i)
      add_fault(out, "the importer is told to stop", [](World& x) {
        x.left.cancels--;
        Hand(x, 0).importer({ImportInput::cancelled});
      });
  }
  return out;
}

std::string broken(const World& w) {
  if (w.e_serves() && w.i_serves) return "both serve";
  if (w.i_serves && !w.e_log.has_durable('X'))
    return "the importer serves before Export is durable";
  if (w.e_serves() && w.e_log.has('X')) return "the exporter serves what it has exported";
  if (w.e_up && w.e_holds && w.e_log.has_durable('X') && !w.e_frozen)
    return "the exporter goes on after the commit point";
  if (w.e_log.has('Z') && !w.i_log.has_durable('S'))
    return "the exporter forgets before the importer's end is durable";
  if (w.e_log.has('X') && !w.i_log.has_durable('M'))
    return "Export was logged before Import was durable";
  if (w.e_log.has('X') && w.i_log.has('D')) return "exported, and dropped by the importer";
  for (uint32_t part = 1; part <= w.parts_sent && w.i_serves; ++part)
    if (is_dirty(part) && !w.i_log.has_durable(static_cast<char>('a' + part - 1)))
      return "a part with changes is not in the importer's journal";
  return "";
}

std::string not_at_rest(const World& w) {
  if (!w.e_up || !w.i_up) return "somebody is down";
  if (w.e) return "the exporter has something under way";
  if (w.i) return "the importer has something under way";
  if (w.e_frozen) return "something is frozen";
  if (!w.e_serves() && !w.i_serves) return "nobody serves";
  if (w.i_log.has('M') && !w.i_log.has('S') && !w.i_log.has('D')) return "an Import without end";
  if (w.e_log.has('X') && !w.e_log.has('Z')) return "an Export without end";
  return "";
}

bool settle(World& w) {
  w.left = {};
  for (int k = 0; k < 2000; ++k) {
    std::vector<Way> next = ways(w);
    auto way = std::find_if(next.begin(), next.end(),
                            [](const Way& x) { return !x.fault && !x.name.ends_with("timer"); });
    // Time passes when nothing else happens.
    if (way == next.end()) {
      way = std::find_if(next.begin(), next.end(), [](const Way& x) { return !x.fault; });
      if (way == next.end() && (w.e || w.i)) {
        // Only limits are left to run out.
        if (w.e && w.e_timer)
          Hand(w, 0).exporter({ExportInput::timeout});
        else
          return true;
        continue;
      }
    }
    if (way == next.end()) return true;
    way->go(w, {});
    if (!broken(w).empty()) return true;
  }
  return false;
}

}  // namespace graftfs::migration::testing
