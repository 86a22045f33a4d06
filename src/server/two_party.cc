#include "server/two_party.h"

namespace graftfs {

void TwoParty::receive(RankId from, Message message) {
  auto* prepare = std::get_if<msg::Prepare>(&message.body);
  if (prepare)
    core_.send(from, msg::Refused{.op = prepare->op, .why = msg::Refusal::error, .err = EXDEV});
}

// Who renames across ranks copies, as across devices.
Stop TwoParty::begin(const Request&, std::vector<msg::Intent>) { return {EXDEV, {}, {}, {}}; }

const Prepared* TwoParty::prepared(uint64_t) const { return nullptr; }
std::optional<Need> TwoParty::busy(const Dir&, std::string_view) const { return std::nullopt; }
std::optional<Need> TwoParty::busy(Ino) const { return std::nullopt; }
void TwoParty::peer_up(RankId) {}
void TwoParty::peer_down(RankId) {}
void TwoParty::recovered() {}

}  // namespace graftfs
