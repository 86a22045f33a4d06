#include "harness/embedded.h"

#include <fmt/format.h>
#include <malloc.h>
#ifdef GRAFTFS_TCMALLOC
#include <gperftools/malloc_extension_c.h>
#endif
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

namespace graftfs::bench {

Embedded::Embedded(const std::filesystem::path& path, RankOptions options) {
  if (!std::filesystem::exists(path)) {
    auto made = LocalStore::format(path);
    if (!made) throw BenchmarkError(describe(made.error()));
  }
  auto store = LocalStore::open(loop_, pool_, path);
  if (!store) throw BenchmarkError(describe(store.error()));
  store_ = std::move(*store);
  options.volume_name = path;
  options.log = [](const std::string& line) { progress(line); };
  rank_ = std::make_unique<Rank>(loop_, *store_, std::move(options));
  auto started = wait(rank_->start());
  if (!started) throw BenchmarkError(describe(started.error()));
  rank_->open_session(kSession);
}

Embedded::~Embedded() {
  rank_.reset();
  store_.reset();
}

void Embedded::stop() {
  auto stopped = wait(rank_->stop());
  if (!stopped) throw BenchmarkError(describe(stopped.error()));
}

Request Embedded::request(Args args) {
  Request request;
  request.session = kSession;
  request.seq = ++seq_;
  request.oldest = seq_ > 4096 ? seq_ - 4096 : 1;
  request.args = std::move(args);
  return request;
}

Reply Embedded::call(Args args) {
  std::optional<Reply> out;
  rank_->submit(request(std::move(args)), [&out](Reply reply) { out = std::move(reply); });
  while (!out) loop_.run_one();
  return std::move(*out);
}

Ino Embedded::make_path(int levels, const std::string& prefix) {
  Ino at = kRootIno;
  for (int i = 0; i < levels; ++i) {
    Reply reply = call(MkdirArgs{at, fmt::format("{}{}", prefix, i), 0755, 0});
    if (reply.err != 0) throw BenchmarkError(fmt::format("mkdir failed with errno {}", reply.err));
    at = reply.stat.ino;
  }
  return at;
}

double process_cpu_seconds() {
  rusage u;
  getrusage(RUSAGE_SELF, &u);
  auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

Resident resident_bytes() {
#ifdef GRAFTFS_TCMALLOC
  MallocExtension_ReleaseFreeMemory();
#else
  malloc_trim(0);
#endif
  std::ifstream status("/proc/self/status");
  Resident resident;
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("RssAnon:")) resident.own = std::stoull(line.substr(8)) << 10;
    if (line.starts_with("RssFile:")) resident.mapped = std::stoull(line.substr(8)) << 10;
  }
  return resident;
}

}  // namespace graftfs::bench
