#include "harness/served.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <sys/wait.h>

#include <optional>

#include "base/wait.h"
#include "cli/volume.h"
#include "harness/process.h"
#include "node/volume_key.h"

namespace graftfs::bench {

namespace {
constexpr Nanos kFindPatience = 10 * kSecond;
}

Served::Served(const Context& context, const std::string& label, std::string durability)
    : binary_(context.graftfs), volume_(context.work / label), durability_(std::move(durability)) {
  std::filesystem::remove_all(volume_);
  run_or_throw({binary_, "format", volume_});
}

Served::~Served() {
  const std::set<pid_t> last = processes_;
  for (pid_t pid : last) kill(pid);
  for (pid_t pid : last)
    while (::kill(pid, 0) == 0) usleep(1000);
  std::error_code ignored;
  std::filesystem::remove_all(volume_, ignored);
}

pid_t Served::serve(size_t ranks, const std::vector<std::string>& options) {
  std::vector<std::string> argv = {
      binary_, "serve", volume_, "--ranks", fmt::format("{}", ranks), "--durability", durability_};
  argv.insert(argv.end(), options.begin(), options.end());
  // The command returns when the ranks serve; what stays is found by what the volume says of it.
  std::set<pid_t> before;
  auto pids = [&] {
    std::set<pid_t> found;
    const Json cluster = ask({"rank", "list"});
    for (const Json& node : cluster["nodes"])
      if (node["alive"].get<bool>()) found.insert(node["pid"].get<pid_t>());
    return found;
  };
  if (!processes_.empty()) before = pids();
  run_or_throw(argv);
  for (pid_t pid : pids()) {
    if (before.contains(pid)) continue;
    processes_.insert(pid);
    return pid;
  }
  throw BenchmarkError("the process that serves is not in 'graftfs rank list'");
}

void Served::kill(pid_t pid) {
  ::kill(pid, SIGKILL);
  processes_.erase(pid);
}

void Served::stop(pid_t pid) {
  ::kill(pid, SIGTERM);
  processes_.erase(pid);
  while (::kill(pid, 0) == 0) usleep(1000);
}

Json Served::ask(std::vector<std::string> words) const {
  words.insert(words.begin(), binary_);
  words.push_back(volume_);
  words.push_back("--json");
  return Json::parse(run_or_throw(words, {.capture = true}));
}

LibraryClients::LibraryClients(const std::string& volume, size_t count) {
  auto opened = open_volume(volume);
  if (!opened) throw BenchmarkError(describe(opened.error()));
  volume_ = std::move(*opened);
  auto store = volume_->use(loop_, pool_);
  if (!store) throw BenchmarkError(describe(store.error()));
  store_ = std::move(*store);
  auto secret = node::volume_key(*volume_);
  if (!secret) throw BenchmarkError(describe(secret.error()));
  finder_ = std::make_unique<node::Finder>(
      loop_, store_->state(), cli::volume_number(volume_->file().uuid), std::move(*secret));
  auto found = wait_for(loop_, finder_->start(kFindPatience));
  if (!found) throw BenchmarkError(describe(found.error()));
  SystemRandom random;
  for (size_t i = 0; i < count; ++i) {
    One one{SessionId{random.next() | 1}, nullptr};
    one.router = std::make_unique<Router>(
        loop_,
        [this, session = one.session](RankId rank, net::ConnectFn done) {
          finder_->dial(rank, session, std::move(done));
        },
        [this] { return finder_->map(); });
    one.router->open_session(one.session);
    clients_.push_back(std::move(one));
  }
}

Client& LibraryClients::data_client() {
  if (data_client_) return *data_client_;
  data_router_ = std::make_unique<Router>(
      loop_,
      [this](RankId rank, net::ConnectFn done) {
        finder_->dial(rank, data_client_->session(), std::move(done));
      },
      [this] { return finder_->map(); });
  data_client_ = std::make_unique<Client>(loop_, *data_router_, store_->data(), random_,
                                          ClientOptions{.locks = data_router_.get()});
  data_router_->wanted_back = [this](Ino ino) { data_client_->give_back(ino); };
  data_router_->is_idle = [this](Ino ino) { return data_client_->is_idle(ino); };
  return *data_client_;
}

LibraryClients::~LibraryClients() {
  data_client_.reset();
  data_router_.reset();
  for (One& one : clients_) one.router->close_session(one.session);
  clients_.clear();
  finder_.reset();
  store_.reset();
}

void LibraryClients::submit(size_t client, Args args, ReplyFn done) {
  Request request;
  request.session = clients_[client].session;
  request.args = std::move(args);
  // Nothing is open here: what has lost its last name is let go, as a mount does.
  clients_[client].router->submit(
      std::move(request), [this, client, done = std::move(done)](Reply&& reply) mutable {
        const Ino gone = reply.err == 0 && reply.orphaned ? reply.stat.ino : Ino{};
        done(std::move(reply));
        if (gone) submit(client, ReleaseArgs{gone}, [](Reply&&) {});
      });
}

Reply LibraryClients::call(size_t client, Args args) {
  std::optional<Reply> out;
  submit(client, std::move(args), [&out](Reply reply) { out = std::move(reply); });
  while (!out) loop_.run_one();
  return std::move(*out);
}

Reply LibraryClients::must(size_t client, Args args) {
  Reply reply = call(client, std::move(args));
  if (reply.err != 0)
    throw BenchmarkError(fmt::format("a request failed with errno {}", reply.err));
  return reply;
}

void LibraryClients::turn(Nanos time) {
  bool over = false;
  loop_.post_after(time, [&over] { over = true; });
  while (!over) loop_.run_one();
}

void LibraryClients::run_beside(const std::vector<std::string>& argv) {
  const pid_t pid = spawn(argv);
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) turn(2 * kMillisecond);
  if (status != 0) throw BenchmarkError(fmt::format("'{}' failed", fmt::join(argv, " ")));
}

}  // namespace graftfs::bench
