#include "tools/fsck.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"
#include "store/local/alone.h"
#include "store/rados/name.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr int kExitRepaired = 1, kExitProblemsLeft = 4, kExitFailed = 8;  // as e2fsck

void print_problems(const tools::FsckReport& report, const char* did) {
  for (const auto& p : report.problems)
    fmt::print("{}: {}; {} {}\n", p.note ? "note" : tools::name_of(p.kind), p.sentence, did,
               p.repair);
}

json report_json(const tools::FsckReport& report) {
  json out = {{"clean", report.clean()}, {"ranks", report.ranks}, {"dirs", report.dirs},
              {"files", report.files},   {"names", report.names}, {"problems", json::array()}};
  for (const auto& p : report.problems) out["problems"].push_back(tools::to_json(p));
  return out;
}

void print_json(const json& out) {
  fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
}

Result<int> check(OpenVolume& volume, const tools::JournalSource& source, bool data, bool as_json) {
  TRY_ASSIGN(auto report, volume.wait(tools::check_volume(source, data)));
  if (as_json) {
    print_json(report_json(report));
  } else {
    print_problems(report, "repair:");
    fmt::print("{}: {} directories, {} files, {} names; {}\n", source.volume_name, report.dirs,
               report.files, report.names,
               report.clean() ? "clean"
                              : fmt::format("problems found; 'graftfs fsck --repair {}{}' repairs "
                                            "them",
                                            data ? "--data " : "", source.volume_name));
  }
  return report.clean() ? 0 : kExitProblemsLeft;
}

Result<int> repair(OpenVolume& volume, const tools::JournalSource& source, bool data,
                   bool as_json) {
  TRY_ASSIGN(auto result, volume.wait(tools::repair_volume(source, data)));
  bool clean = result.after.clean();
  if (as_json) {
    json out = report_json(result.after);
    out["repaired"] = report_json(result.before)["problems"];
    print_json(out);
  } else {
    print_problems(result.before, "repaired:");
    if (!clean) fmt::print("still there:\n");
    if (!clean) print_problems(result.after, "repair:");
    fmt::print("{}: {} directories, {} files, {} names; {}\n", source.volume_name,
               result.after.dirs, result.after.files, result.after.names,
               clean ? "clean" : "problems are left");
  }
  if (!clean) return kExitProblemsLeft;
  return result.before.problems.empty() ? 0 : kExitRepaired;
}

// Commands that only look have the volume open for a moment.
constexpr std::chrono::seconds kPatience(2);
constexpr std::chrono::milliseconds kPause(50);
constexpr char kSomebody[] = "in use by another process; wait until it is done";

std::string who_uses(const std::string& volume) {
  if (auto served = ask_daemon(volume))
    return fmt::format("mounted by process {}; unmount it first with 'graftfs umount {}'",
                       served->pid, volume);
  std::string mounts, servers;
  std::error_code none;
  for (const auto& file :
       std::filesystem::directory_iterator(std::filesystem::path(volume) / kSocketsDir, none)) {
    const std::string name = file.path().filename();
    const bool mount = name.starts_with("mount-");
    if (!mount && !name.ends_with(".status")) continue;
    auto served = ask_daemon(volume, fmt::format("{}/{}", kSocketsDir, name));
    if (!served) continue;
    std::string& list = mount ? mounts : servers;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", served->pid);
  }
  if (!mounts.empty())
    return fmt::format("mounted by process {}{}; unmount it{} first", mounts,
                       servers.empty() ? "" : " and served by process " + servers,
                       servers.empty() ? "" : ", stop what serves it, and wait for both");
  if (!servers.empty())
    return fmt::format("served by process {}; stop that first (SIGTERM), and wait until it is done",
                       servers);
  return kSomebody;
}

Result<std::unique_ptr<local::Alone>> take_alone(const std::string& volume) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + kPatience;
  for (;;) {
    auto alone = local::Alone::take(volume);
    if (alone || alone.error().code != EBUSY) return alone;
    const std::string who = who_uses(volume);
    if (who != kSomebody || Clock::now() >= end)
      return fail(EBUSY, fmt::format("{} is {}", volume, who));
    std::this_thread::sleep_for(kPause);
  }
}

Result<int> fsck_command(const std::string& text, bool repair_it, bool data, bool as_json) {
  const std::string name = volume_name(text);
  std::unique_ptr<local::Alone> alone;
  if (!rados::is_rados(name)) {
    TRY_ASSIGN(alone, take_alone(name));
  } else if (auto served = ask_daemon(run_dir(name))) {
    return fail(EBUSY, fmt::format("{} is mounted by process {}; unmount it first with 'graftfs "
                                   "umount {}'",
                                   name, served->pid, name));
  }
  // A repair takes what can be read of damaged pages: each record has a checksum of its own.
  TRY_ASSIGN(auto volume, OpenVolume::open(name, {}, repair_it));
  TRY_ASSIGN(auto user, volume->volume().in_use());
  if (user) return fail(EBUSY, fmt::format("{} is in use ({}); unmount it first", text, *user));
  TRY_ASSIGN(StateValue formatted, volume->wait(volume->store().state().get(kFormattedKey)));
  tools::JournalSource source;
  source.executor = &volume->loop();
  source.store = &volume->store();
  source.volume = volume->number();
  source.must_exist = formatted.version > 0;
  source.volume_name = name;
  return repair_it ? repair(*volume, source, data, as_json) : check(*volume, source, data, as_json);
}

}  // namespace

void add_fsck(CLI::App& app) {
  struct Args {
    std::string volume;
    bool repair = false, data = false, json = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command = add_command(
      app, "fsck", "Check a volume that nobody serves or mounts, and repair it",
      "  graftfs fsck /srv/v               # looks only\n"
      "  graftfs fsck /srv/v --data        # reads the contents of all files, too\n"
      "  graftfs fsck /srv/v --repair      # what has no place goes to /lost+found\n"
      "\nExit codes: 0 clean, 1 repaired, 2 usage, 4 problems are left, 8 it could not be "
      "checked.\n");
  command->add_option("VOLUME", args->volume, "the volume")->required();
  command->add_flag("--repair", args->repair, "repair what can be repaired");
  command->add_flag("--data", args->data,
                    "read the contents of all files; with --repair, what is damaged is believed");
  command->add_flag("--json", args->json, "one JSON object");
  on_run(command, [args]() -> Result<int> {
    auto code = fsck_command(args->volume, args->repair, args->data, args->json);
    if (code) return code;
    print_error(code.error());
    return kExitFailed;
  });
}

}  // namespace graftfs::cli
