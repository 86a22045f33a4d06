#include "cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace graftfs {
namespace {

std::unique_ptr<CephCluster>& shared() {
  static std::unique_ptr<CephCluster> cluster;
  return cluster;
}

class EndOfCluster : public ::testing::Environment {
  void TearDown() override { shared().reset(); }
};
const auto* const kEnd = ::testing::AddGlobalTestEnvironment(new EndOfCluster);

}  // namespace

CephCluster& cluster() {
  auto& one = shared();
  if (!one) {
    one = std::make_unique<CephCluster>();
    if (!one->up()) std::exit(1);  // it has said why; nothing of this program can run
    one->tell("ceph osd pool create p 16");
  }
  return *one;
}

CephCluster::CephCluster(const std::vector<std::string>& arguments) {
  const char* build = std::getenv("GRAFTFS_BUILD");
  const std::string program = GRAFTFS_SOURCE "/tools/ceph-cluster";
  std::vector<std::string> words = {
      program, std::string(build ? build : ".") + "/ceph-" + std::to_string(::getpid())};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int in[2], out[2];
  EXPECT_EQ(::pipe2(in, O_CLOEXEC), 0);
  EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  const std::string line = hear();
  if (line.starts_with("ready ")) conf_ = line.substr(6);
  EXPECT_TRUE(up()) << "no cluster: " << line
                    << "; 'apt-get install ceph-mon ceph-mgr ceph-osd' (or ./dev test, which does)";
}

CephCluster::~CephCluster() {
  ::close(to_);
  ::close(from_);
  ::waitpid(pid_, nullptr, 0);
}

std::string CephCluster::hear() {
  std::string line;
  char c;
  while (::read(from_, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

std::string CephCluster::tell(const std::string& line) {
  const std::string text = line + "\n";
  EXPECT_EQ(::write(to_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::string answer = hear();
  EXPECT_TRUE(answer.starts_with("ok")) << line << ": " << answer;
  return answer.size() > 3 ? answer.substr(3) : "";
}

std::string CephCluster::fresh_volume(const std::string& pool) {
  return "rados:" + pool + "/volume-" + std::to_string(++volumes_) + "?conf=" + conf_;
}

}  // namespace graftfs
