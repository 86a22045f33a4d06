#pragma once
// The executor of a real process: one thread, one epoll.
//
// Not Asio's (docs/decisions/004-own-event-loop.md): a FUSE request costs a few microseconds, and
// Asio's reactor adds three system calls to the two that it needs.

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/executor.h"

namespace graftfs {

// Made and run by one thread; post() and stop() may come from any. Functions posted by the loop's
// own thread cost no lock and no system call. Destroying it drops what is still posted.
class EventLoop final : public Executor {
 public:
  EventLoop();
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void post(Fn fn) override;
  void post_after(Nanos delay, Fn fn) override;
  Nanos now() const override;
  Timespec wall_now() const override;

  // Calls `ready` whenever the descriptor can be read (level triggered). From the loop's thread.
  void watch(int fd, Fn ready);
  // May be called from inside `ready`. The descriptor stays the caller's.
  void unwatch(int fd);
  // Before the loop would wait it asks `busy`, which looks by itself where work is likely to have
  // arrived and says whether it found some; descriptors are looked at every few turns all the same.
  // nullptr: nobody is asked.
  void before_waiting(std::move_only_function<bool()> busy) { busy_ = std::move(busy); }
  // Of a watched descriptor: calls `writable`, once, when it can be written.
  void watch_writable(int fd, Fn writable);
  // Of a watched descriptor: `ready` is called only for errors and the end, until it is resumed.
  void pause(int fd, bool paused);
  // Calls `fn` on the loop after one of these signals has come. Once for a process.
  void watch_signals(std::vector<int> signals, Fn fn);

  // Runs until stop(); a stop() before it makes it return at once, and counts once. The calling
  // thread is the loop's from then on.
  void run();
  void stop();
  // Forgets a stop() that no run() has seen.
  void restart();
  // Runs what is due, waiting for something if nothing is.
  void run_one();

 private:
  struct Watch {
    Fn ready;
    Fn writable;
    bool paused = false;
    bool gone = false;
  };
  void update(int fd, const Watch& watch);
  void turn();
  void wait_for_events();
  void take_foreign();
  void run_timers();
  void wake();
  bool found_work() { return busy_ && busy_(); }

  int epoll_ = -1;
  int wake_fd_ = -1;
  std::thread::id thread_;
  std::deque<Fn> queue_;  // the loop's thread only
  int turns_without_look_ = 0;
  std::move_only_function<bool()> busy_;

  std::mutex mutex_;  // guards the three below
  std::vector<Fn> foreign_;
  bool sleeping_ = false;
  bool stopped_ = false;
  std::atomic<bool> has_foreign_{false};  // also set by stop()

  std::multimap<Nanos, Fn> timers_;
  std::map<int, std::shared_ptr<Watch>> watches_;
};

// Real randomness for session ids and the like.
class SystemRandom final : public Random {
 public:
  uint64_t next() override;
};

}  // namespace graftfs
