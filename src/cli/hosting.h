#pragma once
// The ranks of a volume that this process runs: of `serve`, and of a mount that hosts its own.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/settings.h"
#include "cli/status_socket.h"
#include "node/node.h"

namespace graftfs::cli {

inline constexpr size_t kMostRanks = 64;  // of one process

struct HostingOptions {
  std::string volume;
  std::vector<net::Address> listen;  // empty: a socket in the volume
  size_t ranks = 1;
  bool rejoin = true;  // as another node, when the ranks were taken
  bool balance = false;
  Nanos lease = 2 * kSecond;
  Settings settings;
  std::function<void(const std::string&)> log;            // any thread
  std::function<void(const RecoveryProgress&)> progress;  // in the loop's thread
};

// Owned by main's Server or Daemon, in the loop's thread. start() completes when the ranks serve.
// A crash leaves ranks that others take after the lease; an error later is told to `over`, and the
// process should end then.
class Hosting {
 public:
  Hosting(EventLoop& loop, BlockingPool& pool, std::shared_ptr<Volume> volume,
          HostingOptions options);
  ~Hosting();
  // Before start(): makes the sockets.
  Result<void> open();
  // `formatted`: rank 0 has a journal, or is damaged.
  Task<Result<void>> start(bool standby, bool formatted);
  // In good order: others may take the ranks at once.
  Task<Result<void>> stop();
  // The ranks are lost, and there is no coming back: by --no-rejoin (true) or by an error.
  std::function<void(bool fenced)> over;

  // Null while it comes back.
  node::Node* node() { return node_.get(); }
  const std::string& status() const { return status_; }

 private:
  Task<Result<void>> begin(bool standby);
  Task<void> rejoin();
  Task<void> watch_status();
  Result<node::NodeOptions> node_options(bool standby);

  EventLoop& loop_;
  BlockingPool& pool_;
  std::shared_ptr<Volume> volume_;
  HostingOptions options_;
  bool formatted_ = false, ending_ = false;
  std::unique_ptr<node::Node> node_;
  std::unique_ptr<StatusSocket> socket_;
  std::string status_ = "{}";
  TaskScope tasks_;  // last
};

}  // namespace graftfs::cli
