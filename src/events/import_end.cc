// ImportEnd: a subtree that was on its way here has arrived, or has stayed: {migration, settled}.
#include <nlohmann/json.hpp>

#include "events/migration.h"

namespace graftfs {

void encode_import_end(ByteWriter& w, const ProtocolId& id, bool settled) {
  encode_id(w, id);
  w.u8(settled);
}

namespace {

bool decode(std::string_view payload, ProtocolId& id, bool& settled) {
  ByteReader r(payload);
  id = decode_id(r);
  uint8_t flag = r.u8();
  settled = flag;
  return r.done() && flag <= 1;
}

}  // namespace

const EventKind kImportEndEvent = {
    EventType::import_end, "ImportEnd",
    [](ReplayContext& context, Lsn, std::string_view payload) {
      ProtocolId id;
      bool settled;
      if (!decode(payload, id, settled)) return false;
      RankState& state = context.state;
      auto import = std::find_if(state.imports.begin(), state.imports.end(), [&](const auto& i) {
        return !i.second.settled && i.second.from == id;
      });
      if (!settled) {
        state.staged.erase(id);
        if (import != state.imports.end()) state.imports.erase(import);
        return true;
      }
      // Where the checkpoint is younger than the Import, the parts are older, and stood in it.
      if (import != state.imports.end()) {
        import->second.settled = true;
        const Ino root = import->first;
        // What of this rank's own hung in it is a part of it again.
        std::vector<Ino> within;
        for (const auto& [ino, bound] : import->second.bounds)
          if (state.is_root(ino)) within.push_back(ino);
        // A directory that comes back is behind a bound no more.
        state.forwards.erase(root);
        state.dissolve(root);
        for (Ino ino : within) state.dissolve(ino);
      }
      if (auto staged = state.staged.extract(id)) context.cache.join(*staged.mapped().cache);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      ProtocolId id;
      bool settled;
      if (!decode(payload, id, settled)) return false;
      out["migration"] = {id.rank.v, id.epoch.v, id.number};
      out["settled"] = settled;
      return true;
    }};

}  // namespace graftfs
