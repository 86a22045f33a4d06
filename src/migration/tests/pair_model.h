#pragma once
// An exporter and an importer against each other, each with a journal, over a connection that is in
// order and may break. Pure: a world is a value, and every way in which it may go on is a value
// too.

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "migration/exporter.h"
#include "migration/importer.h"

namespace graftfs::migration::testing {

// What goes over the connection; `gone` is the end of it, as the other side notices it.
enum class Say : uint8_t {
  offer,
  accept,
  part,
  part_done,
  final,
  imported,
  finish,
  finished,
  abort,
  ask,
  tell,
  gone,
};
struct Word {
  Say say = Say::offer;
  uint32_t number = 0;
  msg::MigrateFate fate = msg::MigrateFate::undecided;
  friend auto operator<=>(const Word&, const Word&) = default;
};

// One letter an event. Exporter: X Export, Z ExportEnd. Importer: a part of so many (a, b, ...),
// M Import, S ImportEnd settled, D ImportEnd dropped.
struct Log {
  std::string events;
  uint32_t durable = 0;
  bool has(char c) const { return events.find(c) != std::string::npos; }
  bool has_durable(char c) const { return events.find(c) < durable; }
  friend auto operator<=>(const Log&, const Log&) = default;
};

struct Budget {
  uint8_t crashes = 0, cuts = 0, timeouts = 0, cancels = 0, changes = 0;
  friend auto operator<=>(const Budget&, const Budget&) = default;
};

struct World {
  // The exporter's side.
  bool e_up = true;
  std::optional<ExportState> e;
  bool e_holds = true;  // the directories are in its cache
  bool e_frozen = false;
  bool e_timer = false;
  bool e_began = false;
  bool tell_parent = true;
  bool parent_asked = false;  // BoundMoved is on its way
  uint8_t unsent = 2;         // parts' worth
  uint8_t rounds = 0;
  bool leases = true;
  Log e_log;
  // The importer's side.
  bool i_up = true;
  std::optional<ImportState> i;
  bool i_serves = false;
  bool i_timer = false;
  Log i_log;
  // Between them.
  bool connected = true;                  // in truth
  bool e_online = true, i_online = true;  // as each knows
  std::deque<Word> to_i, to_e;
  uint32_t parts_sent = 0;
  Budget left;
  friend auto operator<=>(const World&, const World&) = default;

  bool e_serves() const { return e_up && e_holds && !e_frozen; }
};

// Which parts hold something dirty: every other one, beginning with the first.
inline bool is_dirty(uint32_t part) { return part % 2 == 1; }

// Where on a way the process dies: at its so-manieth kill point (0: it does not), and whether what
// it had appended to its journal is lost.
struct Death {
  int point = 0;
  bool loses = true;
};

// One way on.
struct Way {
  std::string name;
  bool fault = false;
  std::function<void(World&, Death)> go;
  int points = 0;  // that it passes
};

// Everything that may happen next.
std::vector<Way> ways(const World& world);

// A sentence where something is wrong in this very moment; "" where not.
std::string broken(const World& world);
// The same for a world that has come to rest.
std::string not_at_rest(const World& world);
// Goes on without faults until nothing happens by itself any more. False: it never rests.
bool settle(World& world);

}  // namespace graftfs::migration::testing
