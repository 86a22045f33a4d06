#pragma once
// A connection to the cluster, and calls on objects that complete on an executor.

#include <rados/librados.hpp>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "base/task.h"
#include "store/rados/name.h"

namespace graftfs::rados {

using librados::bufferlist;
using ReadOp = librados::ObjectReadOperation;
using WriteOp = librados::ObjectWriteOperation;

inline bufferlist to_buffer(std::string_view bytes) {
  bufferlist out;
  out.append(bytes.data(), static_cast<unsigned>(bytes.size()));
  return out;
}
inline std::string to_text(const bufferlist& buffer) { return buffer.to_str(); }

// What a read brought: librados's code (negative errno, or 0 and more), and where it was put.
template <class Out>
struct Answer {
  int code = 0;
  std::shared_ptr<Out> out;
};

// One RADOS client: made by one thread, connect() blocks. The calls are made from the executor's
// thread and complete there, also where nobody waits any more. After close() nothing completes:
// the executor may go. Operations under way then are carried out or not; close() gives them a
// moment, and where the cluster does not answer they are left to the process's end.
class Session : public std::enable_shared_from_this<Session> {
 public:
  // An error is a sentence that says whether it is ceph.conf, the monitors, the key or the pool.
  static Result<std::shared_ptr<Session>> connect(const VolumeName& name);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // From here on calls complete on `executor`.
  void bind(Executor& executor) { executor_ = &executor; }
  // To be destroyed after it; false: operations are still under way, and it must live on.
  bool close();

  Promised<int> write(const std::string& object, WriteOp op);
  // `op` puts what it reads into `*out`.
  template <class Out>
  Promised<Answer<Out>> read(const std::string& object, ReadOp op, std::shared_ptr<Out> out) {
    Promised<Answer<Out>> done(*executor_);
    start_read(
        object, std::move(op), [done, out](int code) mutable { done.set(Answer<Out>{code, out}); },
        out);
    return done;
  }
  Promised<int> watch(const std::string& object, std::shared_ptr<uint64_t> handle,
                      librados::WatchCtx2* context, uint32_t timeout_s);
  // Once for each handle, which is 0 then, as it is where watch() failed: that does nothing.
  Promised<int> unwatch(uint64_t& handle);
  // For the end, from any thread: waits for completion, but not for long. ETIMEDOUT.
  int write_now(const std::string& object, WriteOp op);
  int unwatch_now(uint64_t& handle);

  // Lives until librados makes no call any more.
  void keep(std::shared_ptr<void> what) { kept_.push_back(std::move(what)); }

  // The calls below block.
  librados::IoCtx& io() { return io_; }
  librados::Rados& cluster() { return cluster_; }

  // Everything but what is already on its way fails from now on.
  void shut_down() { shut_down_ = true; }
  Result<void> alive() const {
    if (!shut_down_.load(std::memory_order_relaxed)) [[likely]]
      return {};
    return fail(EIO, name_.shown() + " was shut down; mount it again to go on");
  }
  // "cannot VERB OBJECT: ...", with what to do about it; `code` as librados gives it.
  std::unexpected<Error> failed(int code, std::string_view verb, std::string_view object);
  // Whether the cluster has told this client that it is shut out.
  bool fenced() const { return fenced_; }
  const VolumeName& name() const { return name_; }
  // Of this client, as the cluster knows it.
  uint64_t client_id() { return cluster_.get_instance_id(); }
  std::string address() { return cluster_.get_addrs(); }

 private:
  struct Call;
  explicit Session(VolumeName name) : name_(std::move(name)) {}
  librados::AioCompletion* begin(std::move_only_function<void(int)> finish,
                                 std::shared_ptr<void> keep, bool on_executor);
  void start_read(const std::string& object, ReadOp op, std::move_only_function<void(int)> finish,
                  std::shared_ptr<void> keep);
  static void complete(librados::completion_t, void* call);

  VolumeName name_;
  std::vector<std::shared_ptr<void>> kept_;
  librados::Rados cluster_;
  librados::IoCtx io_;
  bool connected_ = false;
  Executor* executor_ = nullptr;
  std::atomic<bool> shut_down_{false}, fenced_{false};
  std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  size_t in_flight_ = 0;
  bool closed_ = false;
};

}  // namespace graftfs::rados
