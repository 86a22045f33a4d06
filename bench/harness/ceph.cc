#include "harness/ceph.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "harness/process.h"

namespace graftfs::bench {

CephCluster::CephCluster(const Context& context) {
  const std::string program = GRAFTFS_SOURCE "/tools/ceph-cluster";
  std::vector<std::string> words = {program, (context.work / "ceph").string(), "--mds"};
  // Room for what is measured; the file is sparse.
  if (!context.quick) words.insert(words.end(), {"--osd-bytes", fmt::format("{}", 24ll << 30)});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0)
    throw BenchmarkError("there are no descriptors left");
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
  if (!line.starts_with("ready "))
    throw BenchmarkError(
        fmt::format("no Ceph cluster comes up: {}; './dev bench rados' installs what "
                    "it needs",
                    line));
  conf_ = line.substr(6);
  tell("ceph osd pool create graftfs 16");
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
  if (::write(to_, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    throw BenchmarkError("the cluster has ended");
  std::string answer = hear();
  if (!answer.starts_with("ok")) throw BenchmarkError(fmt::format("{}: {}", line, answer));
  return answer.size() > 3 ? answer.substr(3) : "";
}

double CephCluster::osd_cpu_seconds() {
  return std::stod(tell("cpu osd.0")) + std::stod(tell("cpu osd.1"));
}

void CephCluster::settle() {
  constexpr double kStep = 0.5, kIdle = 0.04, kPatience = 300;
  Stopwatch watch;
  for (int quiet = 0; quiet < 3 && watch.seconds() < kPatience;) {
    const double before = osd_cpu_seconds();
    ::usleep(static_cast<useconds_t>(kStep * 1e6));
    quiet = osd_cpu_seconds() - before <= kIdle * kStep ? quiet + 1 : 0;
  }
}

Json CephCluster::mds_counters(const std::string& section, const std::string& mds) {
  return Json::parse(tell("ceph daemon mds." + mds + " perf dump " + section)).at(section);
}

void CephCluster::wait_for_mds(unsigned count) {
  constexpr double kPatience = 120;
  const std::string wanted = fmt::format("{}=", count - 1), beyond = fmt::format("{}=", count);
  Stopwatch watch;
  for (std::string state; watch.seconds() < kPatience;) {
    // "cephfs:2 {0=m=up:active,1=n=up:active}"
    state = tell("ceph mds stat");
    unsigned active = 0;
    for (size_t at = 0; (at = state.find("up:active", at)) != std::string::npos; ++at) ++active;
    if (active == count && state.find(wanted) != std::string::npos &&
        state.find(beyond) == std::string::npos)
      return;
    ::usleep(200'000);
  }
  throw BenchmarkError(fmt::format("CephFS does not get {} active metadata servers: {}", count,
                                   tell("ceph mds stat")));
}

void CephCluster::kill_and_start_mds() {
  tell("kill mds");
  tell("start mds");
}

// Asked itself: the monitor has the old one as active for a while.
void CephCluster::new_mds() {
  constexpr double kPatience = 120;
  kill_and_start_mds();
  Stopwatch watch;
  for (std::string state; state != "up:active"; ::usleep(200'000)) {
    if (watch.seconds() > kPatience)
      throw BenchmarkError("the metadata server of CephFS does not get active");
    try {
      state = Json::parse(tell("ceph daemon mds.m status")).value("state", "");
    } catch (const BenchmarkError&) {  // it does not listen yet
    }
  }
}

void CephCluster::set_active_mds(unsigned count) {
  if (count == 2 && !second_runs_) tell("start mds.n");
  tell(fmt::format("ceph fs set cephfs max_mds {}", count));
  wait_for_mds(count);
  if (count == 1 && second_runs_) tell("kill mds.n");
  second_runs_ = count == 2;
}

void CephCluster::set_recommended(bool on) {
  set_active_mds(on ? 2 : 1);
  if (on)
    tell("ceph config set mds mds_cache_memory_limit 8589934592");
  else
    tell("ceph config rm mds mds_cache_memory_limit");
}

std::string CephCluster::fresh_volume(const Context& context) {
  const std::string name = fmt::format("rados:graftfs/v{}?conf={}", ++volumes_, conf_);
  run_or_throw({context.graftfs, "format", name});
  return name;
}

// -- CephFS -------------------------------------------------------------------------------------

// As libcephfs.h declares them.
struct CephFsClient::Library {
  int (*create)(void** mount, const char* id);
  int (*conf_read_file)(void* mount, const char* path);
  int (*conf_set)(void* mount, const char* option, const char* value);
  int (*mount)(void* mount, const char* root);
  int (*unmount)(void* mount);
  int (*release)(void* mount);
  int (*mkdir)(void* mount, const char* path, mode_t mode);
  int (*open)(void* mount, const char* path, int flags, mode_t mode);
  int (*close)(void* mount, int fd);
  int (*rename)(void* mount, const char* from, const char* to);
  int (*unlink)(void* mount, const char* path);
  int (*statx)(void* mount, const char* path, void* out, unsigned want, unsigned flags);
  int (*sync_fs)(void* mount);
  int (*setxattr)(void* mount, const char* path, const char* name, const void* value, size_t size,
                  int flags);
};

const CephFsClient::Library& CephFsClient::library() {
  static const Library loaded = [] {
    void* file = ::dlopen("libcephfs.so.2", RTLD_NOW);
    if (!file) throw BenchmarkError("libcephfs2 is not installed; './dev bench rados' does that");
    Library l{};
    auto find = [file](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(file, name));
      if (!function) throw BenchmarkError(fmt::format("libcephfs.so.2 has no '{}'", name));
    };
    find(l.create, "ceph_create");
    find(l.conf_read_file, "ceph_conf_read_file");
    find(l.conf_set, "ceph_conf_set");
    find(l.mount, "ceph_mount");
    find(l.unmount, "ceph_unmount");
    find(l.release, "ceph_release");
    find(l.mkdir, "ceph_mkdir");
    find(l.open, "ceph_open");
    find(l.close, "ceph_close");
    find(l.rename, "ceph_rename");
    find(l.unlink, "ceph_unlink");
    find(l.statx, "ceph_statx");
    find(l.sync_fs, "ceph_sync_fs");
    find(l.setxattr, "ceph_setxattr");
    return l;
  }();
  return loaded;
}

void CephFsClient::must(int code, const char* what, const std::string& path) const {
  if (code >= 0) return;
  throw BenchmarkError(fmt::format("CephFS: {} of '{}' failed: {}", what, path, strerror(-code)));
}

CephFsClient::CephFsClient(const std::string& conf, bool recommended) {
  const Library& l = library();
  must(l.create(&mount_, nullptr), "create", conf);
  must(l.conf_read_file(mount_, conf.c_str()), "read", conf);
  l.conf_set(mount_, "admin_socket", "");
  if (recommended)
    l.conf_set(mount_, "client_cache_size", std::to_string(kRecommendedCache).c_str());
  must(l.mount(mount_, "/"), "mount", "/");
}

CephFsClient::~CephFsClient() {
  if (!mount_) return;
  library().unmount(mount_);
  library().release(mount_);
}

void CephFsClient::mkdir(const std::string& path) {
  must(library().mkdir(mount_, path.c_str(), 0755), "mkdir", path);
}
void CephFsClient::create(const std::string& path) {
  int fd = library().open(mount_, path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  must(fd, "create", path);
  must(library().close(mount_, fd), "close", path);
}
void CephFsClient::rename(const std::string& from, const std::string& to) {
  must(library().rename(mount_, from.c_str(), to.c_str()), "rename", from);
}
void CephFsClient::unlink(const std::string& path) {
  must(library().unlink(mount_, path.c_str()), "unlink", path);
}
void CephFsClient::stat(const std::string& path) {
  char out[512];  // struct ceph_statx is smaller
  must(library().statx(mount_, path.c_str(), out, 0x7ff, 0), "stat", path);
}
void CephFsClient::sync() { must(library().sync_fs(mount_), "sync", "/"); }

void CephFsClient::set_attribute(const std::string& path, const char* name,
                                 const std::string& value) {
  must(library().setxattr(mount_, path.c_str(), name, value.data(), value.size(), 0), name, path);
}
void CephFsClient::spread(const std::string& dir) {
  set_attribute(dir, "ceph.dir.pin.distributed", "1");
}
void CephFsClient::pin(const std::string& dir, unsigned rank) {
  set_attribute(dir, "ceph.dir.pin", std::to_string(rank));
}

}  // namespace graftfs::bench
