#include "base/event_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace graftfs {
namespace {

// While there is work of its own the loop looks at descriptors only every so many turns.
constexpr int kTurnsWithoutLook = 8;
constexpr int kEventsAtOnce = 64;

int signal_fd = -1;

}  // namespace

EventLoop::EventLoop()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_(std::this_thread::get_id()) {
  CHECK(epoll_ >= 0 && wake_fd_ >= 0, "errno {}", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_fd_;
  CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd_, &event) == 0, "errno {}", errno);
}

EventLoop::~EventLoop() {
  ::close(wake_fd_);
  ::close(epoll_);
}

// -- posting ------------------------------------------------------------------------------------

void EventLoop::post(Fn fn) {
  if (std::this_thread::get_id() == thread_) {
    queue_.push_back(std::move(fn));
    return;
  }
  std::lock_guard lock(mutex_);
  foreign_.push_back(std::move(fn));
  has_foreign_ = true;
  wake();
}

// With the mutex held.
void EventLoop::wake() {
  if (!sleeping_) return;
  sleeping_ = false;
  uint64_t one = 1;
  CHECK(::write(wake_fd_, &one, sizeof one) == sizeof one, "errno {}", errno);
}

void EventLoop::post_after(Nanos delay, Fn fn) {
  timers_.emplace(now() + std::max<Nanos>(delay, 0), std::move(fn));
}

void EventLoop::take_foreign() {
  if (!has_foreign_) return;
  std::lock_guard lock(mutex_);
  for (Fn& fn : foreign_) queue_.push_back(std::move(fn));
  foreign_.clear();
  has_foreign_ = stopped_;
}

void EventLoop::run_timers() {
  if (timers_.empty()) return;
  Nanos t = now();
  while (!timers_.empty() && timers_.begin()->first <= t) {
    queue_.push_back(std::move(timers_.begin()->second));
    timers_.erase(timers_.begin());
  }
}

// -- descriptors --------------------------------------------------------------------------------

void EventLoop::watch(int fd, Fn ready) {
  auto watch = std::make_shared<Watch>();
  watch->ready = std::move(ready);
  bool fresh = watches_.emplace(fd, std::move(watch)).second;
  CHECK(fresh, "descriptor {} is watched already", fd);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0, "errno {}", errno);
}

void EventLoop::unwatch(int fd) {
  auto it = watches_.find(fd);
  if (it == watches_.end()) return;
  it->second->gone = true;
  watches_.erase(it);
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
}

void EventLoop::update(int fd, const Watch& watch) {
  epoll_event event{};
  event.events = (watch.paused ? 0u : EPOLLIN) | (watch.writable ? EPOLLOUT : 0u);
  event.data.fd = fd;
  CHECK(::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) == 0, "errno {}", errno);
}

void EventLoop::watch_writable(int fd, Fn writable) {
  auto it = watches_.find(fd);
  CHECK(it != watches_.end(), "descriptor {} is not watched", fd);
  it->second->writable = std::move(writable);
  update(fd, *it->second);
}

void EventLoop::pause(int fd, bool paused) {
  auto it = watches_.find(fd);
  CHECK(it != watches_.end(), "descriptor {} is not watched", fd);
  if (std::exchange(it->second->paused, paused) != paused) update(fd, *it->second);
}

void EventLoop::watch_signals(std::vector<int> signals, Fn fn) {
  CHECK(signal_fd < 0, "signals are watched already");
  signal_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  CHECK(signal_fd >= 0, "errno {}", errno);
  watch(signal_fd, [fn = std::move(fn)]() mutable {
    uint64_t count;
    if (::read(signal_fd, &count, sizeof count) == sizeof count) fn();
  });
  struct sigaction action{};
  action.sa_handler = [](int) {
    int saved = errno;
    uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(signal_fd, &one, sizeof one);
    errno = saved;
  };
  action.sa_flags = SA_RESTART;
  for (int signal : signals) ::sigaction(signal, &action, nullptr);
}

// Waits only where there is nothing to do.
void EventLoop::wait_for_events() {
  int timeout = 0;
  if (queue_.empty()) {
    std::lock_guard lock(mutex_);
    if (foreign_.empty() && !stopped_) {
      sleeping_ = true;
      timeout = -1;
      if (!timers_.empty()) {
        Nanos left = timers_.begin()->first - now();
        timeout = left <= 0 ? 0 : static_cast<int>((left + kMillisecond - 1) / kMillisecond);
      }
    }
  }
  epoll_event events[kEventsAtOnce];
  int n = ::epoll_wait(epoll_, events, kEventsAtOnce, timeout);
  if (timeout != 0) {
    std::lock_guard lock(mutex_);
    sleeping_ = false;
  }
  for (int i = 0; i < n; ++i) {
    if (events[i].data.fd == wake_fd_) {
      uint64_t count;
      [[maybe_unused]] ssize_t r = ::read(wake_fd_, &count, sizeof count);
      continue;
    }
    auto it = watches_.find(events[i].data.fd);
    if (it == watches_.end()) continue;
    std::shared_ptr<Watch> watch = it->second;
    uint32_t what = events[i].events;
    if (what & EPOLLOUT && watch->writable) {
      // It may replace itself.
      Fn writable = std::move(watch->writable);
      watch->writable = nullptr;
      writable();
      if (!watch->gone && !watch->writable) update(events[i].data.fd, *watch);
    }
    if (what & ~uint32_t{EPOLLOUT} && !watch->gone) watch->ready();
  }
}

// -- running ------------------------------------------------------------------------------------

void EventLoop::turn() {
  take_foreign();
  run_timers();
  if (++turns_without_look_ >= kTurnsWithoutLook || (queue_.empty() && !found_work())) {
    turns_without_look_ = 0;
    wait_for_events();
    take_foreign();
    run_timers();
  }
  // What these post runs in the next turn.
  for (size_t n = queue_.size(); n > 0; --n) {
    Fn fn = std::move(queue_.front());
    queue_.pop_front();
    fn();
  }
}

void EventLoop::run_one() {
  thread_ = std::this_thread::get_id();
  turn();
}

void EventLoop::run() {
  thread_ = std::this_thread::get_id();
  for (;;) {
    if (has_foreign_) {
      std::lock_guard lock(mutex_);
      if (std::exchange(stopped_, false)) return;
    }
    turn();
  }
}

void EventLoop::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  has_foreign_ = true;
  wake();
}

void EventLoop::restart() {
  std::lock_guard lock(mutex_);
  stopped_ = false;
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

uint64_t SystemRandom::next() {
  uint64_t v = 0;
  CHECK(getrandom(&v, sizeof v, 0) == sizeof v);
  return v;
}

}  // namespace graftfs
