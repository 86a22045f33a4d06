#include "events/rank_state.h"

#include <algorithm>

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

void encode_state(ByteWriter& w, const RankState& state) {
  w.varint(state.imports.size());
  for (const auto& [root, import] : state.imports) {
    w.varint(root.v);
    w.string(import.path);
    w.varint(import.bounds.size());
    for (Ino bound : import.bounds) w.varint(bound.v);
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
}

bool decode_state(ByteReader& r, RankState& state) {
  state = {};
  uint64_t imports = r.varint();
  for (uint64_t k = 0; k < imports && r.ok(); ++k) {
    Import import;
    import.root = Ino{r.varint()};
    import.path = r.string();
    uint64_t bounds = r.varint();
    for (uint64_t b = 0; b < bounds && r.ok(); ++b) import.bounds.push_back(Ino{r.varint()});
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
  return r.ok();
}

}  // namespace graftfs
