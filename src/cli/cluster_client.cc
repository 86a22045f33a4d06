#include "cli/cluster_client.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "base/event_loop.h"
#include "base/mounts.h"
#include "cli/command.h"
#include "cli/status_socket.h"
#include "node/control_ask.h"
#include "node/volume_key.h"
#include "server/migrate.h"

namespace graftfs::cli {
namespace {

using nlohmann::json;

constexpr Nanos kFindPatience = 3 * kSecond;

// A value that comes, or does not within the time.
template <class T>
class Limited {
 public:
  Limited(EventLoop& loop, Nanos limit, const std::string& whom) : value_(loop) {
    loop.post_after(limit, [value = value_, whom] {
      if (!value.is_set()) value.set(fail(ETIMEDOUT, whom + " does not answer; try again"));
    });
  }
  void set(Result<T> value) const {
    if (!value_.is_set()) value_.set(std::move(value));
  }
  Task<Result<T>> wait() {
    Promised<Result<T>> value = value_;
    co_return co_await value;
  }

 private:
  Promised<Result<T>> value_;
};

std::optional<MountEntry> mount_around(std::string path) {
  for (;;) {
    if (auto mount = find_mount(path)) return mount;
    if (path == "/" || path.empty()) return std::nullopt;
    path = std::filesystem::path(path).parent_path();
  }
}

}  // namespace

Result<std::pair<std::string, std::string>> volume_and_path(const std::string& text) {
  if (size_t colon = text.find(":/"); colon != text.npos) {
    std::string volume = volume_name(text.substr(0, colon));
    if (check_volume(volume)) return std::pair(volume, text.substr(colon + 1));
  }
  const std::string path = absolute_path(text);
  auto mount = mount_around(path);
  if (!mount || mount->type != "fuse.graftfs")
    return fail(EINVAL,
                fmt::format("{} is not in a mounted GraftFS volume; give a path in a mount, "
                            "or VOLUME:/PATH",
                            text));
  struct stat st;
  if (::stat(path.c_str(), &st) != 0)
    return fail(errno, fmt::format("{}: {}", text, std::strerror(errno)));
  std::string inner = path.substr(mount->point == "/" ? 0 : mount->point.size());
  return std::pair(mount->source, inner.empty() ? "/" : inner);
}

Result<std::string> volume_of(const std::string& text) {
  const std::string path = volume_name(text);
  auto file = check_volume(path);
  if (file || rados::is_rados(path)) {
    if (!file) return std::unexpected(std::move(file).error());
    return path;
  }
  auto mount = mount_around(path);
  if (mount && mount->type == "fuse.graftfs") return mount->source;
  return std::unexpected(std::move(file).error());
}

Result<std::unique_ptr<ClusterClient>> ClusterClient::open(const std::string& volume) {
  TRY_ASSIGN(auto opened, OpenVolume::open(volume));
  TRY_ASSIGN(std::string secret, node::volume_key(opened->volume()));
  std::unique_ptr<ClusterClient> self(new ClusterClient(std::move(opened)));
  EventLoop& loop = self->open_->loop();
  self->finder_ = std::make_unique<node::Finder>(loop, self->open_->store().state(),
                                                 self->open_->number(), std::move(secret));
  Result<void> found = self->open_->wait(self->finder_->start(kFindPatience));
  if (!found) {
    if (auto served = ask_daemon(run_dir(volume)))
      return fail(EHOSTDOWN,
                  fmt::format("process {} has {} mounted for itself alone, with one rank; to have "
                              "more, unmount it, and mount it with --ranks or serve it with "
                              "'graftfs serve {}'",
                              served->pid, volume, volume));
    return fail(EHOSTDOWN, fmt::format("no process serves {0} now; start one with 'graftfs serve "
                                       "{0}'",
                                       volume));
  }
  SystemRandom random;
  self->session_ = SessionId{random.next() | 1};
  node::Finder& finder = *self->finder_;
  self->router_ = std::make_unique<Router>(
      loop,
      [&finder, session = self->session_](RankId rank, net::ConnectFn done) {
        finder.dial(rank, session, std::move(done));
      },
      [&finder] { return finder.map(); });
  self->router_->open_session(self->session_);
  return self;
}

ClusterClient::~ClusterClient() {
  if (router_) router_->close_session(session_);
}

Result<json> ClusterClient::ask(RankId rank, const json& request, Nanos limit) {
  auto dial = [this, rank](net::ConnectFn done) { finder_->dial_control(rank, std::move(done)); };
  json copy = request;
  return open_->wait(
      node::ask_control(open_->loop(), rank, std::move(dial), std::move(copy), limit));
}

Result<Reply> ClusterClient::call(Args args, Nanos limit) {
  Limited<Reply> answer(open_->loop(), limit, "a rank");
  Request request;
  request.session = session_;
  request.args = std::move(args);
  router_->submit(std::move(request), [answer](Reply reply) { answer.set(std::move(reply)); });
  return open_->wait(answer.wait());
}

Result<ClusterClient::Found> ClusterClient::find_directory(const std::string& path, Nanos limit) {
  Ino dir = kRootIno;
  std::string so_far;
  auto failed = [&](int err) {
    return fail(err, fmt::format("{}: {}", so_far.empty() ? "/" : so_far, std::strerror(err)));
  };
  for (size_t at = 0; at < path.size();) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string name = path.substr(at, end - at);
    at = end + 1;
    if (name.empty() || name == ".") continue;
    if (name == "..") return fail(EINVAL, fmt::format("{}: give a path without '..'", path));
    so_far += "/" + name;
    TRY_ASSIGN(Reply reply, call(LookupArgs{dir, name}, limit));
    if (reply.err) return failed(reply.err);
    if (!S_ISDIR(reply.stat.mode)) return failed(ENOTDIR);
    dir = reply.stat.ino;
  }
  TRY_ASSIGN(Reply reply, call(GetattrArgs{dir}, limit));
  if (reply.err) return failed(reply.err);
  Found found{dir, reply.home, {}};
  TRY_ASSIGN(Reply pin, call(GetxattrArgs{dir, kPinName}, limit));
  if (pin.err == 0) found.pin = pin.data;
  return found;
}

}  // namespace graftfs::cli
