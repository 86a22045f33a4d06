// Two mounts work on the same few names while the directories move, and processes that serve them
// are killed and stopped: one order of all calls has to explain every answer.
//
// GRAFTFS_HISTORIES_SECONDS says how long (./dev soak --histories --minutes N),
// GRAFTFS_HISTORIES_SEED which random choices.
#include <sys/stat.h>
#include <sys/syscall.h>

#include <random>

#include "linear.h"
#include "mounting.h"

namespace graftfs::cli {
namespace {

using namespace std::chrono;

constexpr char kLease[] = "2s";
constexpr auto kLongStop = milliseconds(3500);  // 5/4 of the lease, and a little
constexpr auto kLongestWait = seconds(120);     // for one answer; then something hangs
constexpr int kServers = 3, kCallers = 4, kSteps = 14;
constexpr int kDirs = 2, kNames = 3;
constexpr int kShared = kDirs * kNames;  // slots; behind them one for each caller

int dir_of(int slot) { return slot < kShared ? slot / kNames : (slot - kShared) % kDirs; }
std::string path_of(int slot) {
  const std::string name =
      slot < kShared ? fmt::format("n{}", slot % kNames) : fmt::format("own{}", slot - kShared);
  return fmt::format("/h/d{}/{}", dir_of(slot), name);
}

int64_t now() { return steady_clock::now().time_since_epoch().count(); }

// One thread's calls on one mount. Each is a single request that changes something, or a single
// question: what the kernel puts together of several answers (a stat: of a name, and of an inode)
// is two calls here, and a link is made to an inode that was looked up before.
class Caller {
 public:
  Caller(std::string mount, int number, uint64_t seed)
      : mount_(std::move(mount)), number_(number), random_(seed) {}
  ~Caller() { forget(); }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  void run() {
    for (int i = 0; i < kSteps && !given_up_; ++i) step();
    forget();
  }
  const std::vector<Op>& ops() const { return ops_; }
  // Answers that say nothing of what happened.
  const std::vector<std::string>& odd() const { return odd_; }

 private:
  int any() { return static_cast<int>(random_() % kShared); }
  std::string at(int slot) const { return mount_ + path_of(slot); }
  void forget() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  // Notes a call; `answers` are those, besides success, that say what was the case.
  template <class Call>
  int note(Op op, std::initializer_list<int> answers, Call call) {
    op.caller = number_;
    op.called = now();
    const int result = call();
    op.err = result < 0 ? errno : 0;
    op.answered = now();
    if (op.err && std::find(answers.begin(), answers.end(), op.err) == answers.end()) {
      op.answered = kNever;
      odd_.push_back(describe(op));
      // It may still be carried out, at any time; what this caller does next is another matter.
    }
    ops_.push_back(op);
    return op.err;
  }

  void step() {
    const int slot = any();
    const std::string path = at(slot);
    const uint64_t what = random_() % 20;
    if (what < 3) {
      note({.kind = Op::make_file, .slot = slot}, {EEXIST},
           [&] { return ::mknod(path.c_str(), S_IFREG | 0644, 0); });
    } else if (what < 5) {
      note({.kind = Op::make_dir, .slot = slot}, {EEXIST},
           [&] { return ::mkdir(path.c_str(), 0755); });
    } else if (what < 7) {
      note({.kind = Op::unlink, .slot = slot}, {ENOENT, EISDIR},
           [&] { return ::unlink(path.c_str()); });
    } else if (what < 8) {
      note({.kind = Op::rmdir, .slot = slot}, {ENOENT, ENOTDIR},
           [&] { return ::rmdir(path.c_str()); });
    } else if (what < 11) {
      look(slot);
      count();
    } else if (what < 13) {
      if (fd_ < 0 || random_() % 2) look(slot);
      link(any());
    } else if (what < 16) {
      const int to = (slot + 1 + static_cast<int>(random_() % (kShared - 1))) % kShared;
      note({.kind = Op::rename, .slot = slot, .to = to}, {ENOENT, EEXIST}, [&] {
        return ::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, at(to).c_str(), RENAME_NOREPLACE);
      });
    } else if (what < 18) {
      replace(slot);
    } else {
      list(static_cast<int>(random_() % kDirs));
    }
  }

