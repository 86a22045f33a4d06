#include <fmt/chrono.h>
#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "cluster/table.h"
#include "tools/explain.h"
#include "tools/journal_view.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;
using tools::JournalSource;

// An opened volume and where its journal is.
struct Source {
  std::unique_ptr<OpenVolume> volume;
  JournalSource journal;
};

// Whose journal.
struct Where {
  std::string volume;
  uint16_t rank = 0;
};

Result<Source> open_source(const Where& where) {
  const std::string name = volume_name(where.volume);
  Source out;
  TRY_ASSIGN(out.volume, OpenVolume::open(name));
  TRY_ASSIGN(StateValue formatted,
             out.volume->wait(out.volume->store().state().get(kFormattedKey)));
  out.journal.executor = &out.volume->loop();
  out.journal.store = &out.volume->store();
  out.journal.volume = out.volume->number();
  out.journal.must_exist = formatted.version > 0;
  out.journal.rank = RankId{where.rank};
  TRY_ASSIGN(StateValue found,
             out.volume->wait(out.volume->store().state().get(cluster::kTableKey)));
  TRY_ASSIGN(cluster::Table table, cluster::decode_table(found.value));
  const cluster::TableRank* line = table.find(out.journal.rank);
  if (!line && where.rank != 0 && !table.heirs.contains(out.journal.rank))
    return fail(ENOENT, fmt::format("{} has no rank {}; 'graftfs rank list' shows those there are",
                                    name, where.rank));
  out.journal.served = ask_daemon(run_dir(name)).has_value() || (line && line->node != 0);
  out.journal.volume_name = name;
  return out;
}

