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
  bool over = false;
  TaskScope tasks;  // last

  // Goes in, and stays until it is told.
  Task<void> pass(char name, bool exclusive) {
    Gates::Hold hold(gates, Ino{7}, exclusive);
    if (hold.must_wait()) co_await hold.entered();
    order += name;
    while (!over) co_await bell.next();
  }
  // Goes on until those have run, and then until they and all others have left.
  Task<bool> see(std::string ran) {
    while (order.size() < ran.size()) co_await sleep_for(loop, 0);
    EXPECT_EQ(order, ran);
    over = true;
    bell.ring();
    while (gates.busy(Ino{7}, true)) co_await sleep_for(loop, 0);
    co_return true;
  }
};

TEST_F(GatesTest, WhoIsLetInAndDoesNotRunYetIsNotOvertaken) {
  auto first = std::make_unique<Gates::Hold>(gates, Ino{7}, true);
  tasks.spawn(pass('b', false));
  first.reset();  // the gate is open, and 'b' runs in a later turn
  EXPECT_TRUE(gates.busy(Ino{7}, false));
  tasks.spawn(pass('c', false));
  EXPECT_EQ(order, "");
  EXPECT_TRUE(graftfs::run(loop, see("bc")));
}

TEST_F(GatesTest, ThoseThatShareAreInTogetherAlsoWhenTheyHaveWaited) {
  auto first = std::make_unique<Gates::Hold>(gates, Ino{7}, true);
  for (char name : {'b', 'c', 'd'}) tasks.spawn(pass(name, false));
  tasks.spawn(pass('e', true));
  first.reset();
  EXPECT_TRUE(graftfs::run(loop, see("bcd")));
  EXPECT_EQ(order, "bcde");
}

TEST_F(GatesTest, WhoGivesUpWhenHeIsLetInLetsTheNextIn) {
  auto first = std::make_unique<Gates::Hold>(gates, Ino{7}, true);
  TaskScope given_up;
  given_up.spawn(pass('b', true));
  tasks.spawn(pass('c', false));
  first.reset();
  given_up.cancel_all();
  EXPECT_TRUE(graftfs::run(loop, see("c")));
}

}  // namespace
}  // namespace graftfs
