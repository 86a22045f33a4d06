#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/mounts.h"
#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

// What can be said of a volume whether it is mounted or not.
Result<json> describe_volume(const std::string& volume) {
  TRY_ASSIGN(auto open, OpenVolume::open(volume));
  const local::VolumeFile& file = open->volume().file();
  json out = {
      {"volume", volume}, {"uuid", file.uuid}, {"format", file.format}, {"created", file.created}};
  TRY_ASSIGN(StoreUsage usage, open->wait(open->store().usage()));
  out["disk"] = {{"bytes", usage.blocks * usage.block_size},
                 {"free_bytes", usage.blocks_available * usage.block_size}};
  auto device = open->wait(open->store().read_journal(RankId{0}));
  if (!device) return out;  // formatting was cut off, or the journal is gone: verify says which
  TRY_ASSIGN(auto segments, open->wait((*device)->list()));
  uint64_t bytes = 0;
  for (const SegmentInfo& segment : segments) bytes += segment.capacity;
  out["journal"] = {{"segments", segments.size()}, {"file_bytes", bytes}};
  return out;
}

double number(const json& object, const char* group, const char* key) {
  return object.value(group, json::object()).value(key, 0.0);
}
std::string size(const json& object, const char* group, const char* key) {
  return show_size(static_cast<uint64_t>(number(object, group, key)));
}

void print_mounted(const json& info) {
  fmt::print("mounted      on {} by process {}, {}{}{}\n", info.value("mountpoint", "?"),
             info.value("pid", 0), info.value("durability", "?"),
             info.value("read_only", false) ? ", read-only" : "",
             info.value("failed", false) ? ", FAILED (unmount and mount it again)" : "");
  fmt::print("journal      {} in {} segments; at most {}\n", size(info, "journal", "bytes"),
             number(info, "journal", "segments"), size(info, "journal", "cap_bytes"));
  fmt::print("recovery     {} events, {}, in {:.3f} s; the target is {:g} s\n",
             number(info, "recovery", "events"), size(info, "recovery", "bytes"),
             number(info, "recovery", "seconds"), number(info, "recovery", "target_seconds"));
  fmt::print("cache        {} entries in {} directories, {} not written back; {} of {}\n",
             number(info, "cache", "entries"), number(info, "cache", "dirs"),
             number(info, "cache", "dirty"), size(info, "cache", "bytes"),
             size(info, "cache", "limit_bytes"));
}

void print_info(const json& info) {
  fmt::print("volume       {}\n", info.value("volume", ""));
  fmt::print("uuid         {}\nformat       {}, created {}\n", info.value("uuid", ""),
             info.value("format", 0), info.value("created", ""));
  fmt::print("disk         {} free of {}\n", size(info, "disk", "free_bytes"),
             size(info, "disk", "bytes"));
  if (info.contains("pid")) return print_mounted(info);
  fmt::print("mounted      no\n");
  if (info.contains("journal"))
    fmt::print("journal      {} segment files, {}\n", number(info, "journal", "segments"),
               size(info, "journal", "file_bytes"));
}

Result<int> info_command(const std::string& name, bool as_json) {
  std::string path = volume_name(name);
  std::string volume = path;
  if (auto there = find_mount(path); there && there->type == "fuse.graftfs") volume = there->source;
  TRY_ASSIGN(json info, describe_volume(volume));
  auto served = ask_daemon(run_dir(volume));
  info["mounted"] = served.has_value();
  if (served) {
    json status = json::parse(served->status, nullptr, false);
    if (status.is_object()) info.merge_patch(status);
    info["pid"] = served->pid;
  }
  if (as_json)
    fmt::print("{}\n", info.dump(2));
  else
    print_info(info);
  return 0;
}

}  // namespace

void add_info(CLI::App& app) {
  struct Args {
    std::string path;
    bool json = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command =
      add_command(app, "info", "Show what a volume is, who has it mounted and how it does",
                  "  graftfs info /srv/v\n"
                  "  graftfs info /mnt --json | jq .journal.bytes\n");
  command->add_option("PATH", args->path, "a volume, or where one is mounted")->required();
  command->add_flag("--json", args->json, "one JSON object");
  on_run(command, [args] { return info_command(args->path, args->json); });
}

}  // namespace graftfs::cli
