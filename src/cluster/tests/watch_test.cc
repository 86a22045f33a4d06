// Leases and death, on clocks that a test moves.

#include "cluster/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace graftfs::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
constexpr Nanos kLease = 2000;

TEST(Lease, RunsFromTheBeginningOfTheBeat) {
  Lease lease(kLease);
  EXPECT_FALSE(lease.valid(0));
  lease.renewed(100);
  EXPECT_TRUE(lease.valid(100 + kLease - 1));
  EXPECT_FALSE(lease.valid(100 + kLease));
  EXPECT_TRUE(lease.fresh(100 + kLease * 3 / 4 - 1));
  EXPECT_FALSE(lease.fresh(100 + kLease * 3 / 4));
  // A machine that was suspended goes on if the fence is still its own.
  lease.renewed(90'000);
  EXPECT_TRUE(lease.valid(90'001));
  // An answer that comes late makes nothing shorter.
  lease.renewed(50);
  EXPECT_TRUE(lease.valid(90'001));
  lease.lost();
  EXPECT_FALSE(lease.valid(90'001));
  lease.renewed(95'000);
  EXPECT_FALSE(lease.valid(95'001)) << "lost for good";
}

TEST(Watch, ANodeThatIsSilentForFiveQuartersIsDead) {
  Watch watch(kLease);
  EXPECT_THAT(watch.look(0, {{1, 10}, {2, 10}}), IsEmpty());
  EXPECT_THAT(watch.look(2000, {{1, 10}, {2, 11}}), IsEmpty());
  EXPECT_THAT(watch.look(2499, {{1, 10}, {2, 11}}), IsEmpty());
  EXPECT_THAT(watch.look(2500, {{1, 10}, {2, 11}}), ElementsAre(1));
  EXPECT_TRUE(watch.is_dead(1));
  EXPECT_TRUE(watch.is_alive(2));
  EXPECT_EQ(watch.last_beat(1), 10u);
  EXPECT_EQ(watch.dead_since(1), 2500);
  EXPECT_THAT(watch.look(2600, {{1, 10}, {2, 12}}), IsEmpty()) << "said once";
  EXPECT_THAT(watch.look(2700, {{1, 11}, {2, 12}}), IsEmpty());
  EXPECT_TRUE(watch.is_alive(1)) << "it was stopped";
  EXPECT_THAT(watch.look(5200, {{1, 11}, {2, 12}}), ElementsAre(1, 2));
  EXPECT_THAT(watch.look(5300, {{2, 12}}), IsEmpty());
  EXPECT_TRUE(watch.is_dead(1)) << "nobody knows it";
}

TEST(Watch, AFreeLockIsProof) {
  Watch watch(kLease);
  watch.look(100, {{1, 10}});
  watch.prove_dead(1);
  EXPECT_TRUE(watch.is_dead(1));
  EXPECT_EQ(watch.dead_since(1), 100);
  EXPECT_THAT(watch.look(9000, {{1, 10}}), IsEmpty());
  watch.prove_dead(77);
}

// An observer that was itself stopped sees the new beat before it counts the time.
TEST(Watch, AnObserverThatSleptCallsNobodyDeadWhoHasBeaten) {
  Watch watch(kLease);
  watch.look(0, {{1, 10}});
  EXPECT_THAT(watch.look(1'000'000, {{1, 500}}), IsEmpty());
  EXPECT_TRUE(watch.is_alive(1));
}

// All phases of beat and look, and clocks whose rates differ by up to 10 % either way: nobody is
// called dead while its lease is valid, and everybody is soon after.
TEST(Watch, NobodyIsCalledDeadWhoseLeaseIsValid) {
  constexpr Nanos kStep = 50, kWriting = 100;
  int deaths = 0;
  for (int owner_rate : {90, 95, 100}) {
    for (int observer_rate : {100, 95, 110}) {
      // Relative to each other within 10 %.
      if (observer_rate * 100 > owner_rate * 111) continue;
      for (Nanos phase = 0; phase < kLease / 4; phase += kStep) {
        for (Nanos dies_at : {Nanos{0}, Nanos{1}, Nanos{499}, Nanos{500}, Nanos{1777}}) {
          auto on = [](Nanos real, int rate) { return real * rate / 100; };
          Lease lease(kLease);
          Watch watch(kLease);
          uint64_t version = 0;
          Nanos next_beat = 0, next_look = phase, visible_at = -1, begun = 0;
          bool dead = false;
          Nanos called = 0;
          for (Nanos real = 0; real < 6 * kLease && !dead; real += 1) {
            if (on(real, owner_rate) >= next_beat && real <= dies_at) {
              begun = on(real, owner_rate);
              visible_at = real + kWriting;
              next_beat = begun + kLease / 4;
            }
            if (real == visible_at) {
              ++version;
              lease.renewed(begun);
            }
            if (on(real, observer_rate) < next_look || version == 0) continue;
            next_look = on(real, observer_rate) + kLease / 4;
            dead = !watch.look(on(real, observer_rate), {{1, version}}).empty();
            called = real;
            if (dead) {
              ASSERT_FALSE(lease.valid(on(real, owner_rate)))
                  << owner_rate << " " << observer_rate << " " << phase << " " << dies_at;
            }
          }
          ASSERT_TRUE(dead);
          EXPECT_LT(called, dies_at + 3 * kLease);
          ++deaths;
        }
      }
    }
  }
  EXPECT_GT(deaths, 100);
}

TEST(ShouldTake, OverAllSmallClusters) {
  // Up to three nodes besides me, each absent, a standby, or with 0 to 2 ranks.
  for (int mine = 0; mine < 4; ++mine) {
    for (int a = 0; a < 5; ++a) {
      for (int b = 0; b < 5; ++b) {
        auto member = [](NodeId id, int kind) {
          return Member{id, kind == 0, kind == 0 ? 0 : static_cast<size_t>(kind - 1)};
        };
        std::vector<Member> living{member(5, mine)};
        if (a < 4) living.push_back(member(3, a));
        if (b < 4) living.push_back(member(9, b));
        bool others_standby = (a == 0) || (b == 0);
        Orphan orphan{RankId{1}, 1000};
        auto takes = [&](NodeId who, Nanos now) {
          return should_take(orphan, who, living, now, kLease);
        };
        if (mine == 0) {
          EXPECT_TRUE(takes(5, 1000)) << "a standby tries at once";
          continue;
        }
        EXPECT_FALSE(takes(5, 1000 + kLease / 4 - 1));
        EXPECT_TRUE(takes(5, 1000 + 2 * kLease + kLease / 4)) << "everybody in the end";
        int first = 0;
        for (const Member& m : living) first += takes(m.id, 1000 + kLease / 4) && !m.standby;
        EXPECT_EQ(first, others_standby ? 0 : 1);
        EXPECT_FALSE(takes(77, 1000 + 9 * kLease)) << "one who is not living";
      }
    }
  }
}

}  // namespace
}  // namespace graftfs::cluster