  void look(int slot) {
    forget();
    Op op{.kind = Op::look, .slot = slot};
    const int err = note(op, {ENOENT}, [&] {
      fd_ = ::open(at(slot).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
      return fd_;
    });
    if (err) return;
    // Of which inode this is the kernel knows by now; how many names it has, it asks.
    struct stat st;
    if (!ask(st)) return;
    ops_.back().ino = ino_ = st.st_ino;
    ops_.back().is_dir = S_ISDIR(st.st_mode);
  }

  // False: it could not be asked, and the look was no look.
  bool ask(struct stat& st) {
    if (::fstat(fd_, &st) == 0) return true;
    ops_.back().answered = kNever;
    ops_.back().err = errno;
    odd_.push_back(describe(ops_.back()));
    forget();
    return false;
  }

  void count() {
    if (fd_ < 0) return;
    struct stat st;
    Op op{.kind = Op::links, .ino = ino_};
    if (note(op, {}, [&] { return ::fstat(fd_, &st); }) == 0)
      ops_.back().nlink = static_cast<uint32_t>(st.st_nlink);
  }

  void link(int slot) {
    if (fd_ < 0) return;
    struct stat st;
    if (::fstat(fd_, &st) != 0 || S_ISDIR(st.st_mode)) return;
    note({.kind = Op::link, .slot = slot, .ino = ino_}, {EEXIST, ENOENT, ESTALE},
         [&] { return ::linkat(fd_, "", AT_FDCWD, at(slot).c_str(), AT_EMPTY_PATH); });
  }

  // By a file of this caller's own, so that the kernel cannot see two names of one file.
  void replace(int slot) {
    const int own = kShared + number_;
    if (!has_own_) {
      const int err = note({.kind = Op::make_file, .slot = own}, {},
                           [&] { return ::mknod(at(own).c_str(), S_IFREG | 0644, 0); });
      if (err) given_up_ = true;
      if (err) return;
    }
    const int err = note({.kind = Op::replace, .slot = own, .to = slot}, {EISDIR},
                         [&] { return ::rename(at(own).c_str(), at(slot).c_str()); });
    has_own_ = err != 0;
    given_up_ = err != 0 && err != EISDIR;
  }

  // What one request lists: all of so small a directory.
  void list(int dir) {
    const std::string path = fmt::format("{}/h/d{}", mount_, dir);
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return odd_.push_back(fmt::format("open of {}: {}", path, std::strerror(errno)));
    char buffer[16384];
    long length = 0;
    Op op{.kind = Op::list};
    for (int s = 0; s < kShared + kCallers; ++s)
      if (dir_of(s) == dir) op.among |= 1u << s;
    const int err = note(op, {}, [&] {
      length = ::syscall(SYS_getdents64, fd, buffer, sizeof buffer);
      return length < 0 ? -1 : 0;
    });
    ::close(fd);
    if (err) return;
    for (long i = 0; i < length;) {
      unsigned short size = 0;  // behind the number and the offset of a dirent64
      std::memcpy(&size, buffer + i + 16, sizeof size);
      const std::string name = buffer + i + 19;
      for (int s = 0; s < kShared + kCallers; ++s)
        if (dir_of(s) == dir && path_of(s).ends_with("/" + name)) ops_.back().found |= 1u << s;
      i += size;
    }
  }

  const std::string mount_;
  const int number_;
  std::mt19937_64 random_;
  std::vector<Op> ops_;
  std::vector<std::string> odd_;
  int fd_ = -1;
  uint64_t ino_ = 0;
  bool has_own_ = false, given_up_ = false;
};

class Histories : public Serve {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no FUSE here";
    Serve::SetUp();
    seed_ = static_cast<uint64_t>(number_of("GRAFTFS_HISTORIES_SEED", ::getpid()));
    random_.seed(seed_);
    trouble_random_.seed(seed_ + 1);
    fmt::print("seed {}\n", seed_);
    for (int i = 0; i < kServers; ++i) {
      serve("");
      ASSERT_TRUE(until([&] { return runs_a_rank(servers_.back()->pid()); })) << log();
    }
    for (const char* point : {"/a", "/b"}) {
      mounts_.push_back(std::make_unique<Mounting>(volume_, dir_ + point, log_));
      ASSERT_TRUE(until([&] { return mounts_.back()->is_up(); })) << log();
    }
    for (int d = 0; d < kDirs; ++d)
      fs::create_directories(fmt::format("{}/h/d{}", mounts_[0]->point(), d));
  }
  void TearDown() override {
    if (dir_.empty()) return;  // skipped
    over_ = true;
    if (trouble_.joinable()) trouble_.join();
    mounts_.clear();
    servers_.clear();
    Serve::TearDown();
  }

