// Every event decoder: replay and description of arbitrary payloads, and segment starts.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "events/registry.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graftfs;
  if (size == 0) return 0;
  std::string_view payload(reinterpret_cast<const char*>(data) + 1, size - 1);
  Cache cache;
  RankState state;
  ReplayContext context{cache, state, {}};
  size_t which = data[0] % (event_kinds().size() + 2);
  if (which < event_kinds().size()) {
    const EventKind& kind = *event_kinds()[which];
    nlohmann::json out;
    bool shown = kind.describe(payload, out);
    bool taken = kind.replay(context, Lsn{1}, payload);
    // What replay takes can be shown to people.
    CHECK(!taken || shown, "event type {}", static_cast<int>(kind.type));
    // Twice is the same as once.
    CacheUsage once = cache.usage();
    if (taken) kind.replay(context, Lsn{2}, payload);
    CHECK(!taken || cache.usage().entries == once.entries);
    // Names need not be UTF-8.
    (void)out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } else {
    bool major = which == event_kinds().size();
    nlohmann::json out;
    describe_segment_payload(major, payload, out);
    replay_segment_payload(context, major, true, Lsn{1}, payload);
  }
  cache.attach_all();
  cache.for_each_dir([](Dir& dir) { (void)dir.entries.size(); });
  return 0;
}