Result<int> inspect(const Where& where, uint64_t segment, bool as_json) {
  TRY_ASSIGN(Source source, open_source(where));
  TRY_ASSIGN(auto view, source.volume->wait(tools::read_journal(source.journal)));
  auto segments = tools::summarize(view.scan);
  std::erase_if(segments, [&](const auto& s) { return segment && s.id.v != segment; });
  if (segment && segments.empty())
    return fail(ENOENT, fmt::format("the journal of {} has no segment {}; 'graftfs journal inspect "
                                    "{}' lists those there are",
                                    where.volume, segment, where.volume));
  if (as_json) {
    json out = {{"clean_end", view.scan.clean},
                {"last_lsn", view.scan.last.v},
                {"durable_lsn", view.scan.durable.v},
                {"segments", json::array()}};
    for (const auto& s : segments) out["segments"].push_back(tools::to_json(s));
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("{:>8} {:>5} {:>5} {:>10} {:>8} {:>10} {:>10}  {}\n", "segment", "major", "epoch",
             "bytes", "events", "clean", "dirty", "events of each type");
  uint64_t events = 0, clean = 0, dirty = 0;
  for (const auto& s : segments) {
    std::string types;
    for (const auto& [type, count] : s.types) types += fmt::format("{} {}  ", type, count);
    fmt::print("{:>8} {:>5} {:>5} {:>10} {:>8} {:>10} {:>10}  {}\n", s.id.v, s.major ? "yes" : "",
               s.epoch.v, s.bytes, s.events, s.clean_bytes, s.dirty_bytes, types);
    events += s.events;
    clean += s.clean_bytes;
    dirty += s.dirty_bytes;
  }
  fmt::print("{} events, the last is number {}; {} of traces for {} of changes; {}\n", events,
             view.scan.last.v, show_size(clean), show_size(dirty),
             view.scan.clean         ? "ended cleanly"
             : source.journal.served ? "being written"
                                     : "not ended cleanly");
  return 0;
}

Result<int> verify(const Where& where, bool as_json) {
  TRY_ASSIGN(Source source, open_source(where));
  TRY_ASSIGN(auto view, source.volume->wait(tools::read_journal(source.journal)));
  auto damage = tools::find_damage(view, where.volume);
  bool bad = false;
  for (const auto& d : damage) bad |= !d.harmless;
  uint64_t frames = 0, bytes = 0;
  for (const auto& s : tools::summarize(view.scan)) {
    frames += s.frames;
    bytes += s.bytes;
  }
  if (as_json) {
    json out = {{"sound", !bad},
                {"frames", frames},
                {"bytes", bytes},
                {"cut_events", view.cut},
                {"damage", json::array()}};
    for (const auto& d : damage) out["damage"].push_back(tools::to_json(d));
    fmt::print("{}\n", out.dump(2));
    return bad ? kExitError : 0;
  }
  for (const auto& d : damage) fmt::print("{}: {}\n", d.kind, d.sentence);
  if (view.cut)
    fmt::print("after a power cut: {} events whose data was not on disk will not be kept\n",
               view.cut);
  if (!bad) fmt::print("{} frames in {} are sound\n", frames, show_size(bytes));
  return bad ? kExitError : 0;
}

Result<int> dump(const Where& where, uint64_t segment) {
  TRY_ASSIGN(Source source, open_source(where));
  TRY_ASSIGN(auto view, source.volume->wait(tools::read_journal(source.journal)));
  bool sound = true;
  for_each_frame(view.scan, SegmentId{segment}, [&](const Frame& frame) {
    if (segment && frame.segment.v != segment) return false;
    json out;
    sound &= tools::frame_json(frame, out);
    // Names need not be UTF-8.
    fmt::print("{}\n", out.dump(-1, ' ', false, json::error_handler_t::replace));
    return true;
  });
  for (const auto& d : tools::find_damage(view, where.volume)) {
    fmt::print(stderr, "graftfs: {}\n", d.sentence);
    sound &= d.harmless;
  }
  return sound ? 0 : kExitError;
}

Result<Ino> parse_target(Source& source, const tools::ReplayedJournal& journal,
                         const std::string& target, bool& gone) {
  if (target.starts_with('/')) {
    TRY_ASSIGN(auto found, source.volume->wait(tools::resolve_path(
                               journal, source.volume->store().dirs(), target)));
    gone = found.gone;
    return found.ino;
  }
  std::string_view digits = target;
  int base = 10;
  if (digits.starts_with("0x")) {
    digits.remove_prefix(2);
    base = 16;
  }
  uint64_t ino = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ino, base);
  if (error != std::errc{} || end != digits.data() + digits.size() || ino == 0)
    return fail(EINVAL, fmt::format("'{}' is neither a path from the volume's root (such as /a/b) "
                                    "nor an inode number",
                                    target));
  return Ino{ino};
}

Result<int> explain(const Where& where, const std::string& target, bool as_json) {
  TRY_ASSIGN(Source source, open_source(where));
  TRY_ASSIGN(auto journal, source.volume->wait(tools::replay_journal(source.journal, true, true)));
  bool gone = false;
  TRY_ASSIGN(Ino ino, parse_target(source, *journal, target, gone));
  auto events = tools::explain(*journal, ino);
  if (as_json) {
    json out = {{"ino", ino.v},
                {"gone", gone},
                {"events", json::array()},
                {"now", tools::describe_now(*journal, ino)}};
    for (const auto& e : events) out["events"].push_back(tools::to_json(e));
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return 0;
  }
  fmt::print("inode {} ({:#x}){}\n", ino.v, ino.v, gone ? ", a name that is gone" : "");
  const auto& segments = journal->view.scan.segments;
  for (const auto& e : events)
    fmt::print("  event {} ({}, segment {}, offset {}): {}\n", e.lsn.v, e.type, e.segment.v,
               e.offset, e.words);
  if (events.empty())
    fmt::print(
        "  the journal says nothing of it: it has not changed since event {}, where the "
        "journal begins\n",
        segments.empty() ? 0 : segments.front().first.v);
  else
    fmt::print("  now {}\n", tools::describe_now(*journal, ino));
  return 0;
}

