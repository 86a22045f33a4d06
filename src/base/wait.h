#pragma once
// Waiting for a task from outside of any: for main programs, tools and tests.

#include <optional>
#include <utility>

#include "base/task.h"

namespace graftfs {

namespace internal {
template <class T>
Task<void> keep_result(Task<T> task, std::optional<T>& out) {
  T value = co_await std::move(task);
  out.emplace(std::move(value));
}
}  // namespace internal

// Starts the task, calls `step` (which runs something that is due) until it has ended, and returns
// what it returned. The task is destroyed where `step` throws.
template <class T, class Step>
T wait_for(Task<T> task, Step&& step) {
  std::optional<T> out;
  TaskScope scope;
  scope.spawn(internal::keep_result(std::move(task), out));
  while (!out) step();
  return std::move(*out);
}

// The same with an executor that has run_one(), such as the EventLoop, from the thread that runs
// it.
template <class T, class Loop>
  requires requires(Loop& loop) { loop.run_one(); }
T wait_for(Loop& loop, Task<T> task) {
  return wait_for(std::move(task), [&loop] { loop.run_one(); });
}

}  // namespace graftfs
