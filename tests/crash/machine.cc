#include "machine.h"

#include <unistd.h>

#include "sandbox.h"

namespace graftfs::crash {

Machine::Machine(const MachineOptions& options)
    : options_(options), backing_(options.backing, options.megabytes) {
  std::string volume = backing_.dir() + "/volume";
  DaemonProcess::format(volume);
  std::vector<std::string> flags{"--durability", options.strict ? "strict" : "posix"};
  flags.insert(flags.end(), options.flags.begin(), options.flags.end());
  daemon_ = std::make_unique<DaemonProcess>(volume, Sandbox::get().path("mnt"), flags);
  daemon_->start();
}

Machine::~Machine() { daemon_.reset(); }

void Machine::crash() {
  if (options_.power) backing_.cut();
  daemon_->kill_now();
}

void Machine::recover(Random& random, int interruptions, std::vector<std::string>& problems) {
  ++crashes_;
  daemon_->clean_up();
  if (options_.power) backing_.cycle();
  for (int i = 0; i < interruptions; ++i) {
    daemon_->begin_start();
    ::usleep(static_cast<useconds_t>(random() % 40'000));
    crash();
    ++crashes_;
    daemon_->clean_up();
    if (options_.power) backing_.cycle();
  }
  std::string report;
  if (!daemon_->fsck(report)) problems.push_back("fsck after the crash: " + report);
  daemon_->start();
}

}  // namespace graftfs::crash
