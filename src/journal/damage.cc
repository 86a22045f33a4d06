#include "journal/damage.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "base/check.h"

namespace graftfs {

namespace {

using K = DamageKind;
using P = DamagePlace;
using L = LossPolicy;
using O = DamageOutcome;

// A torn tail is never found at the front or in durable bytes; should it be, it is not trusted.
constexpr DamageRule kRules[] = {
    {K::torn_tail, P::front, L::refuse, O::refuse},
    {K::torn_tail, P::front, L::accept_loss, O::lose_front},
    {K::torn_tail, P::durable, L::refuse, O::refuse},
    {K::torn_tail, P::durable, L::accept_loss, O::lose_rest},
    {K::torn_tail, P::tail, L::refuse, O::truncate_here},
    {K::torn_tail, P::tail, L::accept_loss, O::truncate_here},

    {K::damaged_middle, P::front, L::refuse, O::refuse},
    {K::damaged_middle, P::front, L::accept_loss, O::lose_front},
    {K::damaged_middle, P::durable, L::refuse, O::refuse},
    {K::damaged_middle, P::durable, L::accept_loss, O::lose_rest},
    {K::damaged_middle, P::tail, L::refuse, O::refuse},
    {K::damaged_middle, P::tail, L::accept_loss, O::lose_rest},

    {K::missing_segment, P::front, L::refuse, O::refuse},
    {K::missing_segment, P::front, L::accept_loss, O::lose_front},
    {K::missing_segment, P::durable, L::refuse, O::refuse},
    {K::missing_segment, P::durable, L::accept_loss, O::lose_rest},
    {K::missing_segment, P::tail, L::refuse, O::refuse},
    {K::missing_segment, P::tail, L::accept_loss, O::lose_rest},

    // Somebody else serves this rank: going on would write beside it.
    {K::foreign_epoch, P::front, L::refuse, O::refuse_always},
    {K::foreign_epoch, P::front, L::accept_loss, O::refuse_always},
    {K::foreign_epoch, P::durable, L::refuse, O::refuse_always},
    {K::foreign_epoch, P::durable, L::accept_loss, O::refuse_always},
    {K::foreign_epoch, P::tail, L::refuse, O::refuse_always},
    {K::foreign_epoch, P::tail, L::accept_loss, O::refuse_always},

    // Another volume's bytes, or a newer program's: they may be somebody's only copy.
    {K::foreign_journal, P::front, L::refuse, O::refuse_always},
    {K::foreign_journal, P::front, L::accept_loss, O::refuse_always},
    {K::foreign_journal, P::durable, L::refuse, O::refuse_always},
    {K::foreign_journal, P::durable, L::accept_loss, O::refuse_always},
    {K::foreign_journal, P::tail, L::refuse, O::refuse_always},
    {K::foreign_journal, P::tail, L::accept_loss, O::refuse_always},

    // In the tail, too: what cannot be read may have been durable.
    {K::io_error, P::front, L::refuse, O::refuse},
    {K::io_error, P::front, L::accept_loss, O::lose_front},
    {K::io_error, P::durable, L::refuse, O::refuse},
    {K::io_error, P::durable, L::accept_loss, O::lose_rest},
    {K::io_error, P::tail, L::refuse, O::refuse},
    {K::io_error, P::tail, L::accept_loss, O::lose_rest},
};
constexpr size_t kPlaces = 3, kPolicies = 2;

constexpr size_t rule_index(DamageKind kind, DamagePlace place, LossPolicy policy) {
  return (static_cast<size_t>(kind) * kPlaces + static_cast<size_t>(place)) * kPolicies +
         static_cast<size_t>(policy);
}
constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kRules); ++i)
    if (rule_index(kRules[i].kind, kRules[i].place, kRules[i].policy) != i) return false;
  return true;
}
static_assert(in_order() &&
              std::size(kRules) == rule_index(K::io_error, P::tail, L::accept_loss) + 1);