  void serve(const std::string& flags) {
    servers_.push_back(std::make_unique<Serving>(volume_, flags, log_, kLease));
  }
  bool runs_a_rank(pid_t pid) const {
    const json all = list();
    for (const json& r : all.at("ranks"))
      if (r.value("pid", 0) == pid && r.at("alive")) return true;
    return false;
  }

  // -- trouble, in a thread of its own ------------------------------------------------------------

  void pause(milliseconds time) {
    const auto end = steady_clock::now() + time;
    while (!over_ && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(20));
  }
  void make_trouble() {
    int turn = 0;
    auto next = steady_clock::now() + seconds(2);
    while (!over_) {
      pause(milliseconds(50 + trouble_random_() % 400));
      if (steady_clock::now() < next) {
        move_something();
        continue;
      }
      // Each of the three soon, and then in any order.
      const uint64_t what = turn < 3 ? static_cast<uint64_t>(turn) : trouble_random_() % 3;
      turn++;
      if (what == 0) kill_one();
      if (what == 1) stop_one(kLongStop);
      if (what == 2) stop_one(milliseconds(100 + trouble_random_() % 1200));
      next = steady_clock::now() + milliseconds(1500 + trouble_random_() % 2000);
    }
  }
  void move_something() {
    // One of the directories, or one that may be in it, or both.
    std::string what = fmt::format("/h/d{}", trouble_random_() % kDirs);
    const uint64_t kind = trouble_random_() % 4;
    if (kind == 0) what = "/h";
    if (kind == 1) what = path_of(static_cast<int>(trouble_random_() % kShared));
    const std::vector<int> ranks = living_ranks(volume_);
    if (ranks.empty()) return;
    auto moved = run(fmt::format("subtree move {}:{} {} --wait 2s", volume_, what,
                                 ranks[trouble_random_() % ranks.size()]));
    moves_ += moved.code == 0;
  }
  std::unique_ptr<Serving>& any_server() { return servers_[trouble_random_() % servers_.size()]; }
  void kill_one() {
    auto& server = any_server();
    server->signal(SIGKILL);
    server->wait();
    kills_++;
    server =
        std::make_unique<Serving>(volume_, trouble_random_() % 2 ? "--standby" : "", log_, kLease);
  }
  void stop_one(milliseconds time) {
    auto& server = any_server();
    server->signal(SIGSTOP);
    pause(time);
    server->signal(SIGCONT);
    stops_++;
    // One that was stopped in the middle of a commit holds the others up, and is ended by them.
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(server->pid()), &info, WEXITED | WNOHANG | WNOWAIT) ==
            0 &&
        info.si_pid == server->pid())
      server = std::make_unique<Serving>(volume_, "", log_, kLease);
  }

  // -- rounds -------------------------------------------------------------------------------------

  // Nothing is in any of the slots.
  bool clear() {
    for (int slot = 0; slot < kShared + kCallers; ++slot) {
      const std::string path = mounts_[0]->point() + path_of(slot);
      const bool gone = until(
          [&] {
            if (::unlink(path.c_str()) == 0 || errno == ENOENT) return true;
            return errno == EISDIR && (::rmdir(path.c_str()) == 0 || errno == ENOENT);
          },
          static_cast<int>(kLongestWait.count()));
      if (!gone) {
        ADD_FAILURE() << path << " cannot be removed: " << std::strerror(errno);
        return false;
      }
    }
    return true;
  }

  // False: something hangs.
  bool call_all(std::vector<std::unique_ptr<Caller>>& callers) {
    std::atomic<size_t> ended = 0;
    std::vector<std::thread> threads;
    for (auto& caller : callers)
      threads.emplace_back([&, caller = caller.get()] {
        caller->run();
        ended++;
      });
    const auto end = steady_clock::now() + kLongestWait;
    while (ended < callers.size() && steady_clock::now() < end)
      std::this_thread::sleep_for(milliseconds(1));
    const bool all = ended == callers.size();
    EXPECT_TRUE(all) << "somebody has had no answer for " << kLongestWait.count() << " s\n"
                     << run("rank list " + volume_).text << run("subtree list " + volume_).text;
    if (!all)
      for (auto& m : mounts_) m->kill();
    for (auto& thread : threads) thread.join();
    return all;
  }

  // False: that is enough.
  bool round() {
    if (!clear()) return false;
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < kCallers; ++i)
      callers.push_back(std::make_unique<Caller>(
          mounts_[static_cast<size_t>(i) % mounts_.size()]->point(), i, random_()));
    if (!call_all(callers)) return false;
    rounds_++;
    std::vector<Op> history;
    for (const auto& caller : callers) {
      history.insert(history.end(), caller->ops().begin(), caller->ops().end());
      for (const std::string& answer : caller->odd()) odd_.push_back(answer);
    }
    calls_ += history.size();
    const std::string why = why_not_linearizable(std::move(history));
    EXPECT_EQ(why, "") << "in round " << rounds_;
    return why.empty();
  }

  uint64_t seed_ = 0, calls_ = 0;
  int rounds_ = 0, moves_ = 0, kills_ = 0, stops_ = 0;
  std::mt19937_64 random_, trouble_random_;
  std::vector<std::unique_ptr<Serving>> servers_;
  std::vector<std::unique_ptr<Mounting>> mounts_;
  std::vector<std::string> odd_;
  std::atomic<bool> over_{false};
  std::thread trouble_;
};

