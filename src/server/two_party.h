#pragma once
// Operations on several authorities (docs/protocols/two_party.md): this rank as coordinator and as
// participant.

#include <map>

#include "server/rank_core.h"

namespace graftfs {

// What the participants of an operation have answered, in the order of its intents.
struct Prepared {
  std::vector<msg::Intent> intents;
  std::vector<msg::IntentValue> values;
};

// One for a rank, in its thread. A crash leaves what the journal says; recovered() takes that up.
class TwoParty {
 public:
  explicit TwoParty(RankCore& core) : core_(core) {}

  void receive(RankId from, Message message);
  // A request needs these of others. Returns why it stops: an error, or what it waits for
  // (Need::two_party with a number), to start over when that is woken.
  Stop begin(const Request& request, std::vector<msg::Intent> intents);
  // For a request that starts over: what it has got. Null: nothing yet.
  const Prepared* prepared(uint64_t number) const;
  // Whether something is marked by an operation; by which.
  std::optional<Need> busy(const Dir& dir, std::string_view name) const;
  std::optional<Need> busy(Ino ino) const;
  void peer_up(RankId rank);
  void peer_down(RankId rank);
  void recovered();

 private:
  RankCore& core_;
};

}  // namespace graftfs
