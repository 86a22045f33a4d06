#include "harness/target.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "harness/process.h"
#include "harness/statistics.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

constexpr double kMountTimeoutS = 30;
constexpr long kExt4Magic = 0xEF53;
constexpr long kXfsMagic = 0x58465342;
constexpr long kBtrfsMagic = 0x9123683E;
constexpr long kTmpfsMagic = 0x01021994;

// A mount point has another device than the directory that holds it.
bool is_mounted(const fs::path& path) {
  struct stat here;
  struct stat above;
  return stat(path.c_str(), &here) == 0 && stat(path.parent_path().c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

// Remounting makes the kernel drop every unused name of the file system, and a
// FUSE inode without a name goes with its pages. Unlike drop_caches this
// touches no other file system.
void drop_mount_caches(const fs::path& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    syncfs(fd);
    close(fd);
  }
  if (mount(nullptr, path.c_str(), nullptr, MS_REMOUNT, nullptr) != 0) {
    throw BenchmarkError(
        fmt::format("cannot drop the kernel's caches of '{}' ({}); run the benchmarks as root",
                    path.string(), std::strerror(errno)));
  }
}

void detach(const fs::path& path) {
  if (umount2(path.c_str(), MNT_DETACH) != 0 && errno == EPERM) {
    run({"fusermount3", "-u", "-z", path.string()});
  }
}

// The process that runs `binary` with `argument` on its command line.
pid_t find_server(const fs::path& binary, const std::string& argument) {
  struct stat wanted;
  if (stat(binary.c_str(), &wanted) != 0) {
    return 0;
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    struct stat running;
    if (name.find_first_not_of("0123456789") != std::string::npos ||
        stat((entry.path() / "exe").c_str(), &running) != 0 || running.st_ino != wanted.st_ino ||
        running.st_dev != wanted.st_dev) {
      continue;
    }
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    std::string line(std::istreambuf_iterator<char>(file), {});
    if (line.find(argument + '\0') != std::string::npos) {
      return static_cast<pid_t>(std::stol(name));
    }
  }
  return 0;
}

}  // namespace

void Target::settle() {
  constexpr auto kStep = std::chrono::milliseconds(100);
  int fd = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    syncfs(fd);
    close(fd);
  }
  double before = cpu_seconds(server());
  for (int i = 0; i < 200 && server() != 0; i++) {
    std::this_thread::sleep_for(kStep);
    double now = cpu_seconds(server());
    if (now - before < 0.011) {  // one clock tick in a tenth of a second
      break;
    }
    before = now;
  }
}

GraftFsTarget::GraftFsTarget(const Context& context, const std::string& label)
    : Target(context.work / label / "mnt"),
      binary_(context.graftfs),
      home_(context.work / label),
      volume_(context.work / label / "volume"),
      durability_(context.durability) {
  if (access(binary_.c_str(), X_OK) != 0) {
    throw BenchmarkError(
        fmt::format("'{}' is not there; build the target graftfs or name the binary with --graftfs",
                    binary_.string()));
  }
}

GraftFsTarget::~GraftFsTarget() {
  if (mounted_) {
    detach(path_);
  }
  std::error_code ignored;
  fs::remove_all(home_, ignored);
}

void GraftFsTarget::start() {
  format();
  mount();
}

void GraftFsTarget::format() {
  fs::remove_all(volume_);
  fs::create_directories(path_);
  run_or_throw({binary_, "format", volume_});
}

void GraftFsTarget::mount() {
  std::vector<std::string> command = {binary_, "mount",        volume_,
                                      path_,   "--durability", durability_};
  command.insert(command.end(), mount_options_.begin(), mount_options_.end());
  run_or_throw(command);
  mounted_ = true;
  if (!is_mounted(path_)) {
    throw BenchmarkError(
        fmt::format("'graftfs mount' returned but '{}' is not a mount point", path_.string()));
  }
  server_ = find_server(binary_, path_);
}

void GraftFsTarget::unmount() {
  run_or_throw({binary_, "umount", path_});
  mounted_ = false;
  server_ = 0;
}

void GraftFsTarget::stop() {
  if (mounted_) {
    unmount();
  }
  fs::remove_all(home_);
}

void GraftFsTarget::kill_server() {
  if (server_ == 0) {
    throw BenchmarkError(
        fmt::format("the process that serves '{}' is not to be found in /proc", path_.string()));
  }
  // The daemon is not our child; its descriptor becomes readable when it ends.
  int process = static_cast<int>(syscall(SYS_pidfd_open, server_, 0));
  kill(server_, SIGKILL);
  pollfd ended = {.fd = process, .events = POLLIN};
  bool gone = process >= 0 && poll(&ended, 1, 10000) == 1;
  close(process);
  if (!gone) {
    throw BenchmarkError(fmt::format("process {} did not end within 10 s of SIGKILL", server_));
  }
  detach(path_);
  mounted_ = false;
  server_ = 0;
}

