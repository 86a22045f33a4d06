// A client whose way to the ranks is cut: the ranks and one mount are in one network namespace,
// another mount in a second, and between them is one wire. What was acknowledged is there
// afterwards, whether the cut was short or the client was evicted meanwhile.
#include <sched.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "mounting.h"
#include "workload.h"

namespace graftfs::cli {
namespace {

using namespace std::chrono;

constexpr char kAddress[] = "10.77.0.1", kOther[] = "10.77.0.2";
constexpr int kWaitSeconds = 60;

// A network of its own, for as long as this object lives: a process that sleeps in it.
class Network {
 public:
  Network() {
    int ready[2];
    if (::pipe(ready) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const bool apart = ::unshare(CLONE_NEWNET) == 0;
      [[maybe_unused]] auto told = ::write(ready[1], apart ? "y" : "n", 1);
      for (;;) ::pause();
    }
    char answer = 'n';
    ::close(ready[1]);
    [[maybe_unused]] auto heard = ::read(ready[0], &answer, 1);
    ::close(ready[0]);
    made_ = answer == 'y';
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  ~Network() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  bool made() const { return made_; }
  pid_t pid() const { return pid_; }
  // What starts a command in it.
  std::string enter() const { return fmt::format("nsenter --net=/proc/{}/ns/net", pid_); }
  bool run(const std::string& command) const {
    return std::system(fmt::format("{} {}", enter(), command).c_str()) == 0;
  }

 private:
  pid_t pid_ = 0;
  bool made_ = false;
};

// One call after the other on a few names of its own. It knows what each was answered; after EIO
// it looks, and finds what was before or what should be, whole.
class Notes final : public Worker {
 public:
  Notes(const std::string& mount, std::string place, uint64_t seed, bool may_be_evicted)
      : Worker(mount + "/" + place),
        home_(mount + "/" + place + "/"),
        place_(std::move(place)),
        random_(seed),
        may_be_evicted_(may_be_evicted) {}
  ~Notes() override { stop(); }

  std::string check(const std::string& mount) const override {
    const std::string home = mount + "/" + place_ + "/";
    Files there;
    for (const auto& entry : fs::directory_iterator(home))
      there[entry.path().filename()] = *read(home + entry.path().filename().string());
    for (const auto& [name, bytes] : known_) {
      if (!there.contains(name)) return home + name + " was made and is not there";
      if (there[name] != bytes) return home + name + " holds other bytes than were written";
    }
    for (const auto& [name, bytes] : there)
      if (!known_.contains(name)) return home + name + " was removed and is there";
    return {};
  }
  int unsure() const { return unsure_; }

 private:
  using Files = std::map<std::string, std::string>;

  static std::optional<std::string> read(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return std::nullopt;
    std::string bytes(1 << 16, 0);
    const ssize_t n = ::read(fd, bytes.data(), bytes.size());
    const int err = errno;
    ::close(fd);
    errno = err;
    if (n < 0) return std::nullopt;
    bytes.resize(static_cast<size_t>(n));
    return bytes;
  }

