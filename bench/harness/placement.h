#pragma once

#include <sched.h>
#include <sys/types.h>

#include "harness/target.h"

namespace graftfs::bench {

// While it lives, the calling thread (and every thread and program it starts)
// runs on one CPU together with the thread that answers the target's requests;
// the server's other threads stay free.
//
// A request and its answer are a ping-pong between two threads. Left alone, the
// scheduler puts them on one CPU or on two as chance has it, and the same
// program is then five times slower or faster from one run to the next (9,000
// or 47,000 creates/s of the null file system). On one CPU both sides of a
// comparison are as fast as they can be and repeat within a few per cent.
// With several clients at once nothing is placed.
class Together {
 public:
  // The busiest thread so far is taken for the one that answers, so the target
  // must have done some work.
  explicit Together(const Target& target);
  Together(const Together&) = delete;
  Together& operator=(const Together&) = delete;
  ~Together();

 private:
  cpu_set_t own_;
  pid_t server_thread_;
  cpu_set_t servers_;
};

// Makes the target do some work, so that its busiest thread shows.
void warm_up(const Target& target);

}  // namespace graftfs::bench
