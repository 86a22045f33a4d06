#pragma once
// The seams to time and to the event loop. Nothing above them calls the operating system.

#include <cstdint>
#include <functional>

namespace graftfs {

using Fn = std::move_only_function<void()>;
using Nanos = int64_t;  // a duration, or a point on the monotonic clock, in nanoseconds

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

// Wall clock time as in struct timespec; nsec < 1e9.
struct Timespec {
  int64_t sec = 0;
  uint32_t nsec = 0;
  friend auto operator<=>(const Timespec&, const Timespec&) = default;
};

// Runs functions one at a time, in one thread. The simulator implements it too and decides the
// order of what is due.
class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `fn` soon, after everything posted before it. May be called from any thread.
  virtual void post(Fn fn) = 0;
  // Runs `fn` once `delay` has passed. From the executor's own thread only.
  virtual void post_after(Nanos delay, Fn fn) = 0;
  virtual Nanos now() const = 0;          // monotonic
  virtual Timespec wall_now() const = 0;  // for the times of inodes
};

// Pseudo-random numbers; the simulator seeds them.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t next() = 0;
  // 0 <= result < bound; bound > 0.
  uint64_t below(uint64_t bound) { return next() % bound; }
};

}  // namespace graftfs
