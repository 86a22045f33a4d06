#include "fuse/state.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/check.h"
#include "base/mounts.h"

extern char** environ;

namespace graftfs::fuse {

namespace {

constexpr int kRequestsPerTurn = 64;  // then the rank flushes, and others get their turn
constexpr size_t kForgetsPerTurn = 2048;
constexpr size_t kMaxWrite = 1 << 20;
constexpr size_t kBufferSize = kMaxWrite + FUSE_MIN_READ_BUFFER;  // a request's
constexpr size_t kSmallBuffer = 64 << 10;  // below, malloc() is quicker than a big buffer's pages
constexpr size_t kFreeBuffers = 8;

thread_local std::string* mount_log = nullptr;
void log_to_string(fuse_log_level, const char* format, va_list args) {
  char line[512];
  vsnprintf(line, sizeof line, format, args);
  if (mount_log) {
    mount_log->append(line);
  } else {
    fputs(line, stderr);
  }
}

ssize_t session_read(int fd, void* buf, size_t size, void* userdata) {
  return patched_read(fd, buf, size, static_cast<State*>(userdata)->init_patch());
}
ssize_t session_writev(int fd, struct iovec* iov, int count, void* userdata) {
  return patched_writev(fd, iov, count, static_cast<State*>(userdata)->init_patch());
}

// Commas would begin another option.
std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

void detach(const std::string& mountpoint) {
  if (geteuid() == 0) {
    umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH);
    return;
  }
  std::string path = mountpoint;
  std::string words[] = {"fusermount3", "-u", "-z", "--"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(),
                  words[3].data(), path.data(),     nullptr};
  pid_t pid;
  if (posix_spawnp(&pid, argv[0], nullptr, nullptr, argv, environ) == 0)
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
}

Result<std::string> usable_mountpoint(const std::string& path) {
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) {
    if (errno == ENOTCONN)
      return fail(ENOTCONN, fmt::format("{0}: a mount whose process has died is still there; "
                                        "remove it with `umount {0}` and try again",
                                        path));
    if (errno == ENOENT)
      return fail(ENOENT, fmt::format("{0}: no such directory; make it with `mkdir {0}`", path));
    return fail(errno, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  if (!S_ISDIR(st.st_mode))
    return fail(ENOTDIR, fmt::format("{}: is not a directory; choose one to mount on", path));
  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return fail(errno, fmt::format("{}: {}", path, std::strerror(errno)));
  std::string out = real;
  ::free(real);
  return out;
}

}  // namespace

struct stat to_stat(const Stat& s) {
  struct stat st{};
  st.st_ino = s.ino.v;
  st.st_mode = s.mode;
  st.st_uid = s.uid;
  st.st_gid = s.gid;
  st.st_nlink = s.nlink;
  st.st_size = static_cast<off_t>(s.size);
  st.st_blocks = static_cast<blkcnt_t>(s.blocks);
  st.st_blksize = 4096;
  st.st_rdev = s.rdev;  // libfuse passes the number on as the kernel encodes it
  st.st_atim = {s.atime.sec, static_cast<long>(s.atime.nsec)};
  st.st_mtim = {s.mtime.sec, static_cast<long>(s.mtime.nsec)};
  st.st_ctim = {s.ctime.sec, static_cast<long>(s.ctime.nsec)};
  return st;
}

State::State(EventLoop& loop, Client& client, MountOptions options)
    : loop_(loop), client_(client), options_(std::move(options)) {}

State::~State() {
  CHECK(requests_ == 0);
  if (unmounter_.joinable()) unmounter_.join();
  if (session_) fuse_session_destroy(session_);
  ::free(request_.mem);
  for (char* mem : free_buffers_) ::free(mem);
}

Result<void> State::mount() {
  TRY_ASSIGN(options_.mountpoint, usable_mountpoint(options_.mountpoint));
  const bool root = geteuid() == 0;
  std::string o =
      fmt::format("default_permissions,fsname={},subtype=graftfs", escaped(options_.source));
  // libfuse adds nosuid and nodev unless it is told otherwise; only root may.
  if (root) o += ",suid,dev";
  if (root && options_.allow_other) o += ",allow_other";
  if (options_.read_only) o += ",ro";
  std::string words[] = {"graftfs", "-o", o, "-d"};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data()};
  fuse_args args = FUSE_ARGS_INIT(options_.debug ? 4 : 3, argv);

