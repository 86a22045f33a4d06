// Session: a client came or went: {session, open}. What its requests did is in the events that
// carry them out.
#include "events/session.h"

#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

void encode_session(ByteWriter& w, SessionId session, bool open) {
  w.varint(session.v);
  w.u8(open);
}

const EventKind kSessionEvent = {EventType::session, "Session",
                                 [](ReplayContext& context, Lsn, std::string_view payload) {
                                   ByteReader r(payload);
                                   SessionId id{r.varint()};
                                   uint8_t open = r.u8();
                                   if (!r.done() || open > 1 || !id) return false;
                                   if (open)
                                     context.state.sessions.try_emplace(id);
                                   else
                                     context.state.sessions.erase(id);
                                   return true;
                                 },
                                 [](std::string_view payload, nlohmann::json& out) {
                                   ByteReader r(payload);
                                   out["session"] = r.varint();
                                   out["open"] = r.u8() != 0;
                                   return r.done();
                                 }};

}  // namespace graftfs