std::string what_is_lost(const JournalDamage& d, DamageOutcome outcome) {
  std::string lost;
  if (d.place == P::front) {
    lost = "events from the start of the journal up to its next checkpoint";
  } else if (!d.lsn) {
    lost = "an unknown number of events";
  } else if (d.newest_lost >= d.lsn) {
    lost = fmt::format("events {} to at least {}", d.lsn.v, d.newest_lost.v);
  } else {
    lost = fmt::format("events from {} on", d.lsn.v);
  }
  if (d.wall_sec && d.place != P::front) {
    const std::time_t begun = static_cast<std::time_t>(d.wall_sec);
    std::tm utc{};
    if (gmtime_r(&begun, &utc))
      lost += fmt::format(" (written after {:%Y-%m-%d %H:%M:%S} UTC)", utc);
  }
  const bool certain = d.kind != K::io_error || d.newest_lost.v;
  return lost + (outcome == O::refuse ? (certain ? " would be lost" : " may be lost")
                                      : (certain ? " are lost" : " may be lost"));
}

}  // namespace

std::span<const DamageRule> damage_rules() { return kRules; }

DamageOutcome outcome_of(DamageKind kind, DamagePlace place, LossPolicy policy) {
  return kRules[rule_index(kind, place, policy)].outcome;
}

std::string_view name_of(DamageKind kind) {
  constexpr std::string_view names[] = {"torn tail",     "damaged middle",  "missing segment",
                                        "foreign epoch", "foreign journal", "I/O error"};
  return names[static_cast<size_t>(kind)];
}
std::string_view name_of(DamagePlace place) {
  constexpr std::string_view names[] = {"front", "durable", "tail"};
  return names[static_cast<size_t>(place)];
}
std::string_view name_of(DamageOutcome outcome) {
  constexpr std::string_view names[] = {"truncate here", "lose the rest", "lose the front",
                                        "refuse", "refuse always"};
  return names[static_cast<size_t>(outcome)];
}

std::string damage_message(const JournalDamage& d, LossPolicy policy, std::string_view volume) {
  const DamageOutcome outcome = outcome_of(d.kind, d.place, policy);
  switch (outcome) {
    case O::truncate_here:
      return fmt::format("{}; nothing that was durable is lost, and the journal goes on before it",
                         d.detail);
    case O::lose_rest:
    case O::lose_front:
      return fmt::format("{}; {}, and the volume goes on without them; run `graftfs fsck {}` next",
                         d.detail, what_is_lost(d, outcome), volume);
    case O::refuse:
      return fmt::format(
          "{}; {}; run `graftfs journal verify {}` to look, or `graftfs mount --accept-loss` to go "
          "on without them",
          d.detail, what_is_lost(d, outcome), volume);
    case O::refuse_always:
      return d.kind == K::foreign_epoch
                 ? fmt::format(
                       "{}; another process serves this volume now, so stop it before mounting "
                       "{} here",
                       d.detail, volume)
                 : fmt::format(
                       "{}; put the right file back, or use the program that wrote it; run "
                       "`graftfs journal verify {}` to look",
                       d.detail, volume);
  }
  CHECK(false, "outcome {}", static_cast<int>(outcome));
  return {};
}

DamageDecision decide(const JournalScan& scan, LossPolicy policy, std::string_view volume) {
  DamageDecision decision;
  for (const JournalDamage& d : scan.damage) {
    const DamageOutcome outcome = outcome_of(d.kind, d.place, policy);
    if (outcome == O::truncate_here) continue;
    if (outcome == O::refuse || outcome == O::refuse_always) decision.start = false;
    if (outcome == O::lose_rest || outcome == O::lose_front) decision.loses = true;
    if (!decision.message.empty()) decision.message += '\n';
    decision.message += damage_message(d, policy, volume);
  }
  return decision;
}

}  // namespace graftfs
