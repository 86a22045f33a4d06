#pragma once
// Two loops, each in a thread of its own or both in one, that talk to each other.

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

#include "base/event_loop.h"
#include "net/keys.h"
#include "net/local/local.h"
#include "net/net.h"
#include "net/socket/socket.h"

namespace graftfs::net {

inline constexpr uint64_t kVolume = 77;

class LoopThread {
 public:
  LoopThread() {
    std::promise<EventLoop*> ready;
    auto loop = ready.get_future();
    thread_ = std::thread([&ready] {
      EventLoop own;
      own.post([&] { ready.set_value(&own); });
      own.run();
    });
    loop_ = loop.get();
  }
  ~LoopThread() {
    loop_->stop();
    thread_.join();
  }
  EventLoop& loop() { return *loop_; }
  // Runs `fn` there, and waits.
  template <class F>
  auto call(F fn) -> std::invoke_result_t<F> {
    std::promise<std::invoke_result_t<F>> done;
    loop_->post([&] {
      if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
        fn();
        done.set_value();
      } else {
        done.set_value(fn());
      }
    });
    return done.get_future().get();
  }
  template <class F>
  [[nodiscard]] bool wait_for(F condition) {
    for (int i = 0; i < 20'000; ++i) {
      if (call(condition)) return true;
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    return false;
  }

 private:
  std::thread thread_;
  EventLoop* loop_ = nullptr;
};

// One end, and what it has seen. On its loop's thread.
struct End final : ConnectionEvents {
  std::unique_ptr<Connection> connection;
  std::vector<Message> messages;
  std::vector<Error> ends;
  int writable_agains = 0;
  bool destroy_on_message = false;
  std::optional<size_t> pause_after;

  void take(std::unique_ptr<Connection> c) {
    connection = std::move(c);
    connection->set_events(this);
  }
  void received(Message m) override {
    messages.push_back(std::move(m));
    if (destroy_on_message) connection.reset();
    if (pause_after && messages.size() == *pause_after) connection->set_reading(false);
  }
  void disconnected(const Error& why) override { ends.push_back(why); }
  void writable_again() override { ++writable_agains; }
};

inline Message beat(uint64_t n) { return {RankId{}, RankId{1}, msg::Beat{n}}; }
inline uint64_t number_of(const Message& m) { return std::get<msg::Beat>(m.body).number; }
inline Message answer(uint64_t n, size_t bytes = 0) {
  msg::Answer a;
  a.number = n;
  a.reply.data.assign(bytes, 'd');
  return {RankId{1}, RankId{}, std::move(a)};
}

}  // namespace graftfs::net
