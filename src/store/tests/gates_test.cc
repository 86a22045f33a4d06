// Who comes first to an ino goes first, whether he had to wait or not.

#include "store/local/gates.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>

#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

using local::Gates;

struct GatesTest : testing::Test {
  EventLoop loop;
  Gates gates{loop};
  std::string order;
  Bell bell{loop};
  bool first = false, rest = false;
  TaskScope tasks;  // last

  // Goes in, and stays until it is told.
  Task<void> pass(char name, bool exclusive, const bool& over) {
    Gates::Hold hold(gates, Ino{7}, exclusive);
    if (hold.must_wait()) co_await hold.entered();
    order += name;
    while (!over) co_await bell.next();
  }
  void tell(bool& over) {
    over = true;
    bell.ring();
  }
};

TEST_F(GatesTest, WhoIsLetInAndDoesNotRunYetIsNotOvertaken) {
  auto first_in_line = std::make_unique<Gates::Hold>(gates, Ino{7}, true);
  tasks.spawn(pass('b', false, rest));
  first_in_line.reset();  // the gate is open, and 'b' runs in a later turn
  EXPECT_TRUE(gates.busy(Ino{7}, false));
  tasks.spawn(pass('c', false, rest));
  EXPECT_EQ(order, "");
  auto all = [&]() -> Task<bool> {
    co_await sleep_for(loop, kMillisecond);
    tell(rest);
    co_await sleep_for(loop, kMillisecond);
    co_return true;
  };
  EXPECT_TRUE(graftfs::run(loop, all()));
  EXPECT_EQ(order, "bc");
  EXPECT_FALSE(gates.busy(Ino{7}, true));
}

TEST_F(GatesTest, ThoseThatShareAreInTogetherAlsoWhenTheyHaveWaited) {
  auto all = [&]() -> Task<bool> {
    tasks.spawn(pass('a', true, first));
    for (char name : {'b', 'c', 'd'}) tasks.spawn(pass(name, false, rest));
    tasks.spawn(pass('e', true, rest));
    tell(first);
    co_await sleep_for(loop, kMillisecond);
    EXPECT_EQ(order, "abcd");
    tell(rest);
    co_await sleep_for(loop, kMillisecond);
    co_return true;
  };
  EXPECT_TRUE(graftfs::run(loop, all()));
  EXPECT_EQ(order, "abcde");
  EXPECT_FALSE(gates.busy(Ino{7}, true));
}

TEST_F(GatesTest, WhoGivesUpWhileHeIsLetInLetsTheNextIn) {
  TaskScope given_up;
  auto all = [&]() -> Task<bool> {
    tasks.spawn(pass('a', true, first));
    given_up.spawn(pass('b', true, rest));
    tasks.spawn(pass('c', false, rest));
    tell(first);
    co_await sleep_for(loop, 0);
    given_up.cancel_all();
    co_await sleep_for(loop, kMillisecond);
    tell(rest);
    co_await sleep_for(loop, kMillisecond);
    co_return true;
  };
  EXPECT_TRUE(graftfs::run(loop, all()));
  EXPECT_EQ(order.back(), 'c');
  EXPECT_FALSE(gates.busy(Ino{7}, true));
}

}  // namespace
}  // namespace graftfs
