// Export: the authority over a subtree has gone to another rank: {root, directories}, and behind
// that {migration, to, moves, the import it was cut out of, its parent there, bounds that went
// along}. Whatever the journal said of those directories before is not real any more; replay drops
// it.
#include <nlohmann/json.hpp>

#include "base/fault.h"
#include "events/import.h"
#include "events/registry.h"

namespace graftfs {
namespace {

void encode_inos(ByteWriter& w, const std::vector<Ino>& inos) {
  w.varint(inos.size());
  for (Ino ino : inos) w.varint(ino.v);
}

bool decode_inos(ByteReader& r, std::vector<Ino>& inos) {
  uint64_t n = r.varint();
  if (n > r.remaining()) return false;
  for (uint64_t k = 0; k < n; ++k) inos.push_back(Ino{r.varint()});
  return r.ok();
}

bool decode(std::string_view payload, Export& e) {
  ByteReader r(payload);
  e.root = Ino{r.varint()};
  if (!decode_inos(r, e.dirs) || !e.root) return false;
  if (r.done()) return true;  // as they were written before there was a second rank
  e.id = decode_id(r);
  uint64_t to = r.varint();
  uint64_t moves = r.varint();
  if (to > UINT16_MAX || moves > UINT32_MAX) return false;
  e.to = RankId{static_cast<uint16_t>(to)};
  e.moves = static_cast<uint32_t>(moves);
  e.within = Ino{r.varint()};
  e.parent = Ino{r.varint()};
  return decode_inos(r, e.bounds) && r.done();
}

void cut_out(RankState& state, const Export& e) {
  state.imports.erase(e.root);
  if (e.id != ProtocolId{}) state.forwards[e.root] = {e.to, e.moves, e.id};
  auto within = state.imports.find(e.within);
  if (within == state.imports.end()) return;
  for (Ino bound : e.bounds) within->second.bounds.erase(bound);
  within->second.bounds[e.root] = {e.parent, e.to, e.moves};
}

}  // namespace

void encode_export(ByteWriter& w, const Export& e) {
  w.varint(e.root.v);
  encode_inos(w, e.dirs);
  if (e.id == ProtocolId{}) return;
  encode_id(w, e.id);
  w.varint(e.to.v);
  w.varint(e.moves);
  w.varint(e.within.v);
  w.varint(e.parent.v);
  encode_inos(w, e.bounds);
}

const EventKind kExportEvent = {EventType::export_, "Export",
                                [](ReplayContext& context, Lsn, std::string_view payload) {
                                  Export e;
                                  if (!decode(payload, e)) return false;
                                  std::vector<Ino> below;
                                  context.cache.for_each_dir([&](const Dir& dir) {
                                    for (const Dir* d = &dir; d && !d->is_foreign();
                                         d = d->parent) {
                                      if (d->ino() == e.root) below.push_back(dir.ino());
                                      if (context.state.is_root(d->ino())) break;
                                    }
                                  });
                                  e.dirs.insert(e.dirs.end(), below.begin(), below.end());
                                  if (!e.dirs.empty()) MARK("events.export.discard");
                                  context.cache.discard_dirs(e.dirs);
                                  cut_out(context.state, e);
                                  return true;
                                },
                                [](std::string_view payload, nlohmann::json& out) {
                                  Export e;
                                  if (!decode(payload, e)) return false;
                                  out["root"] = e.root.v;
                                  for (Ino dir : e.dirs) out["exported"].push_back(dir.v);
                                  if (e.id != ProtocolId{}) {
                                    out["to"] = e.to.v;
                                    out["moves"] = e.moves;
                                  }
                                  return true;
                                }};

}  // namespace graftfs
