#pragma once
// Events as a rank logs them, and what they leave in a cache.

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "events/import.h"
#include "events/ino_alloc.h"
#include "events/registry.h"
#include "events/session.h"
#include "events/trace.h"

namespace graftfs::testing {

struct Logged {
  EventType type;
  std::string payload;
};

// A small rank without a journal: logs events and applies them.
struct EventBench {
  explicit EventBench(TracePolicy policy) : encoder(cache, policy) {}

  void log(const TreeEvent& event) {
    Logged out{event.type, {}};
    encoder.encode(event, out.payload);
    logged.push_back(std::move(out));
    ++lsn.v;
    ASSERT_TRUE(apply_tree_event(cache, state, lsn, event));
    encoder.note_named(event);
  }
  void log_raw(EventType type, std::string payload) {
    logged.push_back({type, std::move(payload)});
    ++lsn.v;
    ReplayContext context{cache, state, {}};
    ASSERT_TRUE(
        find_event(static_cast<uint8_t>(type))->replay(context, lsn, logged.back().payload));
  }

  Cache cache;
  RankState state;
  TraceEncoder encoder;
  Lsn lsn;
  std::vector<Logged> logged;
};

inline bool replay_one(ReplayContext& context, Lsn lsn, const Logged& event) {
  return find_event(static_cast<uint8_t>(event.type))->replay(context, lsn, event.payload);
}

// Everything the cache holds, as text.
inline std::map<std::string, std::string> contents(const Cache& cache) {
  std::map<std::string, std::string> out;
  cache.for_each_dir([&](Dir& d) {
    std::string bytes;
    ByteWriter header(bytes);
    encode_header_body(header, d.header);
    out[fmt::format("{:x}", d.ino().v)] = bytes;
    for (auto& [hash, first] : d.entries)
      for (Dentry* e = first; e; e = e->same_hash) {
        std::string value;
        ByteWriter w(value);
        encode_entry_body(w, {e->kind, e->version, e->ino, e->type, e->inode});
        out[fmt::format("{:x}/{}", d.ino().v, e->name)] = value;
      }
  });
  return out;
}

inline std::string state_bytes(const RankState& state) {
  std::string out;
  ByteWriter w(out);
  encode_state(w, state);
  return out;
}

}  // namespace graftfs::testing
