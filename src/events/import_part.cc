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

bool check_items(std::string_view items) {
  ByteReader r(items);
  TreeEvent event;
  return decode_traces(r, [](const DirHeader&) {}) && decode_tree_event(r, event);
}

bool apply_staged(ReplayContext& context, const ProtocolId& id) {
  auto node = context.state.staged.extract(id);
  if (node.empty()) return true;
  std::vector<Ino> gone;
  for (const StagedPart& part : node.mapped()) {
    if (!replay_tree(context, EventType::inode, part.lsn, part.items)) return false;
    for (const DirItem& item : context.scratch.dirs)
      if (is_tombstone(item.header)) gone.push_back(item.header.inode.ino);
  }
  for (Ino ino : gone) {
    MARK("events.import.left");
    context.cache.discard_dir(ino);
  }
  return true;
}

namespace {

bool decode(std::string_view payload, ProtocolId& id, std::string_view& items) {
  ByteReader r(payload);
  id = decode_id(r);
  items = r.raw(r.remaining());
  return r.done() && check_items(items);
}

}  // namespace

const EventKind kImportPartEvent = {EventType::import_part, "ImportPart",
                                    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
                                      ProtocolId id;
                                      std::string_view items;
                                      if (!decode(payload, id, items)) return false;
                                      std::vector<StagedPart>& parts = context.state.staged[id];
                                      if (parts.empty() || parts.back().lsn < lsn)
                                        parts.push_back({lsn, std::string(items)});
                                      return true;
                                    },
                                    [](std::string_view payload, nlohmann::json& out) {
                                      ProtocolId id;
                                      std::string_view items;
                                      if (!decode(payload, id, items)) return false;
                                      out["migration"] = {id.rank.v, id.epoch.v, id.number};
                                      return describe_tree(EventType::inode, items, out);
                                    }};

}  // namespace graftfs