Result<int> replay(const Where& where, bool tree, bool as_json) {
  TRY_ASSIGN(Source source, open_source(where));
  TRY_ASSIGN(auto journal, source.volume->wait(tools::replay_journal(source.journal, false, true)));
  double seconds = static_cast<double>(journal->took) / kSecond;
  const CacheUsage& usage = journal->cache.usage();
  if (as_json) {
    json out = {{"events", journal->events}, {"seconds", seconds},   {"dirs", usage.dirs},
                {"entries", usage.entries},  {"dirty", usage.dirty}, {"bytes", usage.bytes}};
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  if (tree)
    journal->cache.for_each_dir([](Dir& dir) {
      std::string path = Cache::path_of(dir);
      fmt::print("{}\n", path);
      for (const auto& [hash, first] : dir.entries)
        for (const Dentry* e = first; e; e = e->same_hash)
          fmt::print("{}/{}{}\n", path == "/" ? "" : path, e->name,
                     e->kind == EntryKind::null ? " (removed)" : "");
    });
  fmt::print(
      "{} events replayed in {:.3f} s into {} directories and {} entries, of which {} are "
      "not in the store yet\n",
      journal->events, seconds, usage.dirs, usage.entries, usage.dirty);
  return 0;
}

struct Args {
  Where where;
  std::string target;
  uint64_t segment = 0;
  bool json = false, tree = false;
};

CLI::App* add(CLI::App& journal, const std::shared_ptr<Args>& args, const std::string& name,
              const std::string& about, const std::string& examples, const std::string& json_help) {
  CLI::App* command = add_command(journal, name, about, examples);
  command->add_option("VOLUME", args->where.volume, "the volume")->required();
  command->add_option("--rank", args->where.rank, "whose journal, where there are several (0)")
      ->type_name("N");
  if (!json_help.empty()) command->add_flag("--json", args->json, json_help);
  return command;
}

}  // namespace

void add_journal(CLI::App& app) {
  CLI::App* journal = add_command(app, "journal", "Look into a journal; also while it is mounted",
                                  "  graftfs journal inspect /srv/v\n"
                                  "  graftfs journal explain /srv/v /etc/passwd\n");
  journal->require_subcommand(1);
  auto args = std::make_shared<Args>();

  CLI::App* c = add(*journal, args, "inspect", "List its segments and what they hold",
                    "  graftfs journal inspect /srv/v\n"
                    "  graftfs journal inspect /srv/v --segment 7 --json\n",
                    "one JSON object");
  c->add_option("--segment", args->segment, "only this one");
  on_run(c, [args] { return inspect(args->where, args->segment, args->json); });

  c = add(*journal, args, "verify", "Check every frame; exit code 1 where something is damaged",
          "  graftfs journal verify /srv/v\n"
          "  graftfs journal verify /srv/v --json | jq .damage\n",
          "one JSON object");
  on_run(c, [args] { return verify(args->where, args->json); });

  c = add(*journal, args, "dump", "Print every event, one JSON object a line",
          "  graftfs journal dump /srv/v --json | grep Rename\n"
          "  graftfs journal dump /srv/v --json --segment 7 | jq .type\n",
          "the only form there is");
  c->add_option("--segment", args->segment, "only this one");
  on_run(c, [args] { return dump(args->where, args->segment); });

  c = add(*journal, args, "explain", "Tell every event that made a file what it is",
          "  graftfs journal explain /srv/v /doc/readme\n"
          "  graftfs journal explain /srv/v 1048577        # also when it is gone\n",
          "one JSON object");
  c->add_option("WHAT", args->target, "a path from the volume's root, or an inode number")
      ->type_name("PATH|INO")
      ->required();
  on_run(c, [args] { return explain(args->where, args->target, args->json); });

  c = add(*journal, args, "replay", "Replay it into memory, as a mount would, and throw that away",
          "  graftfs journal replay /srv/v\n"
          "  graftfs journal replay /srv/v --tree\n",
          "one JSON object");
  c->add_flag("--tree", args->tree, "print what it makes");
  on_run(c, [args] { return replay(args->where, args->tree, args->json); });
}

}  // namespace graftfs::cli
