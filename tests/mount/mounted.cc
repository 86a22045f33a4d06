#include "mounted.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "base/blocking_pool.h"
#include "base/event_loop.h"
#include "client/client.h"
#include "fuse/mount.h"
#include "server/rank.h"
#include "store/local/local_store.h"

namespace graftfs::mounttest {

// Everything of a mount, in one thread.
struct Mounted::Server {
  Server(const std::string& volume, const std::string& mountpoint) {
    std::promise<std::string> ready;
    thread = std::thread([&, volume, mountpoint] { serve(volume, mountpoint, ready); });
    error = ready.get_future().get();
    if (!error.empty()) thread.join();
  }
  ~Server() {
    if (!thread.joinable()) return;
    loop->post([this] { mount->unmount(); });
    thread.join();
  }

  void serve(const std::string& volume, const std::string& mountpoint,
             std::promise<std::string>& ready) {
    loop = std::make_unique<EventLoop>();
    BlockingPool pool("io", 2);
    auto store = LocalStore::open(*loop, pool, volume);
    if (!store) return ready.set_value(describe(store.error()));
    SystemRandom random;
    RankOptions options;
    options.volume = 1;
    options.volume_name = volume;
    auto rank = std::make_unique<Rank>(*loop, **store, options);
    std::unique_ptr<Client> client;
    std::string failure;
    TaskScope tasks;
    tasks.spawn(start(*rank, failure));
    loop->run();
    if (!failure.empty()) return ready.set_value(failure);
    client = std::make_unique<Client>(*loop, *rank, (*store)->data(), random);
    MountOptions mount_options;
    mount_options.mountpoint = mountpoint;
    mount_options.handle_signals = false;
    // Small limits show what becomes of requests that wait for others to end.
    if (const char* few = std::getenv("GRAFTFS_CHECK_MAX_REQUESTS")) {
      mount_options.max_requests = std::strtoul(few, nullptr, 10);
      mount_options.max_data_bytes = 1;
    }
    bool shut_down = false;
    mount_options.shut_down = [&](uint32_t, std::function<void(int)> done) {
      shut_down = true;
      (*store)->shut_down();
      done(0);
    };
    auto mounted = FuseMount::mount(*loop, *client, mount_options);
    if (!mounted) return ready.set_value(describe(mounted.error()));
    mount = std::move(*mounted);
    mount->on_unmounted([this] { loop->stop(); });
    ready.set_value("");
    loop->restart();
    loop->run();
    mount.reset();
    client.reset();
    loop->restart();
    if (shut_down) return;
    tasks.spawn(stop(*rank));
    loop->run();
  }
  Task<void> start(Rank& rank, std::string& failure) {
    auto started = co_await rank.start();
    if (!started) failure = describe(started.error());
    loop->stop();
  }
  Task<void> stop(Rank& rank) {
    auto stopped = co_await rank.stop();
    if (!stopped) fprintf(stderr, "stop: %s\n", describe(stopped.error()).c_str());
    loop->stop();
  }

  std::thread thread;
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<FuseMount> mount;
  std::string error;
};

Mounted& Mounted::get() {
  static Mounted mounted;
  return mounted;
}

Mounted::Mounted() {
  if (const char* dir = std::getenv("GRAFTFS_CHECK_DIR")) {
    dir_ = dir;
    return;
  }
  if (access("/dev/fuse", R_OK | W_OK) != 0 || geteuid() != 0) {
    why_ = "mounting needs root and /dev/fuse";
    return;
  }
  char name[] = "/var/tmp/graftfs-mount-test-XXXXXX";
  if (!mkdtemp(name)) {
    why_ = "no temporary directory";
    return;
  }
  root_ = name;
  chmod(name, 0755);
  volume_ = root_ + "/volume";
  auto formatted = LocalStore::format(volume_);
  if (!formatted) {
    why_ = describe(formatted.error());
    return;
  }
  std::string mountpoint = root_ + "/mnt";
  mkdir(mountpoint.c_str(), 0755);
  server_ = std::make_unique<Server>(volume_, mountpoint);
  if (!server_->error.empty()) {
    ADD_FAILURE() << server_->error;
    why_ = server_->error;
    server_.reset();
    return;
  }
  dir_ = mountpoint;
}

void Mounted::remount() {
  server_.reset();
  server_ = std::make_unique<Server>(volume_, dir_);
  ASSERT_EQ(server_->error, "");
}

Mounted::~Mounted() {
  server_.reset();
  std::error_code ignored;
  if (!root_.empty()) std::filesystem::remove_all(root_, ignored);
}

void MountTest::SetUp() {
  Mounted& m = Mounted::get();
  if (m.dir().empty()) GTEST_SKIP() << m.why();
  static int number = 0;
  auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  dir_ = m.dir() + "/" + info->name() + "-" + std::to_string(getpid()) + "-" +
         std::to_string(++number);
  umask(022);
  ASSERT_EQ(::mkdir(dir_.c_str(), 0755), 0) << strerror(errno);
}

void MountTest::TearDown() {
  if (dir_.empty()) return;
  std::error_code error;
  std::filesystem::remove_all(dir_, error);
  EXPECT_FALSE(error) << error.message();
}

int as_user(unsigned uid, unsigned gid, unsigned group, const std::function<int()>& fn) {
  pid_t pid = fork();
  if (pid == 0) {
    gid_t groups[] = {group};
    if (setgroups(group ? 1 : 0, groups) != 0 || setgid(gid) != 0 || setuid(uid) != 0) _exit(254);
    _exit(fn());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void write_file(const std::string& path, const std::string& bytes, int mode) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode);
  ASSERT_GE(fd, 0) << path << ": " << strerror(errno);
  ASSERT_EQ(::write(fd, bytes.data(), bytes.size()), ssize_t(bytes.size()));
  ASSERT_EQ(::close(fd), 0);
}

}  // namespace graftfs::mounttest
