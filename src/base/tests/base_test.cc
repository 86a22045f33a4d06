#include <gtest/gtest.h>

#include <future>
#include <set>

#include "base/blocking_pool.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/event_loop.h"
#include "base/fault.h"
#include "base/result.h"
#include "base/wait.h"

namespace graftfs {
namespace {

TEST(Crc32c, KnownAnswer) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c("6789", crc32c("12345")), 0xe3069283u);
}

TEST(Bytes, RoundTripAtTheEdges) {
  std::string buffer;
  ByteWriter w(buffer);
  const uint64_t values[] = {0, 127, 128, 16383, 16384, UINT64_MAX};
  for (uint64_t v : values) w.varint(v);
  w.svarint(-1);
  w.svarint(INT64_MIN);
  w.string("name");
  ByteReader r(buffer);
  for (uint64_t v : values) EXPECT_EQ(r.varint(), v);
  EXPECT_EQ(r.svarint(), -1);
  EXPECT_EQ(r.svarint(), INT64_MIN);
  EXPECT_EQ(r.string(), "name");
  EXPECT_TRUE(r.done());
}

TEST(Bytes, ReadingPastTheEndFailsForGood) {
  ByteReader r(
      std::string_view("\x05"
                       "ab",
                       3));
  EXPECT_EQ(r.string(), "");
  EXPECT_FALSE(r.ok());
  EXPECT_EQ(r.u64(), 0u);
  EXPECT_FALSE(r.done());
  // An 11-byte varint is not one.
  std::string overlong(11, '\xff');
  ByteReader s(overlong);
  s.varint();
  EXPECT_FALSE(s.ok());
}

Task<int> add(int a, int b) { co_return a + b; }
Task<int> nested(int depth) {
  if (depth == 0) co_return 0;
  int below = co_await nested(depth - 1);
  co_return below + 1;
}

// Who posts to an executor has done so before it goes, whatever else the pool still does.
TEST(BlockingPool, IsDrainedOfOneExecutorsJobs) {
  BlockingPool pool("test", 2);
  std::promise<void> others_end;
  auto other = std::make_unique<EventLoop>();
  pool.submit([&] { others_end.get_future().wait(); }, other.get());
  int posted = 0;
  {
    EventLoop loop;
    for (int i = 0; i < 100; ++i) pool.submit([&] { loop.post([&posted] { posted++; }); }, &loop);
    pool.drain(loop);
    for (int turn = 0; turn < 3; ++turn) {
      loop.post([] {});
      loop.run_one();
    }
  }
  EXPECT_EQ(posted, 100);
  others_end.set_value();
  pool.drain(*other);
}

TEST(Task, ChainsPoolAndTimer) {
  EventLoop loop;
  BlockingPool pool("test", 1);
  int sum = 0;
  TaskScope scope;
  auto main = [](EventLoop& l, BlockingPool& p, int& out) -> Task<void> {
    out = co_await add(1, 2);
    out += co_await nested(1000);
    auto job = [] { return 39; };
    out += co_await p.run(l, job);
    co_await sleep_for(l, kMillisecond);
    l.stop();
  };
  scope.spawn(main(loop, pool, sum));
  loop.run();
  EXPECT_EQ(sum, 1042);
  EXPECT_TRUE(scope.empty());
}

TEST(Task, DestroyingAScopeDestroysWhatIsSuspended) {
  struct Witness {
    bool& gone;
    ~Witness() { gone = true; }
  };
  EventLoop loop;
  bool gone = false;
  Promised<bool> never(loop);
  {
    TaskScope scope;
    auto main = [](Promised<bool> p, bool& out) -> Task<void> {
      Witness w{out};
      co_await p;
    };
    scope.spawn(main(never, gone));
    EXPECT_FALSE(gone);
  }
  EXPECT_TRUE(gone);
  never.set(true);  // wakes nobody
}

TEST(Fault, SitesAreListedBeforeTheyAreHit) {
  auto named = [](const char* name) -> fault::Site* {
    for (auto* site : fault::sites())
      if (std::string(site->name) == name) return site;
    return nullptr;
  };
  ASSERT_NE(named("base.test.mark"), nullptr);
  EXPECT_EQ(named("base.test.mark")->hits, 0u);
  MARK("base.test.mark");
  EXPECT_EQ(named("base.test.mark")->hits, 1u);
  fault::set_handler([](void*, const fault::Site&) { throw fault::Killed{}; }, nullptr);
  EXPECT_THROW(KILL_POINT("base.test.kill"), fault::Killed);
  fault::set_handler(nullptr, nullptr);
}

TEST(Wait, ATasksResultComesBackAndOthersRunMeanwhile) {
  EventLoop loop;
  bool other = false;
  loop.post([&other] { other = true; });
  auto slow = [](EventLoop& l) -> Task<int> {
    co_await sleep_for(l, kMillisecond);
    co_return 42;
  };
  EXPECT_EQ(wait_for(loop, slow(loop)), 42);
  EXPECT_TRUE(other);
  auto at_once = []() -> Task<std::string> { co_return "now"; };
  EXPECT_EQ(wait_for(loop, at_once()), "now");
}

TEST(Bell, WakesAllWhoWaitAndNobodyElse) {
  EventLoop loop;
  Bell bell(loop);
  int rung = 0;
  bool go_on = false;
  auto waits = [](Bell& b, int& n, bool& until) -> Task<void> {
    while (!until) {
      co_await b.next();
      ++n;
    }
  };
  TaskScope scope;
  bell.ring();  // nobody is there
  scope.spawn(waits(bell, rung, go_on));
  scope.spawn(waits(bell, rung, go_on));
  loop.post([&] { bell.ring(); });
  while (rung < 2) loop.run_one();
  EXPECT_FALSE(scope.empty());
  go_on = true;
  bell.ring();
  while (!scope.empty()) loop.run_one();
  EXPECT_EQ(rung, 4);
}

}  // namespace
}  // namespace graftfs
