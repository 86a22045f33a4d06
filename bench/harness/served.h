#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "client/client.h"
#include "client/router.h"
#include "harness/benchmark.h"
#include "harness/statistics.h"
#include "node/finder.h"
#include "store/volume.h"

namespace graftfs::bench {

// A volume that processes of the command line serve. Used by one thread. The destructor ends the
// processes and removes the volume.
class Served {
 public:
  Served(const Context& context, const std::string& label, std::string durability);
  ~Served();

  // Starts a process with so many ranks; returns when it serves.
  pid_t serve(size_t ranks, const std::vector<std::string>& options = {});
  // SIGKILL, at once: how long it takes to go is not waited for.
  void kill(pid_t pid);
  // In good order.
  void stop(pid_t pid);
  const std::filesystem::path& volume() const { return volume_; }
  // The answer of `graftfs WORD... --json`.
  Json ask(std::vector<std::string> words) const;

 private:
  std::string binary_;
  std::filesystem::path volume_;
  std::string durability_;
  std::set<pid_t> processes_;
};

// Clients of the library on this thread's loop, each with a session and connections of its own,
// over the sockets of the volume, without FUSE. What ranks have leased is answered at once.
class LibraryClients {
 public:
  // `volume`: as the command line takes it.
  LibraryClients(const std::string& volume, size_t count);
  ~LibraryClients();

  EventLoop& loop() { return loop_; }
  size_t size() const { return clients_.size(); }
  // How often ranks have taken back from a client what it was leased.
  uint64_t recalls(size_t client) const { return clients_[client].router->cache().recalls(); }
  // One with the data path, and a session of its own.
  Client& data_client();
  void submit(size_t client, Args args, ReplyFn done);
  // One request, and its answer.
  Reply call(size_t client, Args args);
  // The same, where an error ends the benchmark.
  Reply must(size_t client, Args args);
  // Runs the loop for so long.
  void turn(Nanos time);
  // Runs a program to its end; the clients answer what they are asked meanwhile. An error ends the
  // benchmark.
  void run_beside(const std::vector<std::string>& argv);

 private:
  struct One {
    SessionId session;
    std::unique_ptr<Router> router;
  };
  EventLoop loop_;
  BlockingPool pool_{"io", 1};
  std::shared_ptr<Volume> volume_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<node::Finder> finder_;
  std::vector<One> clients_;
  SystemRandom random_;
  std::unique_ptr<Router> data_router_;
  std::unique_ptr<Client> data_client_;
};

// How long requests took, in seconds.
struct Latencies {
  std::vector<double> all;
  void add(Nanos took) { all.push_back(static_cast<double>(took) / kSecond); }
  // 0.5: the median; 1: the longest; 0 where there was none.
  double at(double fraction) const { return all.empty() ? 0 : percentile(all, fraction); }
};

}  // namespace graftfs::bench
