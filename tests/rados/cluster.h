#pragma once
// A Ceph cluster of this machine for one test program (tools/ceph-cluster).

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace graftfs {

// Owned by a test environment. Its daemons end with this process, whatever it dies of, and its
// directory, below the build tree, is removed. A cluster that does not come up fails the test.
class CephCluster {
 public:
  explicit CephCluster(const std::vector<std::string>& arguments = {});
  ~CephCluster();
  CephCluster(const CephCluster&) = delete;
  CephCluster& operator=(const CephCluster&) = delete;

  bool up() const { return !conf_.empty(); }
  const std::string& conf() const { return conf_; }
  // A line of tools/ceph-cluster; the answer without its "ok". Fails the test on an error.
  std::string tell(const std::string& line);
  // A namespace that nobody has used, as a volume's name.
  std::string fresh_volume(const std::string& pool = "p");

 private:
  std::string hear();
  int to_ = -1, from_ = -1;
  int pid_ = 0;
  int volumes_ = 0;
  std::string conf_;
};

// That of the program, with a pool "p"; started by the first who asks.
CephCluster& cluster();

}  // namespace graftfs
