#pragma once
// A client of a cluster of objects, as the store uses it: librados (librados_session.h), or a model
// of a cluster (model_cluster.h). What is not here the store does not ask of a cluster.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "base/task.h"
#include "store/rados/name.h"
#include "store/rados/operation.h"
#include "store/rados/owner.h"
#include "store/store.h"

namespace graftfs::rados {

// What a read brought: the cluster's code (negative errno, or 0 and more), and where it was put.
template <class Out>
struct Answer {
  int code = 0;
  std::shared_ptr<Out> out;
};

// What is held of an object: offset -> length; or the code.
struct Mapped {
  int code = 0;
  std::map<uint64_t, uint64_t> extents;
};

// What a client is told of an object that it watches. Shared with the session, whose threads may
// call lost() at any time.
class Watch {
 public:
  Watch(Executor& executor, std::function<void(int)> broken)
      : executor_(executor), broken_(std::move(broken)) {}
  // The cluster has forgotten the watcher.
  static void lost(std::shared_ptr<Watch> watch, int code) {
    std::lock_guard lock(watch->mutex_);
    if (watch->over_) return;
    watch->executor_.post([watch, code] {
      if (!watch->over_) watch->broken_(code);
    });
  }
  // From the executor's thread: nothing is called from here on.
  void end() {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  uint64_t handle = 0;  // the session's; 0: it does not watch

 private:
  std::mutex mutex_;
  bool over_ = false;
  Executor& executor_;
  std::function<void(int)> broken_;
};

// One client of the cluster. The calls are made from the executor's thread and complete there, also
// where nobody waits any more. Operations on one object take effect in the order in which they were
// sent, those on several in any order; whichever answer comes first. After close() nothing
// completes, and the executor may go. Operations under way then are carried out or not, now or
// later.
class Session : public std::enable_shared_from_this<Session> {
 public:
  virtual ~Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Waits, but not for long. To be destroyed after it; false: operations are still under way, and
  // it must live on.
  virtual bool close() = 0;

  virtual Promised<int> write(const std::string& object, WriteOp op) = 0;
  // `op` puts what it reads into `*out`.
  template <class Out>
  Promised<Answer<Out>> read(const std::string& object, ReadOp op, std::shared_ptr<Out> out) {
    Promised<Answer<Out>> done(*executor_);
    start_read(
        object, std::move(op), [done, out](int code) mutable { done.set(Answer<Out>{code, out}); },
        out);
    return done;
  }
  virtual Promised<Mapped> mapext(const std::string& object, uint64_t length) = 0;
  // Every object of the namespace for which `ino_of` knows an ino, in ino order.
  virtual Promised<Result<std::vector<Ino>>> list_inos(Ino (*ino_of)(std::string_view object)) = 0;
  virtual Promised<Result<StoreUsage>> usage() = 0;

  virtual Promised<int> watch(const std::string& object, std::shared_ptr<Watch> watch,
                              uint32_t timeout_s) = 0;
  // Once for each handle, which is 0 then, as it is where watch() failed: that does nothing.
  virtual Promised<int> unwatch(Watch& watch) = 0;
  // For the end, from any thread: waits for completion, but not for long. ETIMEDOUT.
  virtual int write_now(const std::string& object, WriteOp op) = 0;
  virtual int unwatch_now(Watch& watch) = 0;

  // Completion: whatever serves us from here on refuses the client of that address.
  virtual Promised<int> shut_out(std::string address) = 0;
  // This process, with this client.
  virtual OwnerRecord me() = 0;
  // Whether it was a process of this machine that has ended.
  virtual bool has_ended_here(const OwnerRecord& owner) const = 0;

  // Everything but what is already on its way fails from now on.
  void shut_down() { shut_down_ = true; }
  Result<void> alive() const {
    if (!shut_down_.load(std::memory_order_relaxed)) [[likely]]
      return {};
    return fail(EIO, name_.shown() + " was shut down; mount it again to go on");
  }
  // "cannot VERB OBJECT: ...", with what to do about it; `code` as the cluster gives it.
  std::unexpected<Error> failed(int code, std::string_view verb, std::string_view object);
  const VolumeName& name() const { return name_; }

 protected:
  explicit Session(VolumeName name) : name_(std::move(name)) {}
  virtual void start_read(const std::string& object, ReadOp op,
                          std::move_only_function<void(int)> finish,
                          std::shared_ptr<void> keep) = 0;
  Executor* executor_ = nullptr;

 private:
  VolumeName name_;
  std::atomic<bool> shut_down_{false};
};

}  // namespace graftfs::rados