  fuse_lowlevel_ops ops{};
  ops.init = init;
  add_name_ops(ops);
  add_attr_ops(ops);
  add_data_ops(ops);
  add_dir_ops(ops);
  add_xattr_ops(ops);
  add_ioctl_ops(ops);
  if (options_.shared) add_lock_ops(ops);

  std::string said;
  mount_log = &said;
  fuse_set_log_func(log_to_string);
  session_ = fuse_session_new(&args, &ops, sizeof ops, this);
  const bool mounted = session_ && fuse_session_mount(session_, options_.mountpoint.c_str()) == 0;
  const int error = errno;
  mount_log = nullptr;
  fuse_opt_free_args(&args);
  if (!mounted) {
    while (!said.empty() && said.back() == '\n') said.pop_back();
    return fail(error ? error : EIO,
                fmt::format("{} cannot be mounted on ({}); is FUSE available (ls -l /dev/fuse) "
                            "and may you mount here?",
                            options_.mountpoint, said.empty() ? std::strerror(error) : said));
  }
  fuse_custom_io io{};
  io.read = session_read;
  io.writev = session_writev;
  if (int r = fuse_session_custom_io(session_, &io, fuse_session_fd(session_)); r != 0) {
    fuse_session_unmount(session_);
    return fail(-r, "libfuse refuses its own descriptor; it must be version 3.14 or newer");
  }
  int fd = fuse_session_fd(session_);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  device_ = fd;
  client_.on_corrected([weak = weak_from_this()](Ino ino) {
    if (auto self = weak.lock()) self->attributes_changed(ino);
  });
  if (options_.handle_signals) {
    loop_.watch_signals({SIGINT, SIGTERM, SIGHUP}, [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->unmount();
    });
  }
  loop_.watch(device_, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->pump(nullptr);
  });
  loop_.before_waiting([weak = weak_from_this()] {
    auto self = weak.lock();
    return self && self->pump(&self->before_sleep_);
  });
  return {};
}

void State::init(void* userdata, fuse_conn_info* conn) {
  // Locks stay with the kernel, unless others share the volume: on one mount its flock and fcntl
  // locks are complete, and waiting for one can be interrupted. No writeback cache: what write(2)
  // acknowledged is at the rank. No atomic O_TRUNC: it would travel in OPEN, which is not sent (see
  // add_data_ops).
  constexpr unsigned kWanted =
      FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK | FUSE_CAP_IOCTL_DIR |
      FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO |
      FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS;
  conn->want = conn->capable & kWanted;
  // Before each read the kernel looks at the time of the last change, and drops what it has kept.
  if (static_cast<State*>(userdata)->options_.shared)
    conn->want |=
        conn->capable & (FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
  conn->max_write = kMaxWrite;
  conn->max_readahead = kMaxWrite;
  conn->max_background = 64;
  conn->congestion_threshold = 48;
  conn->time_gran = 1;
  State& state = *static_cast<State*>(userdata);
  state.loop_.post([weak = state.weak_from_this()] {
    if (auto self = weak.lock()) self->read_ahead();
  });
}

void State::read_ahead() {
  // Not stat(2), which would ask this very loop.
  auto here = find_mount(options_.mountpoint);
  if (!here) return;
  std::ofstream out("/sys/class/bdi/" + here->device + "/read_ahead_kb");
  out << options_.read_ahead / 1024;
}

// `look`: null where the device is known to have a request. After a request that was answered at
// once, the client's next one may be there; after one that waits for the journal only another
// client's; and before the loop sleeps, whatever the answers of this turn have led to.
bool State::pump(Look* look) {
  for (int i = 0; i < kRequestsPerTurn; ++i) {
    if (ended_ || stalled_ || (look && !look->worth())) return i > 0;
    if (requests_ >= options_.max_requests || data_bytes_ >= options_.max_data_bytes) {
      stalled_ = true;
      loop_.unwatch(device_);
      return i > 0;
    }
    if (!request_.mem && !free_buffers_.empty()) {
      request_.mem = free_buffers_.back();
      free_buffers_.pop_back();
    }
    int n = fuse_session_receive_buf(session_, &request_);
    if (n == -EINTR) continue;
    if (n == -EAGAIN) {
      if (look) look->in_vain();
      return i > 0;
    }
    if (n <= 0) {
      end();
      return true;
    }
    if (look) look->found();
    groups_.new_request();
    const size_t under_way = requests_;
    if (!(shut_down_ && refuse_after_shutdown())) {
      kill_suidgid_ = kills_suidgid(request_.mem, request_.size);
      fuse_session_process_buf(session_, &request_);
    }
    look = requests_ > under_way ? &while_waiting_ : &after_answer_;
  }
  return true;
}

void State::resume() {
  if (!stalled_ || ended_) return;
  if (requests_ >= options_.max_requests || data_bytes_ >= options_.max_data_bytes) return;
  stalled_ = false;
  loop_.watch(device_, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->pump(nullptr);
  });
}

