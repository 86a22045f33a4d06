#pragma once
// Drives the state machines of migration (docs/protocols/migration.md) with messages, journal and
// time.

#include "server/rank_core.h"

namespace graftfs {

using MoveFn = std::move_only_function<void(Result<void>)>;

// One for a rank, in its thread. A crash leaves what the journal says; recovered() takes that up.
class Migrations {
 public:
  explicit Migrations(RankCore& core) : core_(core) {}

  // Messages about migrations. Those that belong to nothing known are answered as the protocol
  // says, or dropped.
  void receive(RankId from, Message message);
  // Exports the subtree; `done` is called once.
  void start(Ino root, RankId to, MoveFn done);
  // Whether requests that touch this directory have to wait; for what.
  std::optional<Need> parks(const Dir& dir) const;
  bool is_frozen(const Dir& dir) const { return parks(dir).has_value(); }
  void peer_up(RankId rank);
  void peer_down(RankId rank);
  // The rank serves again: what the journal has left open goes on.
  void recovered();

 private:
  RankCore& core_;
};

}  // namespace graftfs
