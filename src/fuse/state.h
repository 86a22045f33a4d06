#pragma once
// What the operations of one mount share.

#include <fuse_lowlevel.h>

#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/event_loop.h"
#include "client/client.h"
#include "fuse/dir_nodes.h"
#include "fuse/groups.h"
#include "fuse/kernel_refs.h"
#include "fuse/killpriv.h"
#include "fuse/mount.h"
#include "fuse/open_files.h"

namespace graftfs::fuse {

class State;

// One request of the kernel. Answered exactly once: dropped unanswered, it is answered with EIO.
class Req {
 public:
  explicit Req(fuse_req_t req);
  Req(Req&& o) noexcept : state_(o.state_), req_(std::exchange(o.req_, nullptr)) {}
  Req(const Req&) = delete;
  Req& operator=(const Req&) = delete;
  ~Req() {
    if (req_) err(EIO);
  }

  State& state() const { return *state_; }
  fuse_req_t get() const { return req_; }
  Credentials cred() const;

  void err(int error);  // 0: done
  void entry(const Stat& stat, NodeName at);
  void no_entry();  // ENOENT, which the kernel may remember
  void attr(const Stat& stat);
  void bytes(const char* data, size_t size);
  void written(size_t size);
  void offset(uint64_t value);
  void statfs(const StatfsReply& reply);
  void xattr_size(size_t size);
  void readlink(const std::string& target);
  // It was answered with libfuse directly.
  void answered() { finished(); }

 private:
  void finished();
  State* state_;
  fuse_req_t req_;
};

// A buffer for one request's data, given back to the mount when it is dropped.
class Buffer {
 public:
  Buffer(State& state, char* mem, size_t charged, bool big)
      : state_(&state), mem_(mem), charged_(charged), big_(big) {}
  Buffer(Buffer&& o) noexcept
      : state_(o.state_),
        mem_(std::exchange(o.mem_, nullptr)),
        charged_(o.charged_),
        big_(o.big_) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  char* data() const { return mem_; }

 private:
  State* state_;
  char* mem_;
  size_t charged_;
  bool big_;  // as big as a request may be
};

// Whether it is worth asking the device for a request without having been told that there is one:
// as long as that has paid off lately, and now and then to find out. A question in vain costs a
// system call, a request found saves two.
class Look {
 public:
  bool worth() { return credit_ > 0 || ++not_worth_ % kProbeEvery == 0; }
  void found() { credit_ = kCredit; }
  void in_vain() { credit_ -= credit_ > 0; }

 private:
  static constexpr int kCredit = 8;
  static constexpr unsigned kProbeEvery = 32;
  int credit_ = 0;
  unsigned not_worth_ = 0;
};

// Owned by the FuseMount and by every posted function; a request that is under way keeps the
// libfuse session. On the loop's thread, but for the unmounting helper thread.
class State : public std::enable_shared_from_this<State> {
 public:
  State(EventLoop& loop, Client& client, MountOptions options);
  ~State();

  Result<void> mount();
  void unmount();
  // After the kernel has been answered what this file system can do, where it takes no more than
  // it has itself.
  void read_ahead();
  // The connection is over, or is to be.
  void end();
  void on_unmounted(Fn fn);

  Client& client() { return client_; }
  const MountOptions& options() const { return options_; }
  EventLoop& loop() { return loop_; }
  KernelRefs& refs() { return refs_; }
  DirNodes& dir_nodes() { return dir_nodes_; }
  OpenFiles& open_files() { return open_files_; }
  const ProcGroups& groups() const { return groups_; }
  fuse_session* session() const { return session_; }
  InitPatch& init_patch() { return init_patch_; }
  bool ended() const { return ended_; }

  // Whether the request being handled says that setuid and setgid bits are to be cleared.
  bool kill_suidgid() const { return kill_suidgid_; }
  // The buffer that holds the request being handled, so that its data stays valid.
  Buffer take_request_buffer(size_t charged);
  Buffer new_buffer(size_t size);

  void fill_entry(fuse_entry_param& e, const Stat& stat, NodeName at);
  void count_entry(const Stat& stat);
  void forget(Ino ino, uint64_t count);
  // The kernel forgets up to 65,000 inodes in one request, and sends 16 of those before it lets
  // anybody else's through: they are gone through in slices.
  void forget_later(const fuse_forget_data* forgets, size_t count);
  // After an answer that says that an inode lost its last name.
  void lost_last_name(const Reply& reply);
  // A write cleared bits that the kernel still shows.
  void mode_changed(Ino ino);
  // A write to a file with capabilities is preceded by their removal and then by a SETATTR that
  // sets nothing, which looks like chown(path, -1, -1) but must not take set-uid from a file that
  // root writes. Told apart by the removal, from the same thread.
  void capabilities_removed(Ino ino, int32_t pid) { without_capabilities_ = {ino, pid}; }
  bool precedes_write(Ino ino, int32_t pid) {
    return std::exchange(without_capabilities_, {}) == std::pair{ino, pid};
  }
  // The kernel is to ask again.
  void attributes_changed(Ino ino);

  void set_shut_down() { shut_down_ = true; }
  uint64_t new_lock_number() { return ++last_lock_; }

 private:
  friend class Req;
  friend class Buffer;

  static void init(void* userdata, fuse_conn_info* conn);
  // Takes requests from the device and handles them; returns whether there were any.
  bool pump(Look* look);
  void resume();
  void announce_end();
  bool refuse_after_shutdown();
  void forget_some();
  void free_buffer(char* mem, size_t charged, bool big);

  EventLoop& loop_;
  Client& client_;
  MountOptions options_;
  InitPatch init_patch_;
  KernelRefs refs_;
  DirNodes dir_nodes_;
  OpenFiles open_files_;
  std::deque<std::vector<fuse_forget_data>> forgotten_;  // the front one from its end
  ProcGroups groups_;
  fuse_session* session_ = nullptr;
  int device_ = -1;
  fuse_buf request_{};
  bool kill_suidgid_ = false;
  std::pair<Ino, int32_t> without_capabilities_{};
  bool stalled_ = false;
  Look after_answer_, while_waiting_, before_sleep_;
  bool detached_ = false;  // from its path, by unmount()
  bool ended_ = false;
  bool shut_down_ = false;
  uint64_t last_lock_ = 0;
  size_t requests_ = 0;
  std::shared_ptr<State> self_;  // while requests are under way
  size_t data_bytes_ = 0;
  std::vector<char*> free_buffers_;
  Fn on_unmounted_;
  std::thread unmounter_;
};

inline State& state_of(fuse_req_t req) { return *static_cast<State*>(fuse_req_userdata(req)); }

inline Ino ino_of(fuse_ino_t node) { return ino_of_node(node); }
struct stat to_stat(const Stat& stat);

// Each fills in its group of operations.
void add_name_ops(fuse_lowlevel_ops& ops);
void add_attr_ops(fuse_lowlevel_ops& ops);
void add_data_ops(fuse_lowlevel_ops& ops);
void add_dir_ops(fuse_lowlevel_ops& ops);
void add_xattr_ops(fuse_lowlevel_ops& ops);
void add_ioctl_ops(fuse_lowlevel_ops& ops);
void add_lock_ops(fuse_lowlevel_ops& ops);  // only for shared mounts

}  // namespace graftfs::fuse
