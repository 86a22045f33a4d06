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
  if (recommended) l.conf_set(mount_, "client_cache_size", "65536");
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

}  // namespace graftfs::bench