void GraftFsTarget::drop_caches() { drop_mount_caches(path_); }

Json GraftFsTarget::details() const { return {{"name", name()}, {"durability", durability_}}; }

Json GraftFsTarget::info() const {
  std::string text = run_or_throw({binary_, "info", "--json", path_});
  Json parsed = Json::parse(text, nullptr, false);
  if (parsed.is_discarded()) {
    throw BenchmarkError(fmt::format("'graftfs info --json' printed no JSON: {}", text));
  }
  return parsed;
}

NullFsTarget::NullFsTarget(const Context& context, const std::string& label, unsigned threads,
                           bool permissions)
    : Target(context.work / label),
      binary_(context.null_fs),
      threads_(threads),
      permissions_(permissions) {
  if (access(binary_.c_str(), X_OK) != 0) {
    throw BenchmarkError(fmt::format(
        "'{}' is not there; build the target graftfs-null-fs or name the binary with --null-fs",
        binary_.string()));
  }
}

NullFsTarget::~NullFsTarget() { NullFsTarget::stop(); }

void NullFsTarget::start() {
  fs::create_directories(path_);
  std::vector<std::string> command = {binary_, "--threads", std::to_string(threads_), path_};
  if (!permissions_) command.push_back("--no-permissions");
  server_ = spawn(command);
  Stopwatch waited;
  while (!is_mounted(path_)) {
    if (has_ended(server_)) {
      server_ = 0;
      throw BenchmarkError(fmt::format("the null file system ended at once; try '{} {}' by hand",
                                       binary_.string(), path_.string()));
    }
    if (waited.seconds() > kMountTimeoutS) {
      throw BenchmarkError(
          fmt::format("the null file system did not mount within {} s", kMountTimeoutS));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void NullFsTarget::stop() {
  if (server_ != 0) {
    detach(path_);
    kill(server_, SIGTERM);
    wait_for(server_);
    server_ = 0;
  }
  std::error_code ignored;
  fs::remove(path_, ignored);
}

void NullFsTarget::drop_caches() { drop_mount_caches(path_); }

Json NullFsTarget::details() const {
  return {{"name", name()},
          {"threads", threads_},
          {"timeout_s", 0},
          {"default_permissions", permissions_}};
}

DirTarget::DirTarget(const Context& context, const std::string& label)
    : Target(context.work / label) {}

DirTarget::~DirTarget() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string DirTarget::name() const {
  struct statfs answer;
  if (statfs(path_.parent_path().c_str(), &answer) != 0) {
    return "directory";
  }
  switch (answer.f_type) {
    case kExt4Magic:
      return "ext4";
    case kXfsMagic:
      return "xfs";
    case kBtrfsMagic:
      return "btrfs";
    case kTmpfsMagic:
      return "tmpfs";
    default:
      return "directory";
  }
}

void DirTarget::start() {
  fs::remove_all(path_);
  fs::create_directories(path_);
}

void DirTarget::stop() { fs::remove_all(path_); }

void DirTarget::drop_caches() {
  int fd = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    syncfs(fd);
    close(fd);
  }
  std::ofstream file("/proc/sys/vm/drop_caches");
  file << "3" << std::flush;
  if (!file) {
    throw BenchmarkError("cannot write to /proc/sys/vm/drop_caches; run the benchmarks as root");
  }
}

std::unique_ptr<Target> make_null(const Context& context, const std::string& label,
                                  unsigned clients) {
  return std::make_unique<NullFsTarget>(context, label, fastest_null_threads(context, clients));
}

std::unique_ptr<Target> make_subject(const Context& context) {
  if (context.subject == "null") {
    return make_null(context, "subject", 1);
  }
  if (context.subject == "dir") {
    return std::make_unique<DirTarget>(context, "subject");
  }
  return std::make_unique<GraftFsTarget>(context, "subject");
}

// Judged by create+close, stat and unlink, in turns.
unsigned fastest_null_threads(const Context& context, unsigned clients) {
  if (context.null_threads > 0) {
    return context.null_threads;
  }
  if (clients == 1) {
    return 1;
  }
  static std::map<unsigned, unsigned> known;
  if (auto found = known.find(clients); found != known.end()) {
    return found->second;
  }
  const unsigned candidates[] = {1, 4};
  std::vector<double> speed[2];
  uint64_t count = context.quick ? 200 : 20000;
  for (int round = 0; round < (context.quick ? 1 : 5); round++) {
    for (int i = 0; i < 2; i++) {
      NullFsTarget target(context, "calibration", candidates[i]);
      target.start();
      Files files(target.path(), clients, count);
      speed[i].push_back(files.create() * files.stat() * files.unlink());
    }
  }
  unsigned best = median(speed[0]) >= median(speed[1]) ? candidates[0] : candidates[1];
  progress(fmt::format("for {} clients the null file system is faster with {} thread{}", clients,
                       best, best == 1 ? "" : "s"));
  known[clients] = best;
  return best;
}

}  // namespace graftfs::bench