  void run() override {
    while (!ending()) {
      step();
      answered();
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  void step() {
    const std::string name = fmt::format("n{}", random_() % 8), path = home_ + name;
    const bool there = known_.contains(name);
    Files after = known_;
    int result = 0;
    std::string what;
    std::set<std::string> names = {name};
    switch (there ? random_() % 5 : 5) {
      case 0: {
        what = "removing ";
        after.erase(name);
        result = ::unlink(path.c_str());
        break;
      }
      case 1: {
        const std::string other = fmt::format("n{}", random_() % 8);
        if (known_.contains(other)) return;
        what = "renaming ";
        names.insert(other);
        after[other] = after.extract(name).mapped();
        result = ::rename(path.c_str(), (home_ + other).c_str());
        break;
      }
      case 2: {
        const auto bytes = read(path);
        if (bytes && *bytes != known_[name]) return fail(path + " holds other bytes");
        if (!bytes && (errno != EIO || !may_be_evicted_))
          fail(fmt::format("reading {}: {}", path, std::strerror(errno)));
        return;
      }
      case 5:
        what = "making ";
        after[name] = "";
        result = ::mknod(path.c_str(), S_IFREG | 0644, 0);
        break;
      default: {
        what = "appending to ";
        const std::string line = fmt::format("{} {}\n", name, count_++);
        after[name] += line;
        const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
        result = fd;
        if (fd >= 0) {
          result =
              ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) ? 0 : -1;
          const int err = errno;
          ::close(fd);
          errno = err;
        }
      }
    }
    if (result < 0) {
      if (errno != EIO || !may_be_evicted_)
        return fail(fmt::format("{}{}: {}", what, path, std::strerror(errno)));
      return find_out(what + path, names, std::move(after));
    }
    known_ = std::move(after);
  }

  // The session that had asked for it is over: nothing changes any more.
  void find_out(const std::string& what, const std::set<std::string>& names, Files after) {
    unsure_++;
    Files now = known_;
    for (const std::string& name : names) {
      now.erase(name);
      std::optional<std::string> bytes;
      int err = EIO;
      for (int i = 0; i < 600 && err == EIO; ++i) {
        bytes = read(home_ + name);
        err = bytes ? 0 : errno;
        if (err == EIO) std::this_thread::sleep_for(milliseconds(50));
      }
      if (bytes) now[name] = *bytes;
      if (err != 0 && err != ENOENT)
        return fail(fmt::format("after {}: reading {}: {}", what, name, std::strerror(err)));
    }
    if (now != known_ && now != after)
      return fail(fmt::format("after {} was answered EIO, it is neither done nor left", what));
    known_ = std::move(now);
  }

  std::string home_, place_;
  std::mt19937_64 random_;
  const bool may_be_evicted_;
  Files known_;
  int count_ = 0;
  std::atomic<int> unsure_{0};
};

class Cut : public Serve {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no FUSE here";
    if (::geteuid() != 0) GTEST_SKIP() << "only root can make network namespaces";
    Serve::SetUp();
    near_ = std::make_unique<Network>();
    far_ = std::make_unique<Network>();
    ASSERT_TRUE(near_->made() && far_->made()) << "no network namespace could be made";
    ASSERT_TRUE(
        near_->run(fmt::format("ip link add wire type veth peer name wire netns {}", far_->pid())));
    for (const auto& [network, address] :
         {std::pair(near_.get(), kAddress), {far_.get(), kOther}}) {
      ASSERT_TRUE(network->run(fmt::format("ip address add {}/24 dev wire", address)));
      ASSERT_TRUE(network->run("ip link set lo up"));
    }
    ASSERT_TRUE(far_->run("ip link set wire up"));
    join();
  }
  void TearDown() override {
    if (dir_.empty()) return;  // skipped
    if (near_ && near_->made()) near_->run("ip link set wire up");
    for (auto& m : mounts_) m->kill();
    workers_.clear();
    mounts_.clear();
    servers_.clear();
    far_.reset();
    near_.reset();
    if (HasFailure())
      for (const char* name : {"/near.log", "/far.log"})
        std::fprintf(stderr, "--- %s\n%s", name, text_of(name).c_str());
    Serve::TearDown();
  }
  std::string text_of(const std::string& name) const {
    std::ifstream in(dir_ + name);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }

  void cut() { ASSERT_TRUE(near_->run("ip link set wire down")); }
  void join() { ASSERT_TRUE(near_->run("ip link set wire up")); }

  // Two ranks over tcp, on this side of the wire or one at each end, and a mount at each end.
  void serve_and_mount(const std::string& lease, bool apart = false) {
    auto serve = [&](const Network& network, const char* address, int ranks) {
      servers_.push_back(std::make_unique<Serving>(
          volume_, fmt::format("--ranks {} --listen tcp:{}:4000", ranks, address), log_, lease,
          network.enter()));
    };
    serve(*near_, kAddress, apart ? 1 : 2);
    ASSERT_TRUE(until([&] { return server_of(0) != 0; })) << log();
    if (apart) serve(*far_, kOther, 1);
    ASSERT_TRUE(until([&] { return server_of(1) != 0; })) << log();
    for (const auto& [network, name] : {std::pair(near_.get(), "near"), {far_.get(), "far"}}) {
      mounts_.push_back(std::make_unique<Mounting>(volume_, dir_ + (mounts_.empty() ? "/a" : "/b"),
                                                   dir_ + "/" + name + ".log", network->enter()));
      ASSERT_TRUE(until([&] { return mounts_.back()->is_up(); }))
          << text_of("/near.log") << text_of("/far.log");
    }
    // A directory of each rank for each mount, and a pair of them.
    for (const char* place : {"near-0", "near-1", "far-0", "far-1", "pair/d0", "pair/d1"})
      fs::create_directories(near() + "/" + place);
    for (const char* place : {"near-1", "far-1", "pair/d1"})
      ASSERT_EQ(::system(fmt::format("{} {} subtree move {}:/{} 1 --wait 20s", near_->enter(),
                                     program(), volume_, place)
                             .c_str()),
                0)
          << log();
  }
  void start_work(bool far_is_evicted) {
    for (int rank : {0, 1}) {
      workers_.push_back(
          std::make_unique<Notes>(near(), fmt::format("near-{}", rank), 1 + rank, false));
      workers_.push_back(
          std::make_unique<Notes>(far(), fmt::format("far-{}", rank), 11 + rank, far_is_evicted));
    }
    for (auto& w : workers_) w->start();
    ASSERT_TRUE(goes_on());
  }
  // Until each worker of that mount (of both, where none is named) has done something.
  bool goes_on(const std::string& mount = "") {
    std::vector<uint64_t> before;
    for (const auto& w : workers_) before.push_back(w->done());
    return until(
        [&] {
          for (size_t i = 0; i < workers_.size(); ++i)
            if (workers_[i]->name().starts_with(mount) && workers_[i]->failure().empty() &&
                workers_[i]->done() < before[i] + 10)
              return false;
          return true;
        },
        kWaitSeconds);
  }
  void expect_all_there() {
    for (auto& w : workers_) w->stop();
    for (const auto& w : workers_) {
      EXPECT_EQ(w->failure(), "");
      for (const auto& m : mounts_) EXPECT_EQ(w->check(m->point()), "") << "on " << m->point();
      const auto* notes = dynamic_cast<const Notes*>(w.get());
      fmt::print("{}: {} results, longest without one {:.1f} s, {} unsure\n", w->name(), w->done(),
                 static_cast<double>(w->longest().count()) / 1000, notes ? notes->unsure() : 0);
    }
    if (HasFailure()) return;
    EXPECT_EQ(difference(near(), far()), "");
    for (const auto& m : mounts_) EXPECT_EQ(run("umount " + m->point()).code, 0);
    for (auto& s : servers_) s->signal(SIGTERM);
    for (auto& s : servers_) EXPECT_EQ(s->wait(), 0);
    auto checked = run("fsck " + volume_);
    EXPECT_EQ(checked.code, 0) << checked.text;
  }
  const std::string& near() const { return mounts_[0]->point(); }
  const std::string& far() const { return mounts_[1]->point(); }

