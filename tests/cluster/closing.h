#pragma once
// Three processes serve a volume, two mounts work on it, subtrees move every second, and a random
// process is killed every five: at the end everything that was acknowledged is there.
//
// GRAFTFS_CLOSING_SECONDS says how long (./dev soak --closing --minutes N), GRAFTFS_CLOSING_SEED
// which random choices.
#include <functional>

#include "mounting.h"
#include "workload.h"

namespace graftfs::cli {

using namespace std::chrono;

// Long, because this machine may be busy; one that is killed is known to be dead at once.
constexpr char kLease[] = "3s";
constexpr auto kLongestWait = seconds(120);  // for one answer; then something hangs
constexpr int kServers = 3;

class Closing : public Serve {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "there is no FUSE here";
    Serve::SetUp();
    seed_ = static_cast<uint64_t>(number_of("GRAFTFS_CLOSING_SEED", ::getpid()));
    random_.seed(seed_);
    fmt::print("seed {}\n", seed_);
    tree_ = std::make_unique<SourceTree>(dir_, 6, 12, seed_);
  }
  void TearDown() override {
    if (dir_.empty()) return;  // skipped
    for (auto& m : mounts_) m->kill();
    workers_.clear();
    mounts_.clear();
    servers_.clear();
    Serve::TearDown();
  }

  void serve_and_mount() {
    for (int i = 0; i < kServers; ++i) {
      serve();
      ASSERT_TRUE(until([&] { return runs_a_rank(servers_.back()->pid()); })) << log();
    }
    for (const char* point : {"/a", "/b"}) {
      mounts_.push_back(std::make_unique<Mounting>(volume_, dir_ + point, log_));
      ASSERT_TRUE(until([&] { return mounts_.back()->is_up(); })) << log();
    }
  }
  void serve(const std::string& flags = "") {
    servers_.push_back(std::make_unique<Serving>(volume_, flags, log_, kLease));
  }
  bool runs_a_rank(pid_t pid) const {
    const json all = list();
    for (const json& r : all.at("ranks"))
      if (r.value("pid", 0) == pid && r.at("alive")) return true;
    return false;
  }
  // Every worker in a directory of its own, all of which move.
  void start_work() {
    const std::string& a = mounts_[0]->point();
    for (const auto& m : mounts_) {
      const std::string mark = m == mounts_[0] ? "a" : "b";
      for (const std::string& place : {"tree-" + mark, "calls-" + mark}) {
        fs::create_directory(a + "/" + place);
        places_.push_back("/" + place);
      }
      for (const char* half : {"/d0", "/d1"}) {
        const std::string place = "/calls-" + mark + half;
        fs::create_directory(a + place);
        places_.push_back(place);
      }
      workers_.push_back(std::make_unique<TreeWorker>(m->point(), "tree-" + mark, *tree_));
      workers_.push_back(std::make_unique<CallWorker>(m->point(), "calls-" + mark, random_()));
    }
    for (auto& w : workers_) w->start();
  }
  void move_something() {
    const auto ranks = living_ranks(volume_);
    if (ranks.empty()) return;
    const std::string& place = places_[random_() % places_.size()];
    auto moved = run(fmt::format("subtree move {}:{} {} --wait 2s", volume_, place,
                                 ranks[random_() % ranks.size()]));
    moves_ += moved.code == 0;
    moves_tried_++;
  }
  // The next one takes what is left behind, or makes a rank of its own.
  void kill_one() {
    const size_t i = random_() % servers_.size();
    servers_[i]->signal(SIGKILL);
    servers_[i]->wait();
    servers_.erase(servers_.begin() + static_cast<ptrdiff_t>(i));
    kills_++;
    serve(random_() % 2 ? "--standby" : "");
  }
  // False: somebody failed, or hangs.
  bool all_is_well() {
    for (const auto& w : workers_) {
      if (!w->failure().empty()) {
        ADD_FAILURE() << w->failure();
        return false;
      }
      if (w->silent() < kLongestWait) continue;
      ADD_FAILURE() << w->name() << " has had no answer for " << kLongestWait.count() << " s\n"
                    << run("rank list " + volume_).text << run("subtree list " + volume_).text;
      return false;
    }
    return true;
  }
  // For so many seconds something moves every second, and a process dies every fifth.
  void work_under_faults(long length, const std::function<void(int second)>& more = nullptr) {
    start_work();
    const auto begin = steady_clock::now();
    auto next_kill = begin + seconds(5);
    int second = 0;
    for (auto next = begin; steady_clock::now() < begin + seconds(length) && all_is_well();) {
      next += seconds(1);
      move_something();
      if (steady_clock::now() >= next_kill) {
        kill_one();
        next_kill += seconds(5);
      }
      if (more) more(++second);
      std::this_thread::sleep_until(next);
    }
    fmt::print("{} of {} moves, {} processes killed\n", moves_, moves_tried_, kills_);
    stop_work();
    EXPECT_GT(kills_, 0);
    EXPECT_GT(moves_, 0);
  }
  // Until every worker has done that much since.
  bool work_goes_on(uint64_t steps) {
    std::vector<uint64_t> before;
    for (const auto& w : workers_) before.push_back(w->done());
    return until(
        [&] {
          for (size_t i = 0; i < workers_.size(); ++i)
            if (workers_[i]->done() < before[i] + steps && workers_[i]->failure().empty())
              return false;
          return true;
        },
        static_cast<int>(kLongestWait.count()));
  }
  void stop_work() {
    std::vector<std::thread> stopping;
    std::atomic<size_t> stopped = 0;
    for (auto& w : workers_)
      stopping.emplace_back([&, worker = w.get()] {
        worker->stop();
        stopped++;
      });
    const bool all =
        until([&] { return stopped == workers_.size(); }, static_cast<int>(kLongestWait.count()));
    EXPECT_TRUE(all) << "somebody waits for an answer\n"
                     << run("rank list " + volume_).text << run("subtree list " + volume_).text;
    if (!all)
      for (auto& m : mounts_) m->kill();
    for (auto& t : stopping) t.join();
    for (const auto& w : workers_)
      fmt::print("{}: {} results, longest without one {:.1f} s\n", w->name(), w->done(),
                 static_cast<double>(w->longest().count()) / 1000);
  }
  // Every acknowledged operation is there, both mounts agree, and nothing is left over.
  void expect_all_there() {
    ASSERT_TRUE(all_is_well());
    for (const auto& w : workers_)
      for (const auto& m : mounts_) EXPECT_EQ(w->check(m->point()), "") << "on " << m->point();
    EXPECT_EQ(difference(mounts_[0]->point(), mounts_[1]->point()), "");
    if (HasFailure()) return;
    for (const auto& m : mounts_) {
      auto unmounted = run("umount " + m->point());
      EXPECT_EQ(unmounted.code, 0) << unmounted.text;
    }
    for (auto& s : servers_) s->signal(SIGTERM);
    for (auto& s : servers_) EXPECT_EQ(s->wait(), 0);
    auto checked = run("fsck " + volume_);
    EXPECT_EQ(checked.code, 0) << checked.text;
    fmt::print("{}", checked.text);
  }

  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::unique_ptr<SourceTree> tree_;
  std::vector<std::unique_ptr<Serving>> servers_;
  std::vector<std::unique_ptr<Mounting>> mounts_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::string> places_;
  int moves_ = 0, moves_tried_ = 0, kills_ = 0;
};

}  // namespace graftfs::cli
