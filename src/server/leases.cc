#include "server/leases.h"

namespace graftfs {

// Nothing is ever leased, so nothing has to be recalled.
void Leases::receive(SessionId, Message) {}
bool Leases::give(SessionId, const Dir&) { return false; }
std::vector<RecallItem> Leases::conflicts(SessionId, const TreeEvent&) const { return {}; }
Need Leases::recall(std::vector<RecallItem>) { return {}; }
bool Leases::none_below(const Dir&) const { return true; }
void Leases::recall_tree(const Dir&, Fn done) { core_.executor().post(std::move(done)); }
void Leases::session_gone(SessionId) {}

}  // namespace graftfs
