#include "base/fault.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace graftfs::fault {
namespace {

std::vector<Site*>& registry() {
  static std::vector<Site*> sites;
  return sites;
}

thread_local Handler handler_ = nullptr;
thread_local void* context_ = nullptr;
std::string kill_name;
std::atomic<int64_t> kill_countdown{0};

}  // namespace

Site::Site(const char* site_name, SiteKind site_kind) : name(site_name), kind(site_kind) {
  registry().push_back(this);
}

void Site::kill_here() {
  if (handler_) handler_(context_, *this);
  if (!kill_name.empty() && kill_name == name && kill_countdown.fetch_sub(1) == 1) {
    ::kill(::getpid(), SIGKILL);
    ::pause();
  }
}

std::vector<Site*> sites() {
  std::vector<Site*> all = registry();
  std::sort(all.begin(), all.end(),
            [](Site* a, Site* b) { return std::strcmp(a->name, b->name) < 0; });
  return all;
}

void reset_hits() {
  for (Site* site : registry()) site->hits = 0;
}

void set_handler(Handler handler, void* context) {
  handler_ = handler;
  context_ = context;
  if (handler) Site::armed = true;
}

void arm_from_environment() {
  const char* spec = std::getenv("GRAFTFS_KILL");
  if (!spec || !*spec) return;
  kill_name = spec;
  kill_countdown = 1;
  if (auto colon = kill_name.rfind(':'); colon != std::string::npos) {
    kill_countdown = std::max(1l, std::atol(kill_name.c_str() + colon + 1));
    kill_name.resize(colon);
  }
  Site::armed = true;
}

}  // namespace graftfs::fault
