// ImportPart: dirty items of a subtree that is on its way here: {migration, traces, tree event}.
// They are kept aside until the import ends.
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "events/migration.h"
#include "events/trace.h"

namespace graftfs {

void encode_import_part(ByteWriter& w, const ProtocolId& id, std::string_view items) {
  encode_id(w, id);
  w.raw(items);
}

namespace {

bool decode(std::string_view payload, ProtocolId& id, std::string_view& items) {
  ByteReader r(payload);
  id = decode_id(r);
  items = r.raw(r.remaining());
  return r.ok();
}

// Applied to the cache of what is on its way, each item waiting from this event on.
bool stage(ReplayContext& context, const ProtocolId& id, Lsn lsn, std::string_view items) {
  Staged& staged = context.state.staged[id];
  if (staged.last >= lsn) return true;
  if (!staged.first) staged.first = lsn;
  staged.last = lsn;
  ReplayContext aside{*staged.cache, context.state, {}};
  if (!replay_tree(aside, EventType::inode, lsn, items)) return false;
  for (const DirItem& item : aside.scratch.dirs) {
    if (!is_tombstone(item.header)) continue;
    MARK("events.import.left");
    staged.cache->discard_dir(item.header.inode.ino);
  }
  return true;
}

}  // namespace

const EventKind kImportPartEvent = {EventType::import_part, "ImportPart",
                                    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                      ProtocolId id;
                                      std::string_view items;
                                      if (!decode(payload, id, items)) return false;
                                      return stage(context, id, lsn, items);
                                    },
                                    [](std::string_view payload, nlohmann::json& out) {
                                      ProtocolId id;
                                      std::string_view items;
                                      if (!decode(payload, id, items)) return false;
                                      out["migration"] = {id.rank.v, id.epoch.v, id.number};
                                      return describe_tree(EventType::inode, items, out);
                                    }};

}  // namespace graftfs
