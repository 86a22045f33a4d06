// ExportEnd: everybody knows who has the subtree that went away: {migration}.
#include <nlohmann/json.hpp>

#include "events/migration.h"

namespace graftfs {

void encode_export_end(ByteWriter& w, const ProtocolId& id) { encode_id(w, id); }

const EventKind kExportEndEvent = {
    EventType::export_end, "ExportEnd",
    [](ReplayContext& context, Lsn, std::string_view payload) {
      ByteReader r(payload);
      ProtocolId id = decode_id(r);
      if (!r.done()) return false;
      std::erase_if(context.state.forwards, [&](const auto& f) { return f.second.id == id; });
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      ByteReader r(payload);
      ProtocolId id = decode_id(r);
      out["migration"] = {id.rank.v, id.epoch.v, id.number};
      return r.done();
    }};

}  // namespace graftfs
