#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>

#include "harness/benchmark.h"

namespace graftfs::bench {

// A Ceph cluster of this machine (tools/ceph-cluster) with a metadata server, and a pool "graftfs"
// for the other side. Its daemons end with this object, and with this process.
class CephCluster {
 public:
  explicit CephCluster(const Context& context);
  ~CephCluster();
  CephCluster(const CephCluster&) = delete;
  CephCluster& operator=(const CephCluster&) = delete;

  const std::string& conf() const { return conf_; }
  // A line of tools/ceph-cluster, and its answer.
  std::string tell(const std::string& line);
  // Seconds of processor time that the OSDs have used.
  double osd_cpu_seconds();
  // Returns when they have nothing to do any more, or after some minutes.
  void settle();
  // A section of the counters of a metadata server of CephFS.
  Json mds_counters(const std::string& section, const std::string& mds = "m");
  // The one that is active, ended with SIGKILL or begun anew, which returns when it serves; nothing
  // is cached in it then.
  void kill_and_start_mds();
  void new_mds();
  // CephFS with two active metadata servers, and as much memory for the cache of each as its
  // documentation recommends; or with its defaults.
  void set_recommended(bool on);
  // Two active ones, or one.
  void set_active_mds(unsigned count);
  // A volume in a namespace of its own, formatted.
  std::string fresh_volume(const Context& context);

 private:
  std::string hear();
  void wait_for_mds(unsigned count);
  bool second_runs_ = false;
  int to_ = -1, from_ = -1;
  pid_t pid_ = 0;
  int volumes_ = 0;
  std::string conf_;
};

// Inodes that a client may keep: the documentation recommends more than its default for those who
// have many files in use.
inline constexpr unsigned kRecommendedCache = 65536;

// One client of CephFS, by the library; loaded when the benchmark runs, since it is installed for
// it alone. Used by one thread. Errors throw BenchmarkError.
class CephFsClient {
 public:
  // `recommended`: with the larger cache.
  CephFsClient(const std::string& conf, bool recommended);
  ~CephFsClient();
  CephFsClient(const CephFsClient&) = delete;
  CephFsClient& operator=(const CephFsClient&) = delete;
  void mkdir(const std::string& path);
  void create(const std::string& path);  // and close
  void rename(const std::string& from, const std::string& to);
  void unlink(const std::string& path);
  void stat(const std::string& path);
  void sync();
  // The directories in it are spread over the metadata servers.
  void spread(const std::string& dir);
  // Everything below it belongs to that metadata server.
  void pin(const std::string& dir, unsigned rank);

 private:
  struct Library;
  void set_attribute(const std::string& path, const char* name, const std::string& value);
  static const Library& library();
  void must(int code, const char* what, const std::string& path) const;
  void* mount_ = nullptr;
};

}  // namespace graftfs::bench