// Everything fails, except what takes references away.
bool State::refuse_after_shutdown() {
  fuse_in_header in;
  std::memcpy(&in, request_.mem, sizeof in);
  switch (in.opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
      return false;
    default:
      break;
  }
  fuse_out_header out{sizeof(fuse_out_header), -EIO, in.unique};
  return ::write(fuse_session_fd(session_), &out, sizeof out) == sizeof out;
}

void State::on_unmounted(Fn fn) {
  on_unmounted_ = std::move(fn);
  announce_end();
}

// Once nothing is under way, so that whoever hears it may take everything down.
void State::announce_end() {
  if (ended_ && requests_ == 0 && on_unmounted_) loop_.post(std::exchange(on_unmounted_, nullptr));
}

void State::end() {
  if (std::exchange(ended_, true)) return;
  client_.on_corrected(nullptr);
  auto self = shared_from_this();
  if (requests_ == 0) self_.reset();
  loop_.unwatch(device_);  // libfuse closes it
  fuse_session_exit(session_);
  if (detached_) {
    // libfuse would unmount whatever is at the path now, unless its descriptor says that the
    // connection is over: so it gets one that does, which also ends the connection.
    int dead[2];
    if (::pipe2(dead, O_CLOEXEC) == 0) {
      ::close(dead[0]);
      ::dup2(dead[1], fuse_session_fd(session_));
      ::close(dead[1]);
    }
  }
  fuse_session_unmount(session_);
  announce_end();
}

void State::unmount() {
  if (ended_ || unmounter_.joinable()) return;
  // In a helper thread, because this one must go on serving what the kernel writes back. And what
  // waits for that is a process of its own: a thread of this one would keep the device open while
  // it waits for itself, and where no rank answers not even SIGKILL could end it.
  unmounter_ =
      std::thread([mountpoint = options_.mountpoint, &loop = loop_, weak = weak_from_this()] {
        const pid_t child = ::fork();
        if (child == 0) {
          ::close_range(0, ~0u, 0);
          const int fd = ::open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY);
          if (fd >= 0) ::syncfs(fd);
          ::_exit(0);
        }
        while (child > 0 && ::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
        }
        detach(mountpoint);
        loop.post([weak] {
          if (auto self = weak.lock()) {
            self->detached_ = true;
            self->end();
          }
        });
      });
}

Buffer State::take_request_buffer(size_t charged) {
  data_bytes_ += charged;
  return Buffer(*this, static_cast<char*>(std::exchange(request_.mem, nullptr)), charged, true);
}

Buffer State::new_buffer(size_t size) {
  const bool big = size > kSmallBuffer;
  CHECK(size <= kMaxWrite, "the kernel asks for {} bytes at once", size);
  char* mem = nullptr;
  if (big && !free_buffers_.empty()) {
    mem = free_buffers_.back();
    free_buffers_.pop_back();
  } else {
    mem = static_cast<char*>(std::malloc(big ? kBufferSize : size));
  }
  CHECK(mem, "no memory for a buffer of {} bytes", size);
  data_bytes_ += size;
  return Buffer(*this, mem, size, big);
}

void State::free_buffer(char* mem, size_t charged, bool big) {
  data_bytes_ -= charged;
  if (big && free_buffers_.size() < kFreeBuffers) {
    free_buffers_.push_back(mem);
  } else {
    ::free(mem);
  }
  resume();
}

Buffer::~Buffer() {
  if (mem_) state_->free_buffer(mem_, charged_, big_);
}

void State::count_entry(const Stat& stat) {
  refs_.add(stat.ino, stat.is_regular() && stat.mode & (S_ISUID | S_ISGID));
}

void State::fill_entry(fuse_entry_param& e, const Stat& stat, NodeName at) {
  e.ino = options_.shared && stat.is_dir() ? dir_nodes_.found(stat.ino, at) : stat.ino.v;
  e.generation = 1;  // inos are never reused
  e.attr = to_stat(stat);
  e.attr_timeout = options_.attr_timeout_s;
  e.entry_timeout = options_.entry_timeout_s;
}

