#pragma once
// What is done about a damaged journal: a table, and the sentences for people.

#include <span>
#include <string>
#include <string_view>

#include "journal/scan.h"

namespace graftfs {

enum class LossPolicy : uint8_t {
  refuse,       // the default: start only where nothing durable is lost
  accept_loss,  // the operator has said to go on with what there is
};

enum class DamageOutcome : uint8_t {
  truncate_here,  // go on with what stands before it; nothing durable is lost
  lose_rest,      // go on with what stands before it; what is behind it is lost
  lose_front,     // go on from the next major segment; what is before it is lost
  refuse,         // do not start; accept_loss would go on
  refuse_always,  // do not start; nothing is to be gained by going on
};

struct DamageRule {
  DamageKind kind;
  DamagePlace place;
  LossPolicy policy;
  DamageOutcome outcome;
};

// One rule for each (kind, place, policy), in that order.
std::span<const DamageRule> damage_rules();
DamageOutcome outcome_of(DamageKind kind, DamagePlace place, LossPolicy policy);

std::string_view name_of(DamageKind kind);
std::string_view name_of(DamagePlace place);
std::string_view name_of(DamageOutcome outcome);

// One sentence: the file, the offset, what is lost and which command goes on.
std::string damage_message(const JournalDamage& damage, LossPolicy policy, std::string_view volume);

struct DamageDecision {
  bool start = true;    // with the frames that the scan holds
  bool loses = false;   // something that was durable is given up
  std::string message;  // a line for each damage that is refused or loses; else empty
};
// Over all damage of a scan. `volume` is as the user named it.
DamageDecision decide(const JournalScan& scan, LossPolicy policy, std::string_view volume);

}  // namespace graftfs