TEST_F(Histories, OneOrderExplainsWhatBothMountsWereAnswered) {
  const auto end = steady_clock::now() + seconds(number_of("GRAFTFS_HISTORIES_SECONDS", 16));
  trouble_ = std::thread([this] { make_trouble(); });
  while (steady_clock::now() < end && round()) {
  }
  over_ = true;
  trouble_.join();
  fmt::print("{} rounds, {} calls; {} moves, {} processes killed, {} stopped\n", rounds_, calls_,
             moves_, kills_, stops_);
  EXPECT_GT(moves_, 0);
  EXPECT_GT(kills_, 0);
  EXPECT_GT(stops_, 0);
  // No client is at fault here; where the machine was too busy for one, its rank says so.
  if (log().find("was evicted") == std::string::npos)
    EXPECT_THAT(odd_, ::testing::IsEmpty());
  else
    fmt::print("a mount was evicted; {} answers say nothing\n", odd_.size());
  if (HasFailure()) return;
  for (const auto& m : mounts_) {
    auto unmounted = run("umount " + m->point());
    EXPECT_EQ(unmounted.code, 0) << unmounted.text;
  }
  for (auto& s : servers_) s->signal(SIGTERM);
  for (auto& s : servers_) EXPECT_EQ(s->wait(), 0);
  auto checked = run("fsck " + volume_);
  EXPECT_EQ(checked.code, 0) << checked.text;
}

}  // namespace
}  // namespace graftfs::cli
