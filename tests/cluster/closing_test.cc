// On this machine's disk.
#include "closing.h"

namespace graftfs::cli {
namespace {

TEST_F(Closing, EverythingAcknowledgedIsThere) {
  ASSERT_NO_FATAL_FAILURE(serve_and_mount());
  work_under_faults(number_of("GRAFTFS_CLOSING_SECONDS", 16));
  expect_all_there();
}

// It wakes up after its rank was taken: it notices, writes nothing more, and stands by.
TEST_F(Closing, AStoppedProcessWhoseRankWasTakenStandsBy) {
  ASSERT_NO_FATAL_FAILURE(serve_and_mount());
  serve("--standby");
  ASSERT_TRUE(until([&] { return stands_by(servers_.back()->pid()); })) << log();
  start_work();
  ASSERT_TRUE(work_goes_on(1));
  for (const std::string& place : places_)
    run(fmt::format("subtree move {}:{} 1 --wait 2s", volume_, place));
  const pid_t stopped = server_of(1), standby = servers_.back()->pid();
  ASSERT_EQ(stopped, servers_[1]->pid());
  servers_[1]->signal(SIGSTOP);
  ASSERT_TRUE(until([&] { return server_of(1) == standby; }, 60))
      << run("rank list " + volume_).text;
  EXPECT_TRUE(work_goes_on(1));
  servers_[1]->signal(SIGCONT);
  // One that was stopped in the middle of a commit would hold the others up, and was ended.
  auto ended = [&] {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(stopped), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == stopped;
  };
  EXPECT_TRUE(until([&] { return ended() || stands_by(stopped); }))
      << run("rank list " + volume_).text;
  if (ended()) servers_.erase(servers_.begin() + 1);
  EXPECT_TRUE(work_goes_on(1));
  EXPECT_EQ(server_of(1), standby);
  stop_work();
  expect_all_there();
}

// Each directory of a pair is another rank's, in another process, so that renames and links between
// them concern both, and now one and now the other is killed, in the middle of some. Mostly a
// standby takes its rank; where the other one was faster, that has both, and there is soon a second
// again, or a third, where a standby has made itself one.
TEST_F(Closing, WhatTwoProcessesDoTogetherIsDoneWholeOrNotAtAll) {
  for (int i = 0; i < 2; ++i) {
    serve();
    ASSERT_TRUE(until([&] { return runs_a_rank(servers_.back()->pid()); })) << log();
  }
  for (const char* point : {"/a", "/b"}) {
    mounts_.push_back(std::make_unique<Mounting>(volume_, dir_ + point, log_));
    ASSERT_TRUE(until([&] { return mounts_.back()->is_up(); })) << log();
  }
  for (const auto& m : mounts_) {
    const std::string place = m == mounts_[0] ? "calls-a" : "calls-b";
    for (const char* half : {"d0", "d1"}) {
      places_.push_back(fmt::format("/{}/{}", place, half));
      fs::create_directories(m->point() + places_.back());
    }
    workers_.push_back(std::make_unique<CallWorker>(m->point(), place, random_()));
  }
  for (auto& w : workers_) w->start();
  const auto end = steady_clock::now() + seconds(number_of("GRAFTFS_CLOSING_SECONDS", 12));
  for (int turn = 0; steady_clock::now() < end && all_is_well(); ++turn) {
    std::vector<int> ranks;
    ASSERT_TRUE(until([&] { return (ranks = living_ranks(volume_)).size() >= 2; }, 60))
        << run("rank list " + volume_).text;
    for (const std::string& place : places_) {
      auto moved = run(fmt::format("subtree move {}:{} {} --wait 20s", volume_, place,
                                   place.ends_with("0") ? ranks[0] : ranks[1]));
      moves_ += moved.code == 0;
    }
    ASSERT_TRUE(work_goes_on(20)) << log();
    serve("--standby");
    ASSERT_TRUE(until([&] { return stands_by(servers_.back()->pid()); })) << log();
    const int rank = ranks[turn % 2];
    const pid_t victim = server_of(rank);
    auto at = std::find_if(servers_.begin(), servers_.end(),
                           [&](const auto& s) { return s->pid() == victim; });
    ASSERT_NE(at, servers_.end()) << run("rank list " + volume_).text;
    (*at)->signal(SIGKILL);
    (*at)->wait();
    servers_.erase(at);
    kills_++;
    auto taken_or_gone = [&] {
      const json all = list();
      for (const json& r : all.at("ranks"))
        if (r.at("rank") == rank) return r.at("alive") && r.at("state") == "serving";
      return true;
    };
    ASSERT_TRUE(until(taken_or_gone, 60)) << run("rank list " + volume_).text;
    if (living_ranks(volume_).size() < 2) serve();
  }
  fmt::print("{} moves, {} processes killed\n", moves_, kills_);
  EXPECT_GT(moves_, 0);
  EXPECT_GT(kills_, 0);
  EXPECT_TRUE(work_goes_on(20));
  stop_work();
  expect_all_there();
}

}  // namespace
}  // namespace graftfs::cli
