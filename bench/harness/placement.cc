#include "harness/placement.h"

#include <fmt/core.h>

#include <filesystem>
#include <string>

#include "harness/process.h"
#include "harness/workload.h"

namespace graftfs::bench {
namespace {

pid_t busiest_thread(pid_t process) {
  pid_t busiest = process;
  double most = -1;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process), error)) {
    pid_t thread = static_cast<pid_t>(std::stol(entry.path().filename()));
    double used = thread_cpu_seconds(process, thread);
    if (used > most) {
      most = used;
      busiest = thread;
    }
  }
  return busiest;
}

cpu_set_t last_of(const cpu_set_t& allowed) {
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
    if (CPU_ISSET(cpu, &allowed)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  return one;
}

}  // namespace

Together::Together(const Target& target)
    : server_thread_(target.server() == 0 ? 0 : busiest_thread(target.server())) {
  sched_getaffinity(0, sizeof(own_), &own_);
  cpu_set_t one = last_of(own_);
  sched_setaffinity(0, sizeof(one), &one);
  if (server_thread_ != 0) {
    sched_getaffinity(server_thread_, sizeof(servers_), &servers_);
    sched_setaffinity(server_thread_, sizeof(one), &one);
  }
}

Together::~Together() {
  sched_setaffinity(0, sizeof(own_), &own_);
  if (server_thread_ != 0) {
    sched_setaffinity(server_thread_, sizeof(servers_), &servers_);
  }
}

void warm_up(const Target& target) {
  std::filesystem::path home = target.path() / "warm-up";
  {
    Files files(home, 1, 3000);
    files.create();
    files.stat();
    files.unlink();
  }
  std::filesystem::remove_all(home);
}

}  // namespace graftfs::bench
