// Commit: an operation on several authorities, or this rank's part of it, is carried out:
// {operation, participants, changes of the map of subtrees, traces, tree event}.
#include <nlohmann/json.hpp>

#include "events/registry.h"
#include "events/two_party.h"

namespace graftfs {
namespace {

void encode_change(ByteWriter& w, const MapChange& c) {
  w.u8(c.kind);
  w.varint(c.root.v);
  w.varint(c.within.v);
  w.varint(c.bound.parent.v);
  w.varint(c.bound.rank.v);
  w.varint(c.bound.moves);
  bool with_import = c.kind == MapChange::import_add || c.kind == MapChange::path;
  if (!with_import) return;
  w.string(c.import.path);
  w.varint(c.import.bounds.size());
  for (const auto& [ino, bound] : c.import.bounds) w.varint(ino.v);
  encode_import_rest(w, c.import);
}

bool decode_change(ByteReader& r, MapChange& c) {
  uint8_t kind = r.u8();
  if (kind > MapChange::path) return false;
  c.kind = static_cast<MapChange::Kind>(kind);
  c.root = Ino{r.varint()};
  c.within = Ino{r.varint()};
  c.bound.parent = Ino{r.varint()};
  uint64_t rank = r.varint();
  uint64_t moves = r.varint();
  if (rank > UINT16_MAX || moves > UINT32_MAX || !c.root) return false;
  c.bound.rank = RankId{static_cast<uint16_t>(rank)};
  c.bound.moves = static_cast<uint32_t>(moves);
  if (c.kind != MapChange::import_add && c.kind != MapChange::path) return r.ok();
  c.import.root = c.root;
  c.import.path = r.string();
  uint64_t bounds = r.varint();
  if (bounds > r.remaining()) return false;
  for (uint64_t k = 0; k < bounds; ++k) c.import.bounds[Ino{r.varint()}];
  return decode_import_rest(r, c.import);
}

// Leaves the reader at the traces.
bool decode(ByteReader& r, Commit& commit) {
  commit.op = decode_id(r);
  uint64_t participants = r.varint();
  if (participants > r.remaining()) return false;
  for (uint64_t k = 0; k < participants; ++k) {
    uint64_t rank = r.varint();
    if (rank > UINT16_MAX) return false;
    auto& intents = commit.participants[RankId{static_cast<uint16_t>(rank)}];
    if (!intents.empty() || !decode_intents(r, intents)) return false;
  }
  uint64_t changes = r.varint();
  if (changes > r.remaining()) return false;
  for (uint64_t k = 0; k < changes; ++k)
    if (!decode_change(r, commit.map.emplace_back())) return false;
  return r.ok();
}

}  // namespace

void encode_commit(ByteWriter& w, const Commit& commit, std::string_view tree) {
  encode_id(w, commit.op);
  w.varint(commit.participants.size());
  for (const auto& [rank, intents] : commit.participants) {
    w.varint(rank.v);
    encode_intents(w, intents);
  }
  w.varint(commit.map.size());
  for (const MapChange& change : commit.map) encode_change(w, change);
  w.raw(tree);
}

void apply_commit(RankState& state, const Commit& commit) {
  state.prepared.erase(commit.op);
  if (!commit.participants.empty()) state.committed[commit.op].participants = commit.participants;
  for (const MapChange& c : commit.map) {
    auto within = state.imports.find(c.within);
    auto import = state.imports.find(c.root);
    switch (c.kind) {
      case MapChange::import_add:
        state.imports[c.root] = c.import;
        break;
      case MapChange::import_remove:
        state.imports.erase(c.root);
        break;
      case MapChange::bound_add:
        if (within != state.imports.end()) within->second.bounds[c.root] = c.bound;
        break;
      case MapChange::bound_remove:
        if (within != state.imports.end()) within->second.bounds.erase(c.root);
        break;
      case MapChange::path:
        if (import == state.imports.end()) break;
        import->second.path = c.import.path;
        import->second.parent = c.import.parent;
        import->second.above = c.import.above;
        break;
    }
  }
}

const EventKind kCommitEvent = {
    EventType::commit, "Commit",
    [](ReplayContext& context, Lsn lsn, std::string_view payload) {
      ByteReader r(payload);
      Commit commit;
      if (!decode(r, commit)) return false;
      std::string_view tree = r.raw(r.remaining());
      if (!replay_tree(context, EventType::commit, lsn, tree)) return false;
      apply_commit(context.state, commit);
      return true;
    },
    [](std::string_view payload, nlohmann::json& out) {
      ByteReader r(payload);
      Commit commit;
      if (!decode(r, commit)) return false;
      out["operation"] = {commit.op.rank.v, commit.op.epoch.v, commit.op.number};
      for (const auto& [rank, intents] : commit.participants) out["participants"].push_back(rank.v);
      return describe_tree(EventType::commit, r.raw(r.remaining()), out);
    }};

}  // namespace graftfs