  std::unique_ptr<Network> near_, far_;
  std::vector<std::unique_ptr<Serving>> servers_;
  std::vector<std::unique_ptr<Mounting>> mounts_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Shorter than the lease: it is only a delay, also for who changes what the far one has in its
// cache.
TEST_F(Cut, AShortCutIsADelay) {
  ASSERT_NO_FATAL_FAILURE(serve_and_mount("5s"));
  ASSERT_NO_FATAL_FAILURE(start_work(false));
  for (int i = 0; i < 3; ++i) {
    cut();
    EXPECT_TRUE(goes_on(near())) << "they have nothing to do with the wire";
    std::this_thread::sleep_for(milliseconds(1000));
    join();
    EXPECT_TRUE(goes_on());
  }
  EXPECT_THAT(log(), ::testing::Not(::testing::HasSubstr("was evicted")));
  expect_all_there();
}

// Neither is dead: both are heard of through the volume. What concerns both waits.
TEST_F(Cut, RanksThatDoNotReachEachOtherWait) {
  ASSERT_NO_FATAL_FAILURE(serve_and_mount("5s", true));
  // Renames and links from one's directory into the other's.
  workers_.push_back(std::make_unique<CallWorker>(near(), "pair", 21));
  ASSERT_NO_FATAL_FAILURE(start_work(false));
  for (int i = 0; i < 3; ++i) {
    cut();
    std::this_thread::sleep_for(milliseconds(1500));
    join();
    EXPECT_TRUE(goes_on());
  }
  EXPECT_THAT(log(), ::testing::Not(::testing::HasSubstr("was evicted")));
  EXPECT_THAT(log(), ::testing::Not(::testing::HasSubstr("was taken")));
  expect_all_there();
}

TEST_F(Cut, WhoIsCutOffForLongIsEvictedAndSaysSo) {
  ASSERT_NO_FATAL_FAILURE(serve_and_mount("1s"));
  // The far one has a lock, and what it is about in its cache.
  const std::string name = "/locked";
  ASSERT_EQ(::mknod((far() + name).c_str(), S_IFREG | 0644, 0), 0);
  const int there = ::open((far() + name).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(there, 0);
  ASSERT_EQ(::flock(there, LOCK_EX), 0);
  ASSERT_EQ(::write(there, "far", 3), 3);
  ASSERT_NO_FATAL_FAILURE(start_work(true));
  cut();
  // Who waits for the lock gets it, and writes under it.
  const int here = ::open((near() + name).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(here, 0);
  const auto before = steady_clock::now();
  ASSERT_EQ(::flock(here, LOCK_EX), 0);
  EXPECT_LT(steady_clock::now() - before, seconds(20)) << "much more than the lease";
  ASSERT_EQ(::pwrite(here, "near", 4, 0), 4);
  EXPECT_TRUE(until([&] { return log().find("was evicted") != std::string::npos; }));
  EXPECT_TRUE(goes_on(near()));
  join();
  EXPECT_TRUE(goes_on()) << "with a new session";
  EXPECT_TRUE(
      until([&] { return text_of("/far.log").find("evicted by rank 0") != std::string::npos; }));
  // What it had open under its lock is void until it is closed.
  char bytes[16];
  EXPECT_EQ(::pwrite(there, "FAR", 3, 0), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::pread(there, bytes, sizeof bytes, 0), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::flock(there, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EIO);
  ::close(there);
  const int again = ::open((far() + name).c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(again, 0);
  EXPECT_EQ(::pread(again, bytes, sizeof bytes, 0), 4);
  EXPECT_EQ(std::string(bytes, 4), "near");
  EXPECT_EQ(::flock(again, LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  ::close(here);
  EXPECT_EQ(::flock(again, LOCK_EX), 0);
  ::close(again);
  expect_all_there();
}

}  // namespace
}  // namespace graftfs::cli
