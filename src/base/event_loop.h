#pragma once
// The executor of a real process: standalone Asio's io_context, run by one thread.

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <memory>

#include "base/executor.h"

namespace graftfs {

// Owned by the thread that calls run(), which must be the only one to do so. Destroying it drops
// what is still posted.
class EventLoop final : public Executor {
 public:
  EventLoop();

  void post(Fn fn) override;
  void post_after(Nanos delay, Fn fn) override;
  Nanos now() const override;
  Timespec wall_now() const override;

  // Runs until stop(). stop() may be called from any thread and from a signal handler's thread.
  void run();
  void stop();
  asio::io_context& context() { return context_; }

 private:
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
};

// Real randomness for session ids and the like.
class SystemRandom final : public Random {
 public:
  uint64_t next() override;
};

}  // namespace graftfs
