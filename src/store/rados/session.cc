#include "store/rados/session.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <future>
#include <utility>

#include "base/fault.h"

namespace graftfs::rados {
namespace {

constexpr auto kEndPatience = std::chrono::seconds(3);

// What librados is told, over ceph.conf.
constexpr std::pair<const char*, const char*> kOptions[] = {
    // A call must not block the executor's thread: the store bounds what is under way.
    {"objecter_inflight_ops", "65536"},
    {"objecter_inflight_op_bytes", "4294967296"},
    {"admin_socket", ""},
    {"log_to_stderr", "false"},
    {"err_to_stderr", "false"},
};
// And what, if ceph.conf says nothing of it: seconds for the monitors to be found, and to answer.
struct Default {
  const char *option, *librados, *ours;
};
constexpr Default kDefaults[] = {{"client_mount_timeout", "300", "30"},
                                 {"rados_mon_op_timeout", "0", "30"}};

}  // namespace

struct Session::Call {
  Session* session;
  std::move_only_function<void(int)> finish;
  std::shared_ptr<void> keep;
  bool on_executor;
  librados::AioCompletion* completion;
};

Result<std::shared_ptr<Session>> Session::connect(const VolumeName& name) {
  std::shared_ptr<Session> session(new Session(name));
  librados::Rados& cluster = session->cluster_;
  int code = cluster.init(name.id.empty() ? nullptr : name.id.c_str());
  if (code < 0)
    return fail(-code, fmt::format("librados cannot be used: {}", std::strerror(-code)));
  code = cluster.conf_read_file(name.conf.empty() ? nullptr : name.conf.c_str());
  const std::string conf = name.conf.empty() ? "ceph.conf" : name.conf;
  if (code < 0)
    return fail(-code, fmt::format("cannot read {}: {}; name the cluster's ceph.conf with --conf",
                                   conf, std::strerror(-code)));
  cluster.conf_parse_env(nullptr);
  for (auto [option, value] : kOptions) {
    code = cluster.conf_set(option, value);
    if (code < 0) return fail(-code, fmt::format("librados does not take {} = {}", option, value));
  }
  for (auto [option, theirs, ours] : kDefaults) {
    std::string value;
    if (cluster.conf_get(option, value) == 0 && value == theirs) cluster.conf_set(option, ours);
  }
  code = cluster.connect();
  const std::string who = "client." + (name.id.empty() ? std::string("admin") : name.id);
  if (code == -ETIMEDOUT)
    return fail(ETIMEDOUT,
                fmt::format("no monitor of {} answers; see that the cluster runs and that "
                            "its 'mon host' can be reached from here",
                            conf));
  if (code == -EACCES || code == -EPERM || code == -ENOENT || code == -EINVAL)
    return fail(EACCES,
                fmt::format("the monitors of {} do not accept {} ({}); see that its keyring is "
                            "there and may be read, or name another one with --id",
                            conf, who, std::strerror(-code)));
  if (code < 0)
    return fail(-code,
                fmt::format("cannot connect to the cluster of {}: {}", conf, std::strerror(-code)));
  session->connected_ = true;
  code = cluster.ioctx_create(name.pool.c_str(), session->io_);
  if (code == -ENOENT)
    return fail(ENOENT,
                fmt::format("there is no pool '{0}' in the cluster of {1}; make it with 'ceph "
                            "osd pool create {0}'",
                            name.pool, conf));
  if (code < 0)
    return fail(-code,
                fmt::format("cannot open the pool '{}': {}", name.pool, std::strerror(-code)));
  session->io_.set_namespace(name.space);
  // A full pool is an answer, not a reason to wait.
  session->io_.set_pool_full_try();
  return session;
}

Session::~Session() {
  // Only without operations: each holds the session.
  if (connected_) {
    io_.close();
    cluster_.shutdown();
  }
}

bool Session::close() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  bool idle = idle_.wait_for(lock, kEndPatience, [this] { return in_flight_ == 0; });
  if (!idle) MARK("store.rados.left_behind");
  return idle;
}

