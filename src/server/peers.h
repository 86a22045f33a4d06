#pragma once
// What a rank knows of the other ranks, and how it reaches them. Its node implements it.

#include <vector>

#include "types/wire.h"

namespace graftfs {

// Outlives the rank, used in its thread. A message that is sent arrives behind those sent before,
// or is lost when the connection breaks, which Rank::peer_down() tells; nothing else is promised.
// When a connection stands, Peers say Hail with the rank's epoch for it; what comes back goes to
// Rank::receive().
class Peers {
 public:
  virtual ~Peers() = default;
  virtual void send(RankId to, Message message) = 0;
  // As the table and the failure detector say.
  virtual bool alive(RankId rank) const = 0;
  virtual RankId root_rank() const = 0;
  virtual std::vector<RankId> ranks() const = 0;  // that exist, in order
  // Who has what was the rank's own (its hidden directories): itself, while it exists.
  virtual RankId heir(RankId rank) const { return rank; }
  // Whether this node may still speak: asked before anything leaves.
  virtual bool lease_valid() const = 0;
};

}  // namespace graftfs
