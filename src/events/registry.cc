#include "events/registry.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "events/trace.h"

namespace graftfs {
namespace {

using nlohmann::json;

constexpr const EventKind* kKinds[] = {
    &kImportPathEvent, &kImportEvent,    &kExportEvent, &kInoAllocEvent, &kInoReleaseEvent,
    &kInodeEvent,      &kLinkEvent,      &kUnlinkEvent, &kRenameEvent,   &kSessionEvent,
    &kPrepareEvent,    &kCommitEvent,    &kAbortEvent,  &kCloseEvent,    &kImportPartEvent,
    &kImportEndEvent,  &kExportEndEvent,
};

std::string time_text(Timespec t) { return fmt::format("{}.{:09}", t.sec, t.nsec); }

json inode_json(const Inode& i) {
  json out = {{"ino", i.ino.v},
              {"mode", fmt::format("{:o}", i.mode)},
              {"uid", i.uid},
              {"gid", i.gid},
              {"nlink", i.nlink},
              {"size", i.size},
              {"mtime", time_text(i.mtime)},
              {"ctime", time_text(i.ctime)}};
  if (!i.symlink().empty()) out["symlink"] = i.symlink();
  for (const auto& [name, value] : i.xattrs()) out["xattrs"][name] = value.size();
  return out;
}

json header_json(const DirHeader& h) {
  return {{"dir", h.inode.ino.v},
          {"version", h.version.v},
          {"parent", h.at.parent.v},
          {"name", h.at.name},
          {"inode", inode_json(h.inode)}};
}

json dir_json(const DirItem& item) {
  json out;
  if (item.full) {
    out = header_json(item.header);
  } else {
    const Inode& i = item.header.inode;
    out = {{"dir", i.ino.v},
           {"version", item.header.version.v},
           {"mtime", time_text(i.mtime)},
           {"nlink", i.nlink},
           {"entries", i.size}};
  }
  out["dirty"] = item.dirty;
  return out;
}

json entry_json(const TreeEvent& event, const EntryItem& item) {
  static constexpr const char* kinds[] = {"null", "primary", "dir", "remote"};
  json out = {{"dir", event.dirs[item.dir].header.inode.ino.v},
              {"name", item.name},
              {"version", item.value.version.v},
              {"dirty", item.dirty},
              {"kind", kinds[static_cast<int>(item.value.kind)]}};
  if (item.value.kind == EntryKind::primary)
    out["inode"] = inode_json(item.value.inode);
  else if (item.value.kind != EntryKind::null)
    out["ino"] = item.value.ino.v;
  return out;
}

}  // namespace

std::span<const EventKind* const> event_kinds() { return kKinds; }

const EventKind* find_event(uint8_t type) {
  for (const EventKind* kind : kKinds)
    if (static_cast<uint8_t>(kind->type) == type) return kind;
  return nullptr;
}

bool apply_tree_event(Cache& cache, RankState& state, Lsn lsn, const TreeEvent& event) {
  if (!apply_items(cache, lsn, event)) return false;
  for (const DirItem& item : event.dirs)
    if (item.full) state.note_ino(item.header.inode.ino);
  for (const EntryItem& item : event.entries)
    if (item.value.kind == EntryKind::primary) state.note_ino(item.value.ino);
  if (event.type == EventType::ino_release) {
    // A removed directory's object is gone from the store: nothing of it may be written again.
    for (const EntryItem& item : event.entries)
      if (Ino ino = parse_hidden_name(item.name)) cache.discard_dir(ino);
  }
  state.note_request(event);
  return true;
}

bool replay_tree(ReplayContext& context, EventType type, Lsn lsn, std::string_view payload) {
  ByteReader r(payload);
  auto trace = [&](const DirHeader& h) { context.cache.apply_header(lsn, false, h); };
  if (!decode_traces(r, trace)) return false;
  TreeEvent& event = context.scratch;
  event.clear();
  event.type = type;
  if (!decode_tree_event(r, event)) return false;
  return apply_tree_event(context.cache, context.state, lsn, event);
}

bool describe_tree(EventType type, std::string_view payload, json& out) {
  ByteReader r(payload);
  json traces = json::array();
  if (!decode_traces(r, [&](const DirHeader& h) { traces.push_back(header_json(h)); }))
    return false;
  TreeEvent event;
  event.type = type;
  if (!decode_tree_event(r, event)) return false;
  if (event.seq) {
    out["session"] = event.session.v;
    out["request"] = event.seq;
  }
  if (event.result) out["result"] = event.result.v;
  if (event.result_flags & kResultCreated) out["created"] = true;
  if (event.result_flags & kResultOrphaned) out["orphaned"] = true;
  if (!traces.empty()) out["trace"] = std::move(traces);
  out["dirs"] = json::array();
  for (const DirItem& item : event.dirs) out["dirs"].push_back(dir_json(item));
  out["entries"] = json::array();
  for (const EntryItem& item : event.entries) out["entries"].push_back(entry_json(event, item));
  return true;
}

void encode_segment_payload(const RankState* checkpoint, std::string& out) {
  if (!checkpoint) return;
  std::string state;
  ByteWriter s(state);
  encode_state(s, *checkpoint);
  ByteWriter w(out);
  w.string(state);
}

bool replay_segment_payload(ReplayContext& context, bool major, bool use_checkpoint, Lsn lsn,
                            std::string_view payload) {
  ByteReader r(payload);
  if (major) {
    ByteReader state(r.string());
    RankState decoded;
    if (!r.ok() || !decode_state(state, decoded) || !state.done()) return false;
    if (use_checkpoint) context.state = std::move(decoded);
  }
  auto trace = [&](const DirHeader& h) { context.cache.apply_header(lsn, false, h); };
  return decode_traces(r, trace) && r.done();
}

bool describe_segment_payload(bool major, std::string_view payload, json& out) {
  ByteReader r(payload);
  if (major) {
    ByteReader state(r.string());
    RankState s;
    if (!r.ok() || !decode_state(state, s)) return false;
    json& c = out["checkpoint"];
    for (const auto& [root, import] : s.imports)
      c["imports"].push_back(
          {{"root", root.v}, {"path", import.path}, {"bounds", import.bounds.size()}});
    for (const auto& [root, forward] : s.forwards)
      c["forwards"].push_back({{"root", root.v}, {"to", forward.to.v}});
    if (!s.prepared.empty()) c["prepared"] = s.prepared.size();
    if (!s.committed.empty()) c["committed"] = s.committed.size();
    for (const InoRange& range : s.inos)
      c["inos"].push_back({{"next", range.next}, {"end", range.end}});
    for (const auto& [id, session] : s.sessions)
      c["sessions"].push_back({{"session", id.v}, {"completed", session.completed.size()}});
  }
  json summary = json::array();
  if (!decode_traces(r, [&](const DirHeader& h) { summary.push_back(header_json(h)); }))
    return false;
  out["summary"] = std::move(summary);
  return r.done();
}

}  // namespace graftfs
