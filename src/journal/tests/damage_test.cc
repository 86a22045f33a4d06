// The decision table, over every input.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "journal/damage.h"

namespace graftfs {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr DamageKind kKinds[] = {DamageKind::torn_tail,       DamageKind::damaged_middle,
                                 DamageKind::missing_segment, DamageKind::foreign_epoch,
                                 DamageKind::foreign_journal, DamageKind::io_error};
constexpr DamagePlace kPlaces[] = {DamagePlace::front, DamagePlace::durable, DamagePlace::tail};

JournalDamage example(DamageKind kind, DamagePlace place) {
  JournalDamage d;
  d.kind = kind;
  d.place = place;
  d.segment = SegmentId{7};
  d.offset = 4096;
  d.lsn = Lsn{100};
  d.newest_lost = Lsn{130};
  d.wall_sec = 1'700'000'000;
  d.detail = "journal/7.seg, offset 4096: something is wrong";
  return d;
}

TEST(Damage, EveryInputHasOneOutcomeAndASentence) {
  size_t rules = 0;
  for (DamageKind kind : kKinds) {
    for (DamagePlace place : kPlaces) {
      for (LossPolicy policy : {LossPolicy::refuse, LossPolicy::accept_loss}) {
        SCOPED_TRACE(std::string(name_of(kind)) + " in " + std::string(name_of(place)));
        ++rules;
        const DamageOutcome outcome = outcome_of(kind, place, policy);
        JournalScan scan;
        scan.damage.push_back(example(kind, place));
        const std::string message = damage_message(scan.damage[0], policy, "/srv/v");
        const DamageDecision decision = decide(scan, policy, "/srv/v");
        EXPECT_THAT(message, HasSubstr("journal/7.seg, offset 4096"));
        EXPECT_THAT(message, Not(HasSubstr("\n")));

        // Only a torn tail is passed over, and nothing durable goes without a word.
        if (outcome == DamageOutcome::truncate_here) {
          EXPECT_EQ(kind, DamageKind::torn_tail);
          EXPECT_EQ(place, DamagePlace::tail);
          EXPECT_EQ(decision.message, "");
          EXPECT_TRUE(decision.start);
          EXPECT_FALSE(decision.loses);
          continue;
        }
        EXPECT_EQ(decision.message, message);
        if (policy == LossPolicy::refuse) {
          EXPECT_FALSE(decision.start) << "the default never loses anything";
          EXPECT_FALSE(decision.loses);
        }
        if (outcome == DamageOutcome::refuse) {
          EXPECT_EQ(policy, LossPolicy::refuse);
          EXPECT_THAT(message, HasSubstr("graftfs journal verify /srv/v"));
          EXPECT_THAT(message, HasSubstr("graftfs mount --accept-loss"));
          EXPECT_THAT(message, HasSubstr("lost"));
          const DamageOutcome accepted = outcome_of(kind, place, LossPolicy::accept_loss);
          EXPECT_EQ(accepted, place == DamagePlace::front ? DamageOutcome::lose_front
                                                          : DamageOutcome::lose_rest);
        }
        if (outcome == DamageOutcome::refuse_always) {
          EXPECT_FALSE(decision.start);
          EXPECT_TRUE(kind == DamageKind::foreign_epoch || kind == DamageKind::foreign_journal);
          EXPECT_THAT(message, Not(HasSubstr("--accept-loss")));
        }
        if (outcome == DamageOutcome::lose_rest || outcome == DamageOutcome::lose_front) {
          EXPECT_TRUE(decision.start);
          EXPECT_TRUE(decision.loses);
          EXPECT_THAT(message, HasSubstr("lost"));
        }
        if (place == DamagePlace::durable && outcome == DamageOutcome::refuse) {
          EXPECT_THAT(message, HasSubstr("events 100 to at least 130"));
          EXPECT_THAT(message, HasSubstr("2023-11-14 22:13:20 UTC"));
        }
      }
    }
  }
  EXPECT_EQ(rules, damage_rules().size());
}

TEST(Damage, OneRefusalAmongSeveralRefuses) {
  JournalScan scan;
  scan.damage.push_back(example(DamageKind::io_error, DamagePlace::tail));
  scan.damage.push_back(example(DamageKind::foreign_journal, DamagePlace::durable));
  const auto decision = decide(scan, LossPolicy::accept_loss, "v");
  EXPECT_FALSE(decision.start);
  EXPECT_THAT(decision.message, HasSubstr("\n"));
}

}  // namespace
}  // namespace graftfs
