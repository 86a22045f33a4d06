#include "cli/status.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

namespace graftfs::cli {
namespace {

double seconds(Nanos time) { return static_cast<double>(time) / kSecond; }

}  // namespace

nlohmann::json describe_rank(const Rank& rank, const Volume& volume, const std::string& mountpoint,
                             const Settings& settings, Nanos uptime, Nanos start_took) {
  const Recovered& r = rank.recovered();
  const RankStats& s = rank.stats();
  const CacheUsage& c = rank.cache().usage();
  const Journal& j = rank.journal();
  const TraceStats& t = rank.trace_stats();
  return {
      {"pid", ::getpid()},
      {"mountpoint", mountpoint},
      {"uuid", volume.file().uuid},
      {"durability", settings.durability == Durability::strict ? "strict" : "posix"},
      {"read_only", settings.read_only},
      {"failed", rank.failed()},
      {"uptime_seconds", seconds(uptime)},
      {"recovery",
       {{"events", r.events},
        {"bytes", r.bytes},
        {"seconds", seconds(r.scan + r.replay + r.attach)},
        {"scan_seconds", seconds(r.scan)},
        {"replay_seconds", seconds(r.replay)},
        {"attach_seconds", seconds(r.attach)},
        {"start_seconds", seconds(start_took)},
        {"cut_events", r.cut},
        {"target_seconds", seconds(settings.recovery_target)}}},
      {"journal",
       {{"bytes", j.live_bytes()},
        {"cap_bytes", rank.journal_cap()},
        {"segments", j.segments().size()},
        {"segment_bytes", settings.segment_size},
        {"appended", j.appended().v},
        {"written", j.written().v},
        {"durable", j.durable().v},
        {"events", t.events},
        {"clean_bytes", t.clean_bytes},
        {"dirty_bytes", t.dirty_bytes}}},
      {"cache",
       {{"dirs", c.dirs},
        {"entries", c.entries},
        {"dirty", c.dirty},
        {"bytes", c.bytes},
        {"limit_bytes", settings.memory}}},
      {"rank",
       {{"requests", s.requests},
        {"retries", s.retries},
        {"fetches", s.fetches},
        {"throttled", s.throttled},
        {"write_backs", s.write_backs},
        {"written_back_items", s.written_back_items},
        {"purged", s.purged},
        {"relogged", s.relogged},
        {"sessions", rank.state().sessions.size()}}},
  };
}

}  // namespace graftfs::cli
