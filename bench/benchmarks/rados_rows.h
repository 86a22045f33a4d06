#pragma once
// The rows of the `rados` benchmark: each of them is measured on GraftFS and on CephFS alike.

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/ceph.h"
#include "harness/process.h"
#include "harness/served.h"
#include "harness/tree.h"

namespace graftfs::bench {

inline constexpr unsigned kCephClients = 8;

// A figure, and how many cores the OSDs were busy with meanwhile.
struct Measured {
  double value = 0, osd_cores = 0;
};
using Row = std::map<std::string, Measured>;

template <class F>
Measured rate_of(CephCluster& ceph, uint64_t operations, F&& work) {
  const double cpu = ceph.osd_cpu_seconds();
  Stopwatch watch;
  work();
  const double seconds = watch.seconds();
  return {static_cast<double>(operations) / seconds, (ceph.osd_cpu_seconds() - cpu) / seconds};
}

// How large everything is.
struct RadosSizes {
  uint64_t files = 0;   // of each phase of the library, and of the creates through FUSE
  uint64_t bytes = 0;   // of the large file
  uint64_t events = 0;  // in the journal of a server that is killed
  uint64_t cached = 0;  // inodes whose memory is measured
  uint64_t deep = 0;    // creates whose journal bytes are measured
  uint64_t moving = 0;  // files that move between servers
};

// A process that serves a volume with so many ranks, started by the command line.
class GraftfsServer {
 public:
  GraftfsServer(const Context& context, std::string volume, std::vector<std::string> options);
  ~GraftfsServer();
  GraftfsServer(const GraftfsServer&) = delete;
  GraftfsServer& operator=(const GraftfsServer&) = delete;
  const std::string& volume() const { return volume_; }
  pid_t pid() const { return pid_; }
  // Throws where it has ended.
  void check_alive() const;
  // SIGKILL, and started again at once.
  void kill_and_start();
  // What 'graftfs rank list' says of a rank.
  Json rank(size_t number) const;

 private:
  void start();
  const Context& context_;
  std::string volume_;
  std::vector<std::string> options_;
  pid_t pid_ = 0;
};

// So many clients of it, as soon as it serves.
std::unique_ptr<LibraryClients> clients_of(const GraftfsServer& server, size_t count);
// Each of them makes `each` requests, one after the other; an error ends the benchmark.
void for_each_client(LibraryClients& clients, uint64_t each,
                     const std::function<Args(size_t client, uint64_t i)>& make);

// Creates, stats and so on: the library with eight clients, one operation under way each.
Row library_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                       const std::string& durability);
Row library_of_cephfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                      bool recommended, int number);

// The same, a tree, and a large file, through FUSE.
Row fuse_of_graftfs(const Context& context, CephCluster& ceph, const RealTree& tree,
                    const RadosSizes& sizes, const std::string& durability);
Row fuse_of_cephfs(const Context& context, CephCluster& ceph, const RealTree& tree,
                   const RadosSizes& sizes, bool recommended, int number);

// The servers themselves: journal bytes, memory, restart after SIGKILL, the stall while files move
// from one to another.
Row servers_of_graftfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                       const std::string& durability);
Row servers_of_cephfs(const Context& context, CephCluster& ceph, const RadosSizes& sizes,
                      int number);

}  // namespace graftfs::bench
