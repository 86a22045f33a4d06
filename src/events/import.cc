// Import: this rank is the authority for a subtree: path, root, bounds. The root directories that
// come with it are trace: {headers, root, path, bounds}, and behind that, where there is any of it,
// what several ranks need: {parent, moves, migration, settled, more about the bounds, above}.
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
  for (const auto& [bound, what] : import.bounds) w.varint(bound.v);
  if (has_rest(import)) encode_import_rest(w, import);
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
  for (uint64_t k = 0; k < bounds; ++k) import.bounds[Ino{r.varint()}];
  if (r.ok() && r.remaining() > 0 && !decode_import_rest(r, import)) return false;
  return r.done() && import.root;
}

}  // namespace

const EventKind kImportEvent = {
    EventType::import, "Import",
    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
      Import import;
      std::vector<DirHeader> traces;
      if (!decode_import(payload, import, [&](const DirHeader& h) { traces.push_back(h); }))
        return false;
      // Until it is settled nothing of it is ours.
      if (import.settled)
        for (const DirHeader& h : traces) context.cache.apply_header(lsn, false, h);
      context.state.imports[import.root] = std::move(import);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      Import import;
      if (!decode_import(payload, import, [](const DirHeader&) {})) return false;
      out["root"] = import.root.v;
      out["path"] = import.path;
      for (const auto& [ino, bound] : import.bounds)
        out["bounds"].push_back({{"root", ino.v}, {"rank", bound.rank.v}});
      if (import.moves) out["moves"] = import.moves;
      if (!import.settled) out["settled"] = false;
      return true;
    }};

}  // namespace graftfs