std::unexpected<Error> Session::failed(int code, std::string_view verb, std::string_view object) {
  code = code < 0 ? -code : code;
  std::string what = fmt::format("cannot {} {}/{}: ", verb, name_.shown(), object);
  switch (code) {
    case ESHUTDOWN:
      fenced_ = true;
      return fail(ESTALE, what +
                              "this process was shut out of the cluster, since another one has "
                              "taken its rank");
    case ECANCELED:
      return fail(ESTALE, what + "another owner has written there since");
    case ENOSPC:
    case EDQUOT:
      return fail(ENOSPC, what + "the pool is full; remove something, or add OSDs");
    case EACCES:
    case EPERM:
      return fail(
          EACCES,
          what + fmt::format("the key may not; its caps need osd 'allow rwx pool={}'", name_.pool));
    case ENOENT:
      return fail(EIO,
                  what + fmt::format("it is not there; see that the pool '{}' exists", name_.pool));
    case ETIMEDOUT:
      return fail(EIO, what + "the cluster does not answer; see 'ceph -s'");
    default:
      return fail(code == 0 ? EIO : code, what + std::strerror(code));
  }
}

// -- calls --------------------------------------------------------------------------------------

librados::AioCompletion* Session::begin(std::move_only_function<void(int)> finish,
                                        std::shared_ptr<void> keep, bool on_executor) {
  auto* call = new Call{this, std::move(finish), std::move(keep), on_executor, nullptr};
  call->completion = librados::Rados::aio_create_completion(call, &Session::complete);
  std::lock_guard lock(mutex_);
  ++in_flight_;
  return call->completion;
}

// In a thread of librados. Behind the lock the session may be gone.
void Session::complete(librados::completion_t, void* arg) {
  std::unique_ptr<Call> call(static_cast<Call*>(arg));
  int code = call->completion->get_return_value();
  call->completion->release();
  Session& session = *call->session;
  std::lock_guard lock(session.mutex_);
  if (!call->on_executor) {
    call->finish(code);
  } else if (!session.closed_) {
    session.executor_->post([finish = std::move(call->finish), keep = std::move(call->keep),
                             code]() mutable { finish(code); });
  }
  call.reset();
  --session.in_flight_;
  session.idle_.notify_all();
}

namespace {
// librados reports through the completion whatever is not a malformed call.
void start(int code) { CHECK(code == 0, "librados does not take an operation: {}", code); }
}  // namespace

Promised<int> Session::write(const std::string& object, WriteOp op) {
  Promised<int> done(*executor_);
  auto* completion = begin([done](int code) { done.set(code); }, nullptr, true);
  start(io_.aio_operate(object, completion, &op));
  return done;
}

void Session::start_read(const std::string& object, ReadOp op,
                         std::move_only_function<void(int)> finish, std::shared_ptr<void> keep) {
  auto* completion = begin(std::move(finish), std::move(keep), true);
  start(io_.aio_operate(object, completion, &op, nullptr));
}

Promised<int> Session::watch(const std::string& object, std::shared_ptr<uint64_t> handle,
                             librados::WatchCtx2* context, uint32_t timeout_s) {
  Promised<int> done(*executor_);
  // A handle is an address in librados, of what a failure has freed.
  auto* completion = begin(
      [done, handle](int code) {
        if (code < 0) *handle = 0;
        done.set(code);
      },
      handle, true);
  start(io_.aio_watch2(object, completion, handle.get(), context, timeout_s));
  return done;
}

Promised<int> Session::unwatch(uint64_t& given) {
  Promised<int> done(*executor_);
  const uint64_t handle = std::exchange(given, 0);
  if (handle == 0) {
    done.set(0);
    return done;
  }
  auto* completion = begin([done](int code) { done.set(code); }, nullptr, true);
  start(io_.aio_unwatch(handle, completion));
  return done;
}

namespace {
int wait_for_code(std::future<int> code) {
  return code.wait_for(kEndPatience) == std::future_status::ready ? code.get() : -ETIMEDOUT;
}
}  // namespace

int Session::write_now(const std::string& object, WriteOp op) {
  std::promise<int> done;
  std::future<int> code = done.get_future();
  auto* completion =
      begin([done = std::move(done)](int c) mutable { done.set_value(c); }, nullptr, false);
  start(io_.aio_operate(object, completion, &op));
  return wait_for_code(std::move(code));
}

int Session::unwatch_now(uint64_t& given) {
  const uint64_t handle = std::exchange(given, 0);
  if (handle == 0) return 0;
  std::promise<int> done;
  std::future<int> code = done.get_future();
  auto* completion =
      begin([done = std::move(done)](int c) mutable { done.set_value(c); }, nullptr, false);
  start(io_.aio_unwatch(handle, completion));
  return wait_for_code(std::move(code));
}

}  // namespace graftfs::rados
