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
  // A volume in a namespace of its own, formatted.
  std::string fresh_volume(const Context& context);

 private:
  std::string hear();
  int to_ = -1, from_ = -1;
  pid_t pid_ = 0;
  int volumes_ = 0;
  std::string conf_;
};

// One client of CephFS, by the library; loaded when the benchmark runs, since it is installed for
// it alone. Used by one thread. Errors throw BenchmarkError.
class CephFsClient {
 public:
  // `write_back_recommended`: what its documentation recommends for speed.
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

 private:
  struct Library;
  static const Library& library();
  void must(int code, const char* what, const std::string& path) const;
  void* mount_ = nullptr;
};

}  // namespace graftfs::bench
