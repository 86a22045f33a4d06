#include "events/rank_state.h"

#include <algorithm>

#include "base/fault.h"

namespace graftfs {

const CompletedRequest* SessionState::find(uint64_t seq) const {
  if (completed.empty() || seq > completed.back().seq) return nullptr;
  auto it = std::lower_bound(completed.begin(), completed.end(), seq,
                             [](const CompletedRequest& c, uint64_t s) { return c.seq < s; });
  return it != completed.end() && it->seq == seq ? &*it : nullptr;
}

void RankState::note_request(const TreeEvent& event) {
  if (!event.session || event.seq == 0) return;
  auto it = sessions.find(event.session);
  if (it == sessions.end()) return;
  SessionState& s = it->second;
  s.oldest = std::max(s.oldest, event.oldest);
  while (!s.completed.empty() && s.completed.front().seq < s.oldest) s.completed.pop_front();
  CompletedRequest done{event.seq, event.result, event.result_flags};
  if (s.completed.empty() || s.completed.back().seq < done.seq) {
    s.completed.push_back(done);
    return;
  }
  auto at = std::lower_bound(s.completed.begin(), s.completed.end(), done.seq,
                             [](const CompletedRequest& c, uint64_t q) { return c.seq < q; });
  if (at->seq != done.seq) s.completed.insert(at, done);
}

void RankState::note_ino(Ino ino) {
  for (InoRange& range : inos)
    if (ino.v >= range.next && ino.v < range.end) range.next = ino.v + 1;
}

bool RankState::has_bounds() const {
  return std::any_of(imports.begin(), imports.end(),
                     [](const auto& item) { return !item.second.bounds.empty(); });
}

const Bound* RankState::find_bound(Ino ino, Ino* import) const {
  for (const auto& [root, i] : imports) {
    auto it = i.bounds.find(ino);
    if (it == i.bounds.end()) continue;
    if (import) *import = root;
    return &it->second;
  }
  return nullptr;
}

void RankState::dissolve(Ino root) {
  Ino around;
  if (!imports.contains(root) || !find_bound(root, &around) || around == root) return;
  MARK("events.import.dissolved");
  Import inner = std::move(imports[root]);
  imports.erase(root);
  Import& outer = imports[around];
  outer.bounds.erase(root);
  outer.bounds.merge(inner.bounds);
}

// -- codecs -------------------------------------------------------------------------------------

void encode_id(ByteWriter& w, const ProtocolId& id) {
  w.varint(id.rank.v);
  w.varint(id.epoch.v);
  w.varint(id.number);
}

ProtocolId decode_id(ByteReader& r) {
  uint64_t rank = r.varint();
  uint64_t epoch = r.varint();
  uint64_t number = r.varint();
  if (rank > UINT16_MAX || epoch > UINT32_MAX) r.fail();
  return {RankId{static_cast<uint16_t>(rank)}, Epoch{static_cast<uint32_t>(epoch)}, number};
}

namespace {

RankId decode_rank(ByteReader& r) {
  uint64_t rank = r.varint();
  if (rank > UINT16_MAX) r.fail();
  return RankId{static_cast<uint16_t>(rank)};
}

uint32_t decode_u32(ByteReader& r) {
  uint64_t v = r.varint();
  if (v > UINT32_MAX) r.fail();
  return static_cast<uint32_t>(v);
}

bool decode_flag(ByteReader& r) {
  uint8_t v = r.u8();
  if (v > 1) r.fail();
  return v;
}

}  // namespace

void encode_intents(ByteWriter& w, const std::vector<msg::Intent>& intents) {
  w.varint(intents.size());
  for (const msg::Intent& i : intents) {
    w.u8(static_cast<uint8_t>(i.kind));
    w.varint(i.ino.v);
    w.varint(i.dir.v);
    w.string(i.name);
    encode_entry_body(w, i.value);
    w.u8(i.as_dir);
  }
}

bool decode_intents(ByteReader& r, std::vector<msg::Intent>& intents) {
  uint64_t n = r.varint();
  if (n > r.remaining()) return false;
  for (uint64_t k = 0; k < n && r.ok(); ++k) {
    msg::Intent& i = intents.emplace_back();
    uint8_t kind = r.u8();
    if (kind > static_cast<uint8_t>(msg::IntentKind::hang)) return false;
    i.kind = static_cast<msg::IntentKind>(kind);
    i.ino = Ino{r.varint()};
    i.dir = Ino{r.varint()};
    i.name = r.string();
    decode_entry_body(r, i.value);
    i.as_dir = decode_flag(r);
  }
  return r.ok();
}

bool has_rest(const Import& import) {
  return import.parent || import.moves || import.from != ProtocolId{} || !import.settled ||
         !import.above.empty() ||
         std::any_of(import.bounds.begin(), import.bounds.end(),
                     [](const auto& item) { return item.second != Bound{}; });
}

void encode_import_rest(ByteWriter& w, const Import& import) {
  w.varint(import.parent.v);
  w.varint(import.moves);
  encode_id(w, import.from);
  w.u8(import.settled);
  for (const auto& [ino, bound] : import.bounds) {
    w.varint(bound.parent.v);
    w.varint(bound.rank.v);
    w.varint(bound.moves);
  }
  w.varint(import.above.size());
  for (Ino ino : import.above) w.varint(ino.v);
}

bool decode_import_rest(ByteReader& r, Import& import) {
  import.parent = Ino{r.varint()};
  import.moves = decode_u32(r);
  import.from = decode_id(r);
  import.settled = decode_flag(r);
  for (auto& [ino, bound] : import.bounds) {
    bound.parent = Ino{r.varint()};
    bound.rank = decode_rank(r);
    bound.moves = decode_u32(r);
  }
  uint64_t above = r.varint();
  if (above > r.remaining()) return false;
  for (uint64_t k = 0; k < above; ++k) import.above.push_back(Ino{r.varint()});
  return r.ok();
}

namespace {

// What several ranks have beside it. Nothing of it: the checkpoint ends before, as in volumes of
// one rank that older versions have written.
bool has_more(const RankState& s) {
  return !s.forwards.empty() || !s.prepared.empty() || !s.committed.empty() ||
         std::any_of(s.imports.begin(), s.imports.end(),
                     [](const auto& item) { return has_rest(item.second); });
}

void encode_more(ByteWriter& w, const RankState& state) {
  for (const auto& [root, import] : state.imports) encode_import_rest(w, import);
  w.varint(state.forwards.size());
  for (const auto& [root, forward] : state.forwards) {
    w.varint(root.v);
    w.varint(forward.to.v);
    w.varint(forward.moves);
    encode_id(w, forward.id);
  }
  w.varint(state.prepared.size());
  for (const auto& [op, prepared] : state.prepared) {
    encode_id(w, op);
    w.varint(prepared.session.v);
    encode_time(w, prepared.now);
    encode_intents(w, prepared.intents);
  }
  w.varint(state.committed.size());
  for (const auto& [op, committed] : state.committed) {
    encode_id(w, op);
    w.varint(committed.participants.size());
    for (const auto& [rank, intents] : committed.participants) {
      w.varint(rank.v);
      encode_intents(w, intents);
    }
  }
}

bool decode_more(ByteReader& r, RankState& state) {
  for (auto& [root, import] : state.imports)
    if (!decode_import_rest(r, import)) return false;
  uint64_t forwards = r.varint();
  for (uint64_t k = 0; k < forwards && r.ok(); ++k) {
    Forward& forward = state.forwards[Ino{r.varint()}];
    forward.to = decode_rank(r);
    forward.moves = decode_u32(r);
    forward.id = decode_id(r);
  }
  uint64_t prepared = r.varint();
  for (uint64_t k = 0; k < prepared && r.ok(); ++k) {
    PreparedOp& op = state.prepared[decode_id(r)];
    op.session = SessionId{r.varint()};
    op.now = decode_time(r);
    if (!op.intents.empty() || !decode_intents(r, op.intents)) return false;
  }
  uint64_t committed = r.varint();
  for (uint64_t k = 0; k < committed && r.ok(); ++k) {
    CommittedOp& op = state.committed[decode_id(r)];
    uint64_t participants = r.varint();
    for (uint64_t p = 0; p < participants && r.ok(); ++p) {
      std::vector<msg::Intent>& intents = op.participants[decode_rank(r)];
      if (!intents.empty() || !decode_intents(r, intents)) return false;
    }
  }
  return r.ok();
}

}  // namespace

void encode_state(ByteWriter& w, const RankState& state) {
  w.varint(state.imports.size());
  for (const auto& [root, import] : state.imports) {
    w.varint(root.v);
    w.string(import.path);
    w.varint(import.bounds.size());
    for (const auto& [bound, what] : import.bounds) w.varint(bound.v);
  }
  w.varint(state.inos.size());
  for (const InoRange& range : state.inos) {
    w.varint(range.next);
    w.varint(range.end);
  }
  w.varint(state.sessions.size());
  for (const auto& [id, session] : state.sessions) {
    w.varint(id.v);
    w.varint(session.oldest);
    w.varint(session.completed.size());
    for (const CompletedRequest& c : session.completed) {
      w.varint(c.seq);
      w.varint(c.result.v);
      w.u8(c.flags);
    }
  }
  if (has_more(state)) encode_more(w, state);
}

bool decode_state(ByteReader& r, RankState& state) {
  state = {};
  uint64_t imports = r.varint();
  for (uint64_t k = 0; k < imports && r.ok(); ++k) {
    Import import;
    import.root = Ino{r.varint()};
    import.path = r.string();
    uint64_t bounds = r.varint();
    for (uint64_t b = 0; b < bounds && r.ok(); ++b) import.bounds[Ino{r.varint()}];
    state.imports[import.root] = std::move(import);
  }
  uint64_t inos = r.varint();
  for (uint64_t k = 0; k < inos && r.ok(); ++k) {
    InoRange range;
    range.next = r.varint();
    range.end = r.varint();
    if (range.next > range.end) return false;
    state.inos.push_back(range);
  }
  uint64_t sessions = r.varint();
  for (uint64_t k = 0; k < sessions && r.ok(); ++k) {
    SessionId id{r.varint()};
    SessionState& s = state.sessions[id];
    s.oldest = r.varint();
    uint64_t completed = r.varint();
    for (uint64_t c = 0; c < completed && r.ok(); ++c) {
      CompletedRequest request;
      request.seq = r.varint();
      request.result = Ino{r.varint()};
      request.flags = r.u8();
      if (!s.completed.empty() && request.seq <= s.completed.back().seq) return false;
      s.completed.push_back(request);
    }
  }
  if (r.ok() && r.remaining() > 0) return decode_more(r, state);
  return r.ok();
}

}  // namespace graftfs
