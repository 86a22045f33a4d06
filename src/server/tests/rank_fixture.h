#pragma once
// A rank over a store in memory, on a loop that runs until an answer has come.

#include <gtest/gtest.h>

#include "base/event_loop.h"
#include "base/wait.h"
#include "server/rank.h"
#include "store/memory/memory_store.h"

namespace graftfs {

class RankFixture : public ::testing::Test {
 protected:
  void SetUp() override { start(); }
  void TearDown() override {
    if (rank_) stop();
  }

  void start() {
    store_ = std::make_unique<MemoryStore>(loop_, disk_, &random_);
    rank_ = std::make_unique<Rank>(loop_, *store_, options_);
    auto result = wait(rank_->start());
    ASSERT_TRUE(result.has_value()) << describe(result.error());
    rank_->open_session(kSession);
  }
  void stop() {
    auto result = wait(rank_->stop());
    EXPECT_TRUE(result.has_value()) << describe(result.error());
    rank_.reset();
    store_.reset();
  }
  // The process dies; what was only written stays (or not).
  void crash(CrashKind kind = CrashKind::process_death) {
    rank_.reset();
    store_.reset();
    disk_->crash(random_, kind);
  }

  template <class T>
  T wait(Task<T> task) {
    return wait_for(loop_, std::move(task));
  }
  Task<bool> pause() {
    co_await sleep_for(loop_, kMillisecond);
    co_return true;
  }
  Reply call(Args args, Credentials cred = {}, SessionId session = kSession) {
    Request request;
    request.session = session;
    request.seq = ++seq_;
    request.oldest = seq_;
    request.cred = std::move(cred);
    request.args = std::move(args);
    return submit(std::move(request));
  }
  Reply submit(Request request) {
    std::optional<Reply> out;
    rank_->submit(std::move(request), [&out](Reply reply) { out = std::move(reply); });
    while (!out) loop_.run_one();
    return std::move(*out);
  }
  Ino mkdir(Ino dir, const std::string& name) {
    Reply reply = call(MkdirArgs{dir, name, 0755, 0});
    EXPECT_EQ(reply.err, 0) << name;
    return reply.stat.ino;
  }
  Ino create(Ino dir, const std::string& name) {
    Reply reply = call(CreateArgs{dir, name, 0644, 0, true, 0});
    EXPECT_EQ(reply.err, 0) << name;
    call(ReleaseArgs{reply.stat.ino, 1});
    return reply.stat.ino;
  }

  static constexpr SessionId kSession{7};
  class FixedRandom final : public Random {
   public:
    uint64_t next() override {
      return state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    }

   private:
    uint64_t state_ = 1;
  };
  EventLoop loop_;
  FixedRandom random_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  RankOptions options_;
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Rank> rank_;
  uint64_t seq_ = 0;
};

}  // namespace graftfs
