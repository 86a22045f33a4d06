#pragma once
// The process behind a mount: event loop, store, rank, client, FUSE.

#include <functional>
#include <memory>
#include <string>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "cli/hosting.h"
#include "cli/log.h"
#include "cli/notifier.h"
#include "cli/settings.h"
#include "cli/status_socket.h"
#include "client/client.h"
#include "fuse/mount.h"
#include "node/finder.h"
#include "server/rank.h"
#include "store/volume.h"

namespace graftfs::cli {

struct DaemonOptions {
  std::string volume;  // as volume_name() makes it
  std::string mountpoint;
  bool foreground = false;
  size_t ranks = 0;  // to be hosted where nobody serves the volume; 0: those it has
  Settings settings;
};

// Owned by main, on the thread that calls run(), which is the event loop's. It ends when the file
// system is unmounted, by whomever, or by SIGINT, SIGTERM, SIGHUP. A crash leaves a dead mount
// point and a volume that the next mount recovers; an error before the mount is told to the
// notifier, one after it to the log.
class Daemon {
 public:
  Daemon(DaemonOptions options, Notifier notifier);
  ~Daemon();
  // The exit code.
  int run();

 private:
  Result<void> open();
  Task<void> serve();
  Task<Result<void>> bring_up();
  Task<void> bring_down();
  RankOptions rank_options();
  // How many ranks the volume has, and whether processes of a cluster serve it.
  struct Served {
    bool by_others = false;
    size_t ranks = 0;
    bool has_first = true;  // rank 0 has not been removed
  };
  Task<Result<Served>> served();
  Task<Result<void>> host_ranks(size_t ranks, bool formatted);
  Task<Result<void>> join_cluster();
  Result<void> mount();
  void shut_down(uint32_t flags, std::function<void(int)> done);
  void tell_progress(const RecoveryProgress& progress);
  std::string status();
  void fail_start(const Error& error);

  DaemonOptions options_;
  std::string run_dir_;
  Notifier notifier_;
  Log log_;
  bool mounted_ = false;
  bool shut_down_ = false;
  int exit_code_ = 0;
  Nanos began_ = 0;
  Nanos start_took_ = 0;
  Nanos told_at_ = 0;

  EventLoop loop_;
  SystemRandom random_;
  std::unique_ptr<BlockingPool> pool_;
  std::shared_ptr<Volume> volume_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Rank> rank_;        // the only one, in this thread
  std::unique_ptr<Hosting> hosting_;  // several, each in its own; neither: others serve
  std::unique_ptr<node::Finder> finder_;
  std::unique_ptr<Router> router_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<FuseMount> mount_;
  std::unique_ptr<StatusSocket> socket_;
  TaskScope tasks_;  // last: its frames use everything above
};

}  // namespace graftfs::cli
