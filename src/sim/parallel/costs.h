#pragma once
// What things cost where nodes work at the same time.

#include "base/executor.h"

namespace graftfs::sim {

// Nanoseconds: of a processor, but for those under "time that passes". Where they come from is for
// whoever fills them in; 0 is a cluster in which nothing costs anything.
struct Costs {
  // An operation, in the rank's thread, from its request to its reply, its part of the journal
  // included; and what other threads do for it beside that one (write-back), on the same machine.
  struct Operation {
    Nanos thread = 0, beside = 0;
  };
  Operation lookup, getattr, mknod, mkdir;
  Nanos redirect = 0;  // a request that another rank is for
  Nanos protocol = 0;  // whatever else a rank is sent
  // For each side: a message, and a batch of them on one connection (a system call).
  Nanos message = 0, batch = 0;
  Nanos record = 0;  // of a node, looked at by another one

  // Time that passes.
  Nanos network = 50 * kMicrosecond;  // from one machine to another
  Nanos sync = 0;                     // until the store has made durable what it was sent
  Nanos mib = 0;                      // that it is sent
};

}  // namespace graftfs::sim
