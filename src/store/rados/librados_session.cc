#include "store/rados/librados_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <list>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/fault.h"
#include "store/local/local_common.h"

namespace graftfs::rados {
namespace {

constexpr auto kEndPatience = std::chrono::seconds(3);
// Of an address that is shut out: longer than any operation is on its way.
constexpr uint32_t kShutOutSeconds = 24 * 3600;

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

uint8_t compare_code(Compare how) {
  switch (how) {
    case Compare::equal:
      return LIBRADOS_CMPXATTR_OP_EQ;
    case Compare::less:
      return LIBRADOS_CMPXATTR_OP_LT;
    case Compare::greater:
      return LIBRADOS_CMPXATTR_OP_GT;
    case Compare::greater_or_equal:
      return LIBRADOS_CMPXATTR_OP_GTE;
  }
  return LIBRADOS_CMPXATTR_OP_EQ;
}

// Puts the steps of an operation into librados's.
struct AddWrite {
  librados::ObjectWriteOperation& op;
  void operator()(step::Create& s) { op.create(s.exclusive); }
  void operator()(step::AssertExists&) { op.assert_exists(); }
  void operator()(step::CompareAttribute& s) {
    op.cmpxattr(s.name.c_str(), compare_code(s.how), s.value);
  }
  void operator()(step::SetAttribute& s) { op.setxattr(s.name.c_str(), s.value); }
  void operator()(step::CompareKeys& s) {
    std::map<std::string, std::pair<bufferlist, int>> keys;
    for (auto& [key, guard] : s.keys)
      keys[key] = {std::move(guard.first), compare_code(guard.second)};
    op.omap_cmp(keys, nullptr);
  }
  void operator()(step::SetHeader& s) { op.omap_set_header(s.header); }
  void operator()(step::SetKeys& s) { op.omap_set(s.keys); }
  void operator()(step::RemoveKeys& s) { op.omap_rm_keys(s.keys); }
  void operator()(step::Write& s) { op.write(s.offset, s.bytes); }
  void operator()(step::WriteSame& s) { op.writesame(s.offset, s.length, s.bytes); }
  void operator()(step::Truncate& s) { op.truncate(s.size); }
  void operator()(step::Zero& s) { op.zero(s.offset, s.length); }
  void operator()(step::Remove&) { op.remove(); }
  void operator()(step::AllocationHint& s) {
    op.set_alloc_hint2(s.bytes, 4096,
                       LIBRADOS_ALLOC_HINT_FLAG_APPEND_ONLY | LIBRADOS_ALLOC_HINT_FLAG_SHORTLIVED);
  }
};
librados::ObjectWriteOperation translated(WriteOp& from) {
  librados::ObjectWriteOperation op;
  for (step::OfWrite& s : from.steps()) std::visit(AddWrite{op}, s);
  return op;
}

using Watchers = std::list<obj_watch_t>;

struct AddRead {
  librados::ObjectReadOperation& op;
  Watchers& watchers;
  void operator()(step::GetHeader& s) { op.omap_get_header(s.header, nullptr); }
  void operator()(step::GetKeys& s) { op.omap_get_vals_by_keys(s.keys, s.found, nullptr); }
  void operator()(step::ListKeys& s) {
    op.omap_get_vals2(s.after, s.prefix, s.most, s.found, s.more, nullptr);
  }
  void operator()(step::Read& s) { op.read(s.offset, s.length, s.bytes, nullptr); }
  void operator()(step::GetSize& s) { op.stat(s.size, nullptr, nullptr); }
  void operator()(step::ListWatchers&) { op.list_watchers(&watchers, nullptr); }
};

// Of librados, for one of ours.
class WatchContext final : public librados::WatchCtx2 {
 public:
  explicit WatchContext(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {}
  void handle_notify(uint64_t, uint64_t, uint64_t, bufferlist&) override {}
  void handle_error(uint64_t, int code) override { Watch::lost(watch_, code); }

 private:
  std::shared_ptr<Watch> watch_;
};

}  // namespace

struct LibradosSession::Call {
  LibradosSession* session;
  std::move_only_function<void(int)> finish;
  std::shared_ptr<void> keep;
  bool on_executor;
  librados::AioCompletion* completion;
};

Result<std::shared_ptr<LibradosSession>> LibradosSession::connect(const VolumeName& name) {
  std::shared_ptr<LibradosSession> session(new LibradosSession(name));
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

LibradosSession::~LibradosSession() {
  // Only without operations: each holds the session.
  if (connected_) {
    io_.close();
    cluster_.shutdown();
  }
}

bool LibradosSession::close() {
  if (pool_) pool_->drain(*executor_);
  std::unique_lock lock(mutex_);
  closed_ = true;
  bool idle = idle_.wait_for(lock, kEndPatience, [this] { return in_flight_ == 0; });
  if (!idle) MARK("store.rados.left_behind");
  return idle;
}

// -- calls --------------------------------------------------------------------------------------

librados::AioCompletion* LibradosSession::begin(std::move_only_function<void(int)> finish,
                                                std::shared_ptr<void> keep, bool on_executor) {
  auto* call = new Call{this, std::move(finish), std::move(keep), on_executor, nullptr};
  call->completion = librados::Rados::aio_create_completion(call, &LibradosSession::complete);
  std::lock_guard lock(mutex_);
  ++in_flight_;
  return call->completion;
}

// In a thread of librados. Behind the lock the session may be gone.
void LibradosSession::complete(librados::completion_t, void* arg) {
  std::unique_ptr<Call> call(static_cast<Call*>(arg));
  int code = call->completion->get_return_value();
  call->completion->release();
  LibradosSession& session = *call->session;
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

Promised<int> LibradosSession::write(const std::string& object, WriteOp op) {
  Promised<int> done(*executor_);
  auto* completion = begin([done](int code) { done.set(code); }, nullptr, true);
  auto theirs = translated(op);
  start(io_.aio_operate(object, completion, &theirs));
  return done;
}

void LibradosSession::start_read(const std::string& object, ReadOp op,
                                 std::move_only_function<void(int)> finish,
                                 std::shared_ptr<void> keep) {
  auto watchers = std::make_shared<Watchers>();
  librados::ObjectReadOperation theirs;
  std::vector<uint64_t>* clients = nullptr;
  for (step::OfRead& s : op.steps()) {
    std::visit(AddRead{theirs, *watchers}, s);
    if (auto* list = std::get_if<step::ListWatchers>(&s)) clients = list->clients;
  }
  auto* completion = begin(
      [finish = std::move(finish), watchers, clients](int code) mutable {
        for (const obj_watch_t& watcher : *watchers)
          clients->push_back(static_cast<uint64_t>(watcher.watcher_id));
        finish(code);
      },
      std::move(keep), true);
  start(io_.aio_operate(object, completion, &theirs, nullptr));
}

Promised<int> LibradosSession::watch(const std::string& object, std::shared_ptr<Watch> watch,
                                     uint32_t timeout_s) {
  Promised<int> done(*executor_);
  auto context = std::make_shared<WatchContext>(watch);
  watches_.push_back(context);
  auto handle = std::make_shared<uint64_t>(0);
  // A handle is an address in librados, of what a failure has freed.
  auto* completion = begin(
      [done, watch, handle](int code) {
        watch->handle = code < 0 ? 0 : *handle;
        done.set(code);
      },
      nullptr, true);
  start(io_.aio_watch2(object, completion, handle.get(), context.get(), timeout_s));
  return done;
}

Promised<int> LibradosSession::unwatch(Watch& watch) {
  Promised<int> done(*executor_);
  const uint64_t handle = std::exchange(watch.handle, 0);
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

int LibradosSession::write_now(const std::string& object, WriteOp op) {
  std::promise<int> done;
  std::future<int> code = done.get_future();
  auto* completion =
      begin([done = std::move(done)](int c) mutable { done.set_value(c); }, nullptr, false);
  auto theirs = translated(op);
  start(io_.aio_operate(object, completion, &theirs));
  return wait_for_code(std::move(code));
}

int LibradosSession::unwatch_now(Watch& watch) {
  const uint64_t handle = std::exchange(watch.handle, 0);
  if (handle == 0) return 0;
  std::promise<int> done;
  std::future<int> code = done.get_future();
  auto* completion =
      begin([done = std::move(done)](int c) mutable { done.set_value(c); }, nullptr, false);
  start(io_.aio_unwatch(handle, completion));
  return wait_for_code(std::move(code));
}

// -- what librados has only as blocking calls ---------------------------------------------------

Promised<Mapped> LibradosSession::mapext(const std::string& object, uint64_t length) {
  return local::start_job(*pool_, *executor_, [session = shared(), object, length] {
    Mapped mapped;
    mapped.code = session->io_.mapext(object, 0, length, mapped.extents);
    return mapped;
  });
}

Result<std::vector<Ino>> LibradosSession::list_inos_now(Ino (*ino_of)(std::string_view object)) {
  std::vector<Ino> inos;
  try {
    for (auto it = io_.nobjects_begin(); it != io_.nobjects_end(); ++it) {
      TRY(alive());
      if (Ino ino = ino_of(it->get_oid())) inos.push_back(ino);
    }
  } catch (const std::system_error& e) {
    return failed(e.code().value(), "list", "*");
  } catch (const std::exception& e) {
    return fail(EIO, fmt::format("cannot list {}: {}", name().shown(), e.what()));
  }
  std::sort(inos.begin(), inos.end());
  inos.erase(std::unique(inos.begin(), inos.end()), inos.end());
  return inos;
}

Promised<Result<std::vector<Ino>>> LibradosSession::list_inos(
    Ino (*ino_of)(std::string_view object)) {
  return local::start_job(*pool_, *executor_,
                          [session = shared(), ino_of] { return session->list_inos_now(ino_of); });
}

Result<StoreUsage> LibradosSession::usage_now() {
  bufferlist nothing, answer;
  std::string text;
  int code = cluster_.mon_command(R"({"prefix": "df", "format": "json"})", nothing, &answer, &text);
  if (code < 0) return failed(code, "ask for the space of", "");
  auto json = nlohmann::json::parse(to_text(answer), nullptr, false);
  StoreUsage u;
  for (const auto& pool : json.value("pools", nlohmann::json::array())) {
    if (pool.value("name", "") != name().pool) continue;
    const auto stats = pool.value("stats", nlohmann::json::object());
    uint64_t free = stats.value("max_avail", uint64_t{0}) / u.block_size;
    u.blocks_free = u.blocks_available = free;
    u.blocks = free + stats.value("stored", stats.value("bytes_used", uint64_t{0})) / u.block_size;
    u.files = stats.value("objects", uint64_t{0}) + free;
    u.files_free = free;
  }
  return u;
}

Promised<Result<StoreUsage>> LibradosSession::usage() {
  return local::start_job(*pool_, *executor_,
                          [session = shared()] { return session->usage_now(); });
}

Promised<int> LibradosSession::shut_out(std::string address) {
  return local::start_job(*pool_, *executor_, [session = shared(), address] {
    int code = session->cluster_.blocklist_add(address, kShutOutSeconds);
    return code < 0 ? code : session->cluster_.wait_for_latest_osdmap();
  });
}

OwnerRecord LibradosSession::me() {
  return this_process(cluster_.get_instance_id(), cluster_.get_addrs());
}
bool LibradosSession::has_ended_here(const OwnerRecord& owner) const {
  return rados::has_ended_here(owner);
}

}  // namespace graftfs::rados
