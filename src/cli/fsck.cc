#include "tools/fsck.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/status_socket.h"
#include "cli/volume.h"

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
  json out = {{"clean", report.clean()},
              {"dirs", report.dirs},
              {"files", report.files},
              {"names", report.names},
              {"problems", json::array()}};
  for (const auto& p : report.problems) out["problems"].push_back(tools::to_json(p));
  return out;
}

void print_json(const json& out) {
  fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
}

Result<int> check(OpenVolume& volume, const tools::JournalSource& source, bool as_json) {
  TRY_ASSIGN(auto report, volume.wait(tools::check_volume(source)));
  if (as_json) {
    print_json(report_json(report));
  } else {
    print_problems(report, "repair:");
    fmt::print("{}: {} directories, {} files, {} names; {}\n", source.volume_name, report.dirs,
               report.files, report.names,
               report.clean() ? "clean"
                              : fmt::format("problems found; 'graftfs fsck --repair {}' repairs "
                                            "them",
                                            source.volume_name));
  }
  return report.clean() ? 0 : kExitProblemsLeft;
}

Result<int> repair(OpenVolume& volume, const tools::JournalSource& source, bool as_json) {
  TRY_ASSIGN(auto result, volume.wait(tools::repair_volume(source)));
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

// Keeps others from mounting while only looking: shared with the lock that a rank takes.
struct ReadLock {
  explicit ReadLock(const std::string& volume)
      : fd(::open((volume + "/journal/rank-0/lock").c_str(), O_RDONLY | O_CLOEXEC)) {}
  ReadLock(const ReadLock&) = delete;
  ReadLock& operator=(const ReadLock&) = delete;
  ~ReadLock() {
    if (fd >= 0) ::close(fd);
  }
  bool taken() const { return fd < 0 || ::flock(fd, LOCK_SH | LOCK_NB) == 0; }
  int fd;
};

Result<int> fsck_command(const std::string& text, bool repair_it, bool as_json) {
  const std::string name = volume_name(text);
  if (auto served = ask_daemon(run_dir(name)))
    return fail(EBUSY, fmt::format("{} is mounted by process {}; unmount it first with 'graftfs "
                                   "umount {}'",
                                   name, served->pid, name));
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
  auto device = volume->wait(volume->store().read_journal(source.rank));
  if (!device) return std::unexpected(device.error());
  if (repair_it) return repair(*volume, source, as_json);
  ReadLock lock(name);
  if (!lock.taken())
    return fail(EBUSY, fmt::format("{} is in use by another process; wait until it is done", name));
  return check(*volume, source, as_json);
}

}  // namespace

void add_fsck(CLI::App& app) {
  struct Args {
    std::string volume;
    bool repair = false, json = false;
  };
  auto args = std::make_shared<Args>();
  CLI::App* command = add_command(
      app, "fsck", "Check a volume that is not mounted, and repair it",
      "  graftfs fsck /srv/v               # looks only\n"
      "  graftfs fsck /srv/v --repair      # what has no place goes to /lost+found\n"
      "\nExit codes: 0 clean, 1 repaired, 2 usage, 4 problems are left, 8 it could not be "
      "checked.\n");
  command->add_option("VOLUME", args->volume, "the volume")->required();
  command->add_flag("--repair", args->repair, "repair what can be repaired");
  command->add_flag("--json", args->json, "one JSON object");
  on_run(command, [args]() -> Result<int> {
    auto code = fsck_command(args->volume, args->repair, args->json);
    if (code) return code;
    print_error(code.error());
    return kExitFailed;
  });
}

}  // namespace graftfs::cli