void State::forget(Ino ino, uint64_t count) {
  if (refs_.forget(ino, count)) client_.call({}, ReleaseArgs{ino}, nullptr);
  if (!refs_.knows(ino)) dir_nodes_.forget(ino);
}

void State::forget_later(const fuse_forget_data* forgets, size_t count) {
  if (count == 0) return;
  forgotten_.emplace_back(forgets, forgets + count);
  if (forgotten_.size() == 1) forget_some();
}

void State::forget_some() {
  std::vector<fuse_forget_data>& front = forgotten_.front();
  for (size_t n = 0; n < kForgetsPerTurn && !front.empty(); ++n) {
    forget(ino_of(front.back().ino), front.back().nlookup);
    front.pop_back();
  }
  if (front.empty()) forgotten_.pop_front();
  if (forgotten_.empty()) return;
  loop_.post([weak = weak_from_this()] {
    if (auto self = weak.lock(); self && !self->ended_) self->forget_some();
  });
}

void State::lost_last_name(const Reply& reply) {
  if (reply.err == 0 && reply.orphaned && refs_.orphaned(reply.stat.ino))
    client_.call({}, ReleaseArgs{reply.stat.ino}, nullptr);
}

// Before the answer to the write, so that whoever looks after it sees the new mode. Without a range
// the kernel takes no lock for this that the writer holds.
void State::mode_changed(Ino ino) {
  refs_.set_privileged(ino, false);
  attributes_changed(ino);
}

void State::attributes_changed(Ino ino) {
  if (!ended_) fuse_lowlevel_notify_inval_inode(session_, ino.v, -1, 0);
}

// ---------------------------------------------------------------------------------------------

Req::Req(fuse_req_t req) : state_(&state_of(req)), req_(req) {
  if (state_->requests_++ == 0) state_->self_ = state_->shared_from_this();
}

Credentials Req::cred() const {
  const fuse_ctx* ctx = fuse_req_ctx(req_);
  Credentials cred;
  cred.uid = ctx->uid;
  cred.gid = ctx->gid;
  cred.pid = ctx->pid;
  cred.lookup = &state_->groups_;
  return cred;
}

void Req::finished() {
  req_ = nullptr;
  --state_->requests_;
  state_->resume();
  if (state_->requests_ == 0 && state_->ended_) {
    state_->announce_end();
    // The owner may be gone; whoever answered may still look at the state.
    state_->loop_.post([self = std::move(state_->self_)] {});
  }
}

void Req::err(int error) {
  // ENOSYS would tell the kernel never to ask again, EUCLEAN means nothing to a program.
  if (error == EUCLEAN) error = EIO;
  fuse_reply_err(req_, error);
  finished();
}

void Req::entry(const Stat& stat, NodeName at) {
  fuse_entry_param e{};
  state_->fill_entry(e, stat, at);
  // Counted first: the kernel may forget it as soon as it is answered.
  state_->count_entry(stat);
  if (fuse_reply_entry(req_, &e) != 0) state_->forget(stat.ino, 1);
  finished();
}

void Req::no_entry() {
  fuse_entry_param e{};
  e.entry_timeout = state_->options_.entry_timeout_s;
  fuse_reply_entry(req_, &e);
  finished();
}

void Req::attr(const Stat& stat) {
  struct stat st = to_stat(stat);
  if (stat.is_regular() && stat.mode & (S_ISUID | S_ISGID))
    state_->refs_.set_privileged(stat.ino, true);
  fuse_reply_attr(req_, &st, state_->options_.attr_timeout_s);
  finished();
}

void Req::bytes(const char* data, size_t size) {
  fuse_reply_buf(req_, data, size);
  finished();
}

void Req::written(size_t size) {
  fuse_reply_write(req_, size);
  finished();
}

void Req::offset(uint64_t value) {
  fuse_reply_lseek(req_, static_cast<off_t>(value));
  finished();
}

void Req::statfs(const StatfsReply& reply) {
  struct statvfs v{};
  v.f_bsize = v.f_frsize = reply.block_size;
  v.f_blocks = reply.blocks;
  v.f_bfree = reply.blocks_free;
  v.f_bavail = reply.blocks_available;
  v.f_files = reply.files;
  v.f_ffree = v.f_favail = reply.files_free;
  v.f_namemax = kNameMax;
  fuse_reply_statfs(req_, &v);
  finished();
}

void Req::xattr_size(size_t size) {
  fuse_reply_xattr(req_, size);
  finished();
}

void Req::readlink(const std::string& target) {
  fuse_reply_readlink(req_, target.c_str());
  finished();
}

}  // namespace graftfs::fuse
