#pragma once
// Task<T>: a lazy coroutine, started by co_await or by TaskScope::spawn.
//
// One thread only. Results travel by symmetric transfer, so a chain of any length uses no
// stack. GCC 12: pass named locals, not temporaries, to a co_await-ed call.

#include <coroutine>
#include <exception>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/executor.h"

namespace graftfs {

template <class T = void>
class Task;

namespace internal {

struct FinalTransfer {
  bool await_ready() noexcept { return false; }
  template <class Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> h) noexcept {
    auto next = h.promise().continuation;
    return next ? next : std::noop_coroutine();
  }
  void await_resume() noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation;
  std::exception_ptr exception;
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalTransfer final_suspend() noexcept { return {}; }
  void unhandled_exception() { exception = std::current_exception(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& u) {
    value.emplace(std::forward<U>(u));
  }
  T take() {
    if (exception) std::rethrow_exception(exception);
    return std::move(*value);
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() {}
  void take() {
    if (exception) std::rethrow_exception(exception);
  }
};

}  // namespace internal

// Owns the coroutine: destroying a Task that is suspended destroys what it awaits, too.
template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle h) : h_(h) {}
  Task(Task&& o) noexcept : h_(std::exchange(o.h_, {})) {}
  Task& operator=(Task&& o) noexcept {
    if (this != &o) {
      if (h_) h_.destroy();
      h_ = std::exchange(o.h_, {});
    }
    return *this;
  }
  ~Task() {
    if (h_) h_.destroy();
  }

  auto operator co_await() noexcept {
    struct Awaiter {
      Handle h;
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
        h.promise().continuation = caller;
        return h;
      }
      T await_resume() { return h.promise().take(); }
    };
    return Awaiter{h_};
  }

 private:
  Handle h_;
};

namespace internal {
template <class T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}
}  // namespace internal

// Runs tasks that nobody awaits, and owns them: destroying the scope destroys every frame that
// is still suspended (a crash in the simulator; the end of a rank in a real process, after its
// executor stopped). A task that throws lets the exception out of the call that resumed it.
class TaskScope {
 public:
  TaskScope() = default;
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;
  ~TaskScope() { cancel_all(); }

  // Starts `task` at once, up to its first suspension.
  void spawn(Task<void> task) {
    Root root = run(std::move(task), *this);
    root.h.promise().at = roots_.insert(roots_.end(), root.h);
    root.h.resume();
  }
  void cancel_all() {
    while (!roots_.empty()) {
      auto h = roots_.back();
      roots_.pop_back();
      h.destroy();
    }
  }
  bool empty() const { return roots_.empty(); }

 private:
  struct Root {
    struct promise_type {
      promise_type(Task<void>&, TaskScope& s) : scope(s) {}
      TaskScope& scope;
      std::list<std::coroutine_handle<>>::iterator at;
      Root get_return_object() {
        return {std::coroutine_handle<promise_type>::from_promise(*this)};
      }
      std::suspend_always initial_suspend() noexcept { return {}; }
      auto final_suspend() noexcept {
        struct Leave {
          bool await_ready() noexcept { return false; }
          void await_suspend(std::coroutine_handle<promise_type> h) noexcept {
            auto& p = h.promise();
            p.scope.roots_.erase(p.at);
            h.destroy();
          }
          void await_resume() noexcept {}
        };
        return Leave{};
      }
      void return_void() {}
      void unhandled_exception() {
        // The frame stays in the scope, which destroys it.
        throw;
      }
    };
    std::coroutine_handle<promise_type> h;
  };
  static Root run(Task<void> task, TaskScope&) { co_await task; }

  std::list<std::coroutine_handle<>> roots_;
};

// A value that arrives once. Copies share it; the consumer awaits, the producer sets. The
// consumer resumes through the executor, never inside set().
template <class T>
class Promised {
 public:
  explicit Promised(Executor& executor) : s_(std::make_shared<State>(executor)) {}

  // From the executor's thread. (Other threads post a function that calls it.)
  void set(T value) const {
    CHECK(!s_->value, "a promise is set once");
    s_->value.emplace(std::move(value));
    if (s_->waiter) wake(s_);
  }
  bool is_set() const { return s_->value.has_value(); }

  auto operator co_await() const noexcept {
    struct Awaiter {
      std::shared_ptr<State> s;
      bool await_ready() noexcept { return s->value.has_value(); }
      void await_suspend(std::coroutine_handle<> h) noexcept { s->waiter = h; }
      T await_resume() { return std::move(*s->value); }
      ~Awaiter() { s->waiter = {}; }
    };
    return Awaiter{s_};
  }

 private:
  struct State {
    explicit State(Executor& e) : executor(e) {}
    Executor& executor;
    std::optional<T> value;
    std::coroutine_handle<> waiter;  // cleared when the consumer is destroyed
  };
  static void wake(const std::shared_ptr<State>& s) {
    s->executor.post([s] {
      if (auto h = std::exchange(s->waiter, {})) h.resume();
    });
  }
  std::shared_ptr<State> s_;
};

// Tells those who wait that something has changed; each looks for itself whether it is what it
// waits for:  while (!ready) co_await bell.next();
class Bell {
 public:
  explicit Bell(Executor& executor) : executor_(executor) {}
  Task<void> next() {
    Promised<bool> rung(executor_);
    waiting_.push_back(rung);
    co_await rung;
  }
  void ring() {
    if (waiting_.empty()) [[likely]]
      return;
    for (const Promised<bool>& rung : std::exchange(waiting_, {})) rung.set(true);
  }

 private:
  Executor& executor_;
  std::vector<Promised<bool>> waiting_;
};

// Suspends for a while.
inline Task<void> sleep_for(Executor& executor, Nanos delay) {
  Promised<bool> done(executor);
  executor.post_after(delay, [done] { done.set(true); });
  co_await done;
}

}  // namespace graftfs
