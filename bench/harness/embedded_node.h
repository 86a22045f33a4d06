#pragma once
// Several ranks inside this process, each in a thread of its own.

#include <filesystem>
#include <memory>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "base/wait.h"
#include "harness/benchmark.h"
#include "node/node.h"
#include "store/local/local_store.h"

namespace graftfs::bench {

// A volume of its own in `path`, and a node that runs it. Owned and used by one thread, whose loop
// has to turn for the node to stay alive. Errors end the benchmark.
class EmbeddedNode {
 public:
  EmbeddedNode(const std::filesystem::path& path, size_t ranks, RankOptions options);
  ~EmbeddedNode();

  node::Node& node() { return *node_; }
  EventLoop& loop() { return loop_; }
  // Runs `fn(rank)` in the rank's thread, and waits for what it answers with `done`.
  template <class T>
  T in_rank(RankId rank, std::function<void(Rank&, std::move_only_function<void(T)>)> fn) {
    Promised<T> answer(loop_);
    node_->host(rank)->with_rank([&](Rank& r) {
      fn(r, [this, answer](T value) {
        auto held = std::make_shared<T>(std::move(value));
        loop_.post([answer, held] { answer.set(std::move(*held)); });
      });
    });
    return wait_for(loop_, take<T>(answer));
  }
  // One request of nobody's session, at that rank.
  Reply call(RankId rank, Args args);
  // The subtree moves from one rank to another.
  void move(RankId from, Ino root, RankId to);
  void stop();

 private:
  template <class T>
  static Task<T> take(Promised<T> answer) {
    co_return co_await answer;
  }

  Task<bool> pause();

  EventLoop loop_;
  BlockingPool pool_{"io", 2};
  std::shared_ptr<LocalVolume> volume_;
  std::unique_ptr<node::Node> node_;
};

}  // namespace graftfs::bench
