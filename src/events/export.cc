// Export: the authority over a subtree has gone to another rank: {root, directories}. Whatever
// the journal said of those directories before is not real any more; replay drops it.
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "events/import.h"
#include "events/registry.h"

namespace graftfs {

void encode_export(ByteWriter& w, Ino root, const std::vector<Ino>& dirs) {
  w.varint(root.v);
  w.varint(dirs.size());
  for (Ino dir : dirs) w.varint(dir.v);
}

namespace {

bool decode(std::string_view payload, Ino& root, std::vector<Ino>& dirs) {
  ByteReader r(payload);
  root = Ino{r.varint()};
  uint64_t n = r.varint();
  if (n > r.remaining()) return false;
  for (uint64_t k = 0; k < n; ++k) dirs.push_back(Ino{r.varint()});
  return r.done() && root;
}

}  // namespace

const EventKind kExportEvent = {
    EventType::export_, "Export",
    [](ReplayContext& context, Lsn, std::string_view payload) {
      Ino root;
      std::vector<Ino> dirs;
      if (!decode(payload, root, dirs)) return false;
      for (Ino dir : dirs) {
        MARK("events.export.discard");
        context.cache.discard_dir(dir);
      }
      context.state.imports.erase(root);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      Ino root;
      std::vector<Ino> dirs;
      if (!decode(payload, root, dirs)) return false;
      out["root"] = root.v;
      for (Ino dir : dirs) out["exported"].push_back(dir.v);
      return true;
    }};

}  // namespace graftfs
