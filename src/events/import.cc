// Import: this rank is the authority for a subtree: path, root, bounds. The root directories that
// come with it are trace: {path, root, bounds, headers}.
#include "events/import.h"

#include <nlohmann/json.hpp>

#include "events/registry.h"
#include "events/trace.h"

namespace graftfs {

void encode_import(ByteWriter& w, const Import& import, const std::vector<DirHeader>& dirs) {
  w.varint(dirs.size());
  for (const DirHeader& header : dirs) encode_header_body(w, header);
  w.varint(import.root.v);
  w.string(import.path);
  w.varint(import.bounds.size());
  for (Ino bound : import.bounds) w.varint(bound.v);
}

namespace {

template <class F>
bool decode_import(std::string_view payload, Import& import, F&& header) {
  ByteReader r(payload);
  if (!decode_traces(r, header)) return false;
  import.root = Ino{r.varint()};
  import.path = r.string();
  uint64_t bounds = r.varint();
  if (bounds > r.remaining()) return false;
  for (uint64_t k = 0; k < bounds; ++k) import.bounds.push_back(Ino{r.varint()});
  return r.done() && import.root;
}

}  // namespace

const EventKind kImportEvent = {
    EventType::import, "Import",
    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
      Import import;
      auto trace = [&](const DirHeader& h) { context.cache.apply_header(lsn, false, h); };
      if (!decode_import(payload, import, trace)) return false;
      context.state.imports[import.root] = std::move(import);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      Import import;
      if (!decode_import(payload, import, [](const DirHeader&) {})) return false;
      out["root"] = import.root.v;
      out["path"] = import.path;
      for (Ino bound : import.bounds) out["bounds"].push_back(bound.v);
      return true;
    }};

}  // namespace graftfs
