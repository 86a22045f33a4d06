// InoAlloc: a range of inos was taken from the store: {from, end}.
#include "events/ino_alloc.h"

#include <nlohmann/json.hpp>

#include "events/registry.h"

namespace graftfs {

void encode_ino_alloc(ByteWriter& w, uint64_t from, uint64_t end) {
  w.varint(from);
  w.varint(end);
}

const EventKind kInoAllocEvent = {EventType::ino_alloc, "InoAlloc",
                                  [](ReplayContext& context, Lsn, std::string_view payload) {
                                    ByteReader r(payload);
                                    uint64_t from = r.varint();
                                    uint64_t end = r.varint();
                                    if (!r.done() || from >= end) return false;
                                    for (const InoRange& range : context.state.inos)
                                      if (range.end == end) return true;  // replayed before
                                    context.state.inos.push_back({from, end});
                                    return true;
                                  },
                                  [](std::string_view payload, nlohmann::json& out) {
                                    ByteReader r(payload);
                                    out["from"] = r.varint();
                                    out["end"] = r.varint();
                                    return r.done();
                                  }};

}  // namespace graftfs
