#include "server/migrate.h"

namespace graftfs {

void Migrations::receive(RankId from, Message message) {
  auto* offer = std::get_if<msg::MigrateOffer>(&message.body);
  if (offer) core_.send(from, msg::MigrateRefuse{offer->id, "it does not take subtrees"});
}

void Migrations::start(Ino, RankId, MoveFn done) {
  done(graftfs::fail(EOPNOTSUPP, "this rank does not move subtrees"));
}

std::optional<Need> Migrations::parks(const Dir&) const { return std::nullopt; }

void Migrations::peer_up(RankId) {}
void Migrations::peer_down(RankId) {}
void Migrations::recovered() {}

}  // namespace graftfs
