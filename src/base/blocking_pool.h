#pragma once
// Helper threads for calls that may block (disk I/O); results come back through the executor.

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/task.h"

namespace graftfs {

// Shared by the stores of one process. Destroying it waits for what is running and for what is
// queued. Jobs start in the order they were given; with one thread they also finish in it.
class BlockingPool {
 public:
  BlockingPool(std::string name, int threads);
  ~BlockingPool();

  // Runs `job` on a helper thread. `poster`: the executor that it posts to.
  void submit(Fn job, const Executor* poster = nullptr);
  // Waits until nothing is queued or running any more that posts to this executor, which may then
  // be destroyed while the pool goes on.
  void drain(const Executor& poster);

  // Runs `fn` on a helper thread and resumes the caller on `executor` with what it returned.
  // `fn` must not throw; what it captures by reference must outlive it, also when the awaiting
  // coroutine is destroyed first (capture by value or shared_ptr).
  template <class F, class T = std::invoke_result_t<F&>>
  Task<T> run(Executor& executor, F fn) {
    Promised<T> done(executor);
    submit(
        [&executor, done, fn = std::move(fn)]() mutable {
          auto value = std::make_shared<T>(fn());
          executor.post([done, value] { done.set(std::move(*value)); });
        },
        &executor);
    co_return co_await done;
  }

 private:
  struct Job {
    Fn run;
    const Executor* poster;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable wake_, drained_;
  std::deque<Job> queue_;
  std::map<const Executor*, size_t> posters_;  // jobs of each, queued or running
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace graftfs
