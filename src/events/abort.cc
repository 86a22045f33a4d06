// Abort: this rank's part of an operation will not be carried out:
// {operation}.
#include <nlohmann/json.hpp>

#include "events/registry.h"
#include "events/two_party.h"

namespace graftfs {

void encode_abort(ByteWriter& w, const ProtocolId& op) { encode_id(w, op); }

const EventKind kAbortEvent = {EventType::abort, "Abort",
                               [](ReplayContext& context, Lsn, std::string_view payload) {
                                 ByteReader r(payload);
                                 ProtocolId op = decode_id(r);
                                 if (!r.done()) return false;
                                 context.state.prepared.erase(op);
                                 return true;
                               },
                               [](std::string_view payload, nlohmann::json& out) {
                                 ByteReader r(payload);
                                 ProtocolId op = decode_id(r);
                                 out["operation"] = {op.rank.v, op.epoch.v, op.number};
                                 return r.done();
                               }};

}  // namespace graftfs
