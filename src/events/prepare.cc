// Prepare: this rank will do its part of an operation, unless it is told not to: {traces of the
// directories concerned, operation, session, time, intents}.
#include <nlohmann/json.hpp>

#include "events/registry.h"
#include "events/trace.h"
#include "events/two_party.h"

namespace graftfs {

void encode_prepare(ByteWriter& w, const ProtocolId& op, const PreparedOp& prepared,
                    const std::vector<DirHeader>& traces) {
  w.varint(traces.size());
  for (const DirHeader& header : traces) encode_header_body(w, header);
  encode_id(w, op);
  w.varint(prepared.session.v);
  encode_time(w, prepared.now);
  encode_intents(w, prepared.intents);
}

namespace {

template <class F>
bool decode(std::string_view payload, ProtocolId& op, PreparedOp& prepared, F&& header) {
  ByteReader r(payload);
  if (!decode_traces(r, header)) return false;
  op = decode_id(r);
  prepared.session = SessionId{r.varint()};
  prepared.now = decode_time(r);
  return decode_intents(r, prepared.intents) && r.done();
}

}  // namespace

const EventKind kPrepareEvent = {
    EventType::prepare, "Prepare",
    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
      ProtocolId op;
      PreparedOp prepared;
      auto trace = [&](const DirHeader& h) { context.cache.apply_header(lsn, false, h); };
      if (!decode(payload, op, prepared, trace)) return false;
      context.state.prepared[op] = std::move(prepared);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      ProtocolId op;
      PreparedOp prepared;
      if (!decode(payload, op, prepared, [](const DirHeader&) {})) return false;
      static constexpr const char* kinds[] = {"token",     "take_name", "swap_name", "add_link",
                                              "drop_link", "drop_dir",  "hang"};
      out["operation"] = {op.rank.v, op.epoch.v, op.number};
      for (const msg::Intent& i : prepared.intents)
        out["intents"].push_back({{"kind", kinds[static_cast<size_t>(i.kind)]},
                                  {"ino", i.ino.v},
                                  {"dir", i.dir.v},
                                  {"name", i.name}});
      return true;
    }};

}  // namespace graftfs
