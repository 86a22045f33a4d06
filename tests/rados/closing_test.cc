// The closing scenario on a real cluster: three processes serve, two mounts work, subtrees move,
// processes are killed; and now and then an OSD dies, and is started again a second later.
#include "../cluster/closing.h"
#include "cluster.h"

namespace graftfs::cli {
namespace {

class ClosingOnRados : public Closing {
 protected:
  void make_volume() override {
    ASSERT_TRUE(cluster().up());
    volume_ = cluster().fresh_volume();
    auto formatted = run("format " + volume_);
    ASSERT_EQ(formatted.code, 0) << formatted.text;
  }
};

TEST_F(ClosingOnRados, EverythingAcknowledgedIsThere) {
  constexpr int kEvery = 15;  // seconds; it is down for one of them, and has to be found again
  ASSERT_NO_FATAL_FAILURE(serve_and_mount());
  int restarts = 0;
  work_under_faults(number_of("GRAFTFS_CLOSING_SECONDS", 24), [&](int second) {
    if (second % kEvery != 7) return;
    const std::string osd = fmt::format("osd.{}", restarts++ % 2);
    cluster().tell("kill " + osd);
    std::this_thread::sleep_for(seconds(1));
    cluster().tell("start " + osd);
  });
  fmt::print("{} OSDs killed and started again\n", restarts);
  EXPECT_GT(restarts, 0);
  expect_all_there();
}

}  // namespace
}  // namespace graftfs::cli
