#include "base/event_loop.h"

#include <sys/random.h>
#include <time.h>

#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include "base/check.h"

namespace graftfs {

EventLoop::EventLoop() : work_(asio::make_work_guard(context_)) {}

void EventLoop::post(Fn fn) { asio::post(context_, std::move(fn)); }

void EventLoop::post_after(Nanos delay, Fn fn) {
  auto timer = std::make_unique<asio::steady_timer>(context_, std::chrono::nanoseconds(delay));
  auto& t = *timer;
  t.async_wait([timer = std::move(timer), fn = std::move(fn)](const asio::error_code& e) mutable {
    if (!e) fn();
  });
}

Nanos EventLoop::now() const {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

Timespec EventLoop::wall_now() const {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
}

void EventLoop::run() { context_.run(); }
void EventLoop::stop() { context_.stop(); }

uint64_t SystemRandom::next() {
  uint64_t v = 0;
  CHECK(getrandom(&v, sizeof v, 0) == sizeof v);
  return v;
}

}  // namespace graftfs
