#include "harness/mdtest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>

#include "base/wait.h"
#include "client/client.h"
#include "harness/process.h"
#include "harness/served.h"
#include "harness/statistics.h"

namespace graftfs::bench {
namespace {

constexpr int kMaxTasks = 64, kMaxSteps = 16;
constexpr int kIdleMicros = 500;

// What the tasks share: where they wait for each other, and when each was in each step.
struct Board {
  std::atomic<int> arrived = 0;
  std::atomic<uint64_t> round = 0;
  struct Times {
    double began = 0, ended = 0;
  } times[kMaxTasks][kMaxSteps];
  char failure[512];
};

class SharedBoard {
 public:
  SharedBoard() {
    void* at =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw BenchmarkError("there is no memory for the tasks to share");
    board_ = new (at) Board();
  }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  ~SharedBoard() { ::munmap(board_, sizeof(Board)); }
  Board& operator*() { return *board_; }
  Board* operator->() { return board_; }

 private:
  Board* board_;
};

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The directories of a tree, parents first.
void grow(const MdtestOptions& o, const std::string& dir, int level, std::vector<std::string>& all,
          std::vector<std::string>& with_items) {
  all.push_back(dir);
  if (!o.leaves || level == o.depth) with_items.push_back(dir);
  if (level == o.depth) return;
  for (int b = 0; b < o.branch; ++b)
    grow(o, fmt::format("{}/mdtest_tree.{}", dir, b), level + 1, all, with_items);
}

struct Step {
  std::string name;
  uint64_t operations = 0;  // of each task
  std::function<void()> work;
};

// One task's steps, in mdtest's order. Items are spread over the directories in turn.
std::vector<Step> steps_of(const MdtestOptions& o, int me, MdtestTask* task) {
  auto top = [unique = o.unique](int of) {
    return unique ? fmt::format("mdtest_tree.{}.0", of) : std::string("mdtest_tree.0");
  };
  std::vector<std::string> tree, places;
  grow(o, top(me), 0, tree, places);
  const uint64_t items = o.items > 0 ? o.items : o.per_dir * places.size();
  const int other = (me + o.stride) % o.tasks;
  auto name = [o, top, places, me](const char* kind, int of, uint64_t i) {
    const std::string& place = places[i % places.size()];
    return fmt::format("{}{}/{}.mdtest.{}.{}", top(of), place.substr(top(me).size()), kind, of, i);
  };
  std::vector<Step> steps;
  auto each = [&](std::string step, uint64_t count, std::function<void(uint64_t)> one) {
    steps.push_back({std::move(step), count, [count, one = std::move(one)] {
                       for (uint64_t i = 0; i < count; ++i) one(i);
                     }});
  };
  const uint64_t mine = o.unique || me == 0 ? tree.size() : 0;
  if (o.wants_create())
    each("Tree creation", mine, [task, tree](uint64_t i) { task->mkdir(tree[i]); });
  if (!o.only_files) {
    if (o.wants_create())
      each("Directory creation", items, [=](uint64_t i) { task->mkdir(name("dir", me, i)); });
    if (o.wants_stat())
      each("Directory stat", items, [=](uint64_t i) { task->stat(name("dir", other, i)); });
    if (o.wants_remove())
      each("Directory removal", items, [=](uint64_t i) { task->rmdir(name("dir", me, i)); });
  }
  if (!o.only_dirs) {
    const std::string bytes(o.write_bytes, 'm');
    if (o.wants_create())
      each("File creation", items,
           [=, sync = o.sync](uint64_t i) { task->create(name("file", me, i), bytes, sync); });
    if (o.wants_stat())
      each("File stat", items, [=](uint64_t i) { task->stat(name("file", other, i)); });
    if (o.wants_read())
      each("File read", items,
           [=, n = o.read_bytes](uint64_t i) { task->read(name("file", other, i), n); });
    if (o.wants_remove())
      each("File removal", items, [=](uint64_t i) { task->unlink(name("file", me, i)); });
  }
  if (o.wants_remove())
    each("Tree removal", mine,
         [task, tree](uint64_t i) { task->rmdir(tree[tree.size() - 1 - i]); });
  return steps;
}

// Until all tasks are here. One that sleeps in the kernel meanwhile would not answer the ranks, and
// be evicted.
void meet(Board& board, int tasks, MdtestTask& task) {
  const uint64_t round = board.round;
  if (board.arrived.fetch_add(1) + 1 == tasks) {
    board.arrived = 0;
    board.round = round + 1;
    return;
  }
  while (board.round == round) task.idle();
}

// In the task's process. A task that fails ends all of them: the others would wait for ever.
void run_task(const MdtestOptions& o, int me, Board& board,
              const std::function<std::unique_ptr<MdtestTask>(int)>& make) {
  std::unique_ptr<MdtestTask> task = make(me);
  std::vector<Step> steps = steps_of(o, me, task.get());
  for (size_t s = 0; s < steps.size(); ++s) {
    meet(board, o.tasks, *task);
    board.times[me][s].began = now_seconds();
    steps[s].work();
    board.times[me][s].ended = now_seconds();
  }
  meet(board, o.tasks, *task);
}

void run_once(const MdtestOptions& o, std::vector<MdtestRate>& rates,
              const std::function<std::unique_ptr<MdtestTask>(int)>& make) {
  SharedBoard board;
  std::vector<pid_t> children;
  for (int t = 0; t < o.tasks; ++t) {
    const pid_t child = ::fork();
    if (child < 0) throw BenchmarkError("cannot start a process; end some others");
    if (child > 0) {
      children.push_back(child);
      continue;
    }
    try {
      run_task(o, t, *board, make);
    } catch (const std::exception& error) {
      std::strncpy(board->failure, error.what(), sizeof board->failure - 1);
      ::_exit(1);
    }
    ::_exit(0);
  }
  bool failed = false;
  for (size_t left = children.size(); left > 0; --left) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    std::erase(children, ended);
    if (status == 0 || failed) continue;
    failed = true;
    for (pid_t child : children) ::kill(child, SIGKILL);
  }
  if (failed) throw BenchmarkError(board->failure[0] ? board->failure : "a task of mdtest died");
  const std::vector<Step> steps = steps_of(o, 0, nullptr);
  rates.resize(steps.size());
  for (size_t s = 0; s < steps.size(); ++s) {
    double began = board->times[0][s].began, ended = board->times[0][s].ended;
    uint64_t operations = 0;
    for (int t = 0; t < o.tasks; ++t) {
      began = std::min(began, board->times[t][s].began);
      ended = std::max(ended, board->times[t][s].ended);
      operations += steps_of(o, t, nullptr)[s].operations;
    }
    rates[s].name = steps[s].name;
    rates[s].per_second.push_back(static_cast<double>(operations) / std::max(ended - began, 1e-9));
  }
}

// -- a directory --------------------------------------------------------------------------------

class DirectoryTask final : public MdtestTask {
 public:
  explicit DirectoryTask(std::string dir) : dir_(std::move(dir)) {}

  void idle() override { ::usleep(kIdleMicros); }
  void mkdir(const std::string& path) override { must(::mkdir(at(path), 0755), "mkdir", path); }
  void rmdir(const std::string& path) override { must(::rmdir(at(path)), "rmdir", path); }
  void unlink(const std::string& path) override { must(::unlink(at(path)), "unlink", path); }
  void stat(const std::string& path) override {
    struct stat attributes;
    must(::lstat(at(path), &attributes), "stat", path);
  }
  void create(const std::string& path, const std::string& bytes, bool sync) override {
    int fd = ::open(at(path), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    must(fd, "create", path);
    if (!bytes.empty())
      must(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) ? 0 : -1,
           "write", path);
    if (sync) must(::fsync(fd), "fsync", path);
    must(::close(fd), "close", path);
  }
  void read(const std::string& path, size_t bytes) override {
    int fd = ::open(at(path), O_RDONLY | O_CLOEXEC);
    must(fd, "open", path);
    buffer_.resize(bytes);
    must(::read(fd, buffer_.data(), bytes) == static_cast<ssize_t>(bytes) ? 0 : -1, "read", path);
    must(::close(fd), "close", path);
  }

 private:
  const char* at(const std::string& path) {
    full_ = dir_ + "/" + path;
    return full_.c_str();
  }
  static void must(int result, const char* what, const std::string& path) {
    if (result >= 0) return;
    throw BenchmarkError(fmt::format("{} of {} failed: {}", what, path, std::strerror(errno)));
  }

  std::string dir_, full_, buffer_;
};

// -- the client library -------------------------------------------------------------------------

class LibraryTask final : public MdtestTask {
 public:
  LibraryTask(const std::filesystem::path& volume, std::string dir)
      : clients_(volume, 0), client_(clients_.data_client()), dir_(std::move(dir)) {
    Reply made = call(MkdirArgs{kRootIno, dir_, 0755, 0});
    if (made.err == EEXIST) made = call(LookupArgs{kRootIno, dir_});
    if (made.err != 0) failed("mkdir", dir_, made.err);
    known_[""] = made.stat.ino;
  }

  void idle() override { clients_.turn(kIdleMicros * kMicrosecond); }
  void mkdir(const std::string& path) override {
    const auto [dir, name] = split(path);
    Reply made = call(MkdirArgs{dir, name, 0755, 0});
    if (made.err != 0) failed("mkdir", path, made.err);
  }
  void rmdir(const std::string& path) override {
    const auto [dir, name] = split(path);
    check("rmdir", path, call(RmdirArgs{dir, name}).err);
    known_.erase(path);
  }
  void unlink(const std::string& path) override {
    const auto [dir, name] = split(path);
    check("unlink", path, call(UnlinkArgs{dir, name}).err);
  }
  void stat(const std::string& path) override {
    const auto [dir, name] = split(path);
    check("stat", path, call(LookupArgs{dir, name}).err);
  }
  void create(const std::string& path, const std::string& bytes, bool sync) override {
    const auto [dir, name] = split(path);
    Reply made = call(CreateArgs{dir, name, 0644, 0, true, O_WRONLY});
    check("create", path, made.err);
    if (!bytes.empty())
      data("write", path,
           [&](DataFn done) { client_.write({}, made.stat.ino, 0, bytes, {}, std::move(done)); });
    if (sync)
      data("fsync", path, [&](DataFn done) { client_.sync({}, made.stat.ino, std::move(done)); });
    check("close", path, call(ReleaseArgs{made.stat.ino, 1}).err);
  }
  void read(const std::string& path, size_t bytes) override {
    const auto [dir, name] = split(path);
    Reply found = call(LookupArgs{dir, name});
    check("lookup", path, found.err);
    check("open", path, call(OpenArgs{found.stat.ino, O_RDONLY}).err);
    buffer_.resize(bytes);
    data("read", path, [&](DataFn done) {
      client_.read({}, found.stat.ino, 0, buffer_.data(), bytes, std::move(done));
    });
    check("close", path, call(ReleaseArgs{found.stat.ino, 1}).err);
  }

 private:
  [[noreturn]] static void failed(const char* what, const std::string& path, int err) {
    throw BenchmarkError(fmt::format("{} of {} failed: {}", what, path, std::strerror(err)));
  }
  static void check(const char* what, const std::string& path, int err) {
    if (err != 0) failed(what, path, err);
  }
  Reply call(Args args) {
    std::optional<Reply> out;
    client_.call({}, std::move(args), [&out](Reply reply) { out = std::move(reply); });
    while (!out) clients_.loop().run_one();
    return std::move(*out);
  }
  template <class Start>
  void data(const char* what, const std::string& path, Start start) {
    std::optional<Result<uint64_t>> out;
    start([&out](Result<uint64_t> result) { out = std::move(result); });
    while (!out) clients_.loop().run_one();
    if (!*out) failed(what, path, out->error().code);
  }
  // The directory that holds it, which is looked up once, as a kernel would.
  std::pair<Ino, std::string> split(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {known_.at(""), path};
    const std::string parent = path.substr(0, slash);
    auto it = known_.find(parent);
    if (it == known_.end()) {
      const auto [dir, name] = split(parent);
      Reply found = call(LookupArgs{dir, name});
      check("lookup", parent, found.err);
      it = known_.emplace(parent, found.stat.ino).first;
    }
    return {it->second, path.substr(slash + 1)};
  }

  LibraryClients clients_;
  Client& client_;
  std::string dir_, buffer_;
  std::map<std::string, Ino> known_;
};

void print_rates(const MdtestOptions& o, const std::vector<MdtestRate>& rates, bool json) {
  if (json) {
    Json out = {{"tasks", o.tasks}, {"iterations", o.iterations}};
    for (const MdtestRate& rate : rates) out["rates"][rate.name] = rate.per_second;
    fmt::print("{}\n", out.dump());
    return;
  }
  fmt::print("SUMMARY rate: {} tasks, {} iterations (operations a second)\n", o.tasks,
             o.iterations);
  fmt::print("   {:<20} {:>14} {:>14} {:>14}\n", "Operation", "Max", "Min", "Median");
  for (const MdtestRate& rate : rates) {
    const auto [least, most] = std::minmax_element(rate.per_second.begin(), rate.per_second.end());
    fmt::print("   {:<20} {:>14.1f} {:>14.1f} {:>14.1f}\n", rate.name, *most, *least,
               median(rate.per_second));
  }
}

}  // namespace

std::unique_ptr<MdtestTask> directory_task(const std::filesystem::path& dir) {
  return std::make_unique<DirectoryTask>(dir);
}

std::unique_ptr<MdtestTask> library_task(const std::filesystem::path& volume,
                                         const std::string& dir) {
  return std::make_unique<LibraryTask>(volume, dir);
}

std::vector<MdtestRate> run_mdtest(const MdtestOptions& options,
                                   const std::function<std::unique_ptr<MdtestTask>(int)>& make) {
  std::vector<MdtestRate> rates;
  for (int i = 0; i < options.iterations; ++i) run_once(options, rates, make);
  return rates;
}

double median_rate(const std::vector<MdtestRate>& rates, const std::string& name) {
  for (const MdtestRate& rate : rates)
    if (rate.name == name) return median(rate.per_second);
  return 0;
}

int mdtest_main(int argc, char** argv) {
  CLI::App app("mdtest: metadata operations a second of several tasks, with mdtest's flags.",
               "graftfs bench mdtest");
  app.footer(
      "Examples:\n"
      "  graftfs bench mdtest --tasks 4 -d /mnt/m -n 10000 -u -F -L         # easy\n"
      "  graftfs bench mdtest --tasks 4 -d /mnt/m -n 10000 -F -w 3901 -e 3901  # hard\n"
      "  graftfs bench mdtest --tasks 8 --volume /srv/v -n 10000 -u         # without FUSE\n");
  MdtestOptions o;
  std::string dir = "mdtest", volume;
  bool json = false;
  app.add_option("--tasks", o.tasks, "processes")->check(CLI::Range(1, kMaxTasks));
  app.add_option("-d", dir, "the directory to work in; with --volume, its name there");
  app.add_option("--volume", volume,
                 "a volume that is served: the tasks are clients of the library, without a mount");
  CLI::Option* n = app.add_option("-n", o.items, "items of each task");
  app.add_option("-I", o.per_dir, "items of each task in each directory")->excludes(n);
  app.add_option("-z", o.depth, "depth of the tree")->check(CLI::Range(0, 16));
  app.add_option("-b", o.branch, "directories in each directory of the tree")
      ->check(CLI::Range(1, 1000));
  app.add_flag("-L", o.leaves, "items only in the lowest directories");
  app.add_flag("-u", o.unique, "a tree for each task");
  app.add_flag("-F", o.only_files, "only files");
  app.add_flag("-D", o.only_dirs, "only directories");
  app.add_flag("-C", o.create, "only create");
  app.add_flag("-T", o.stat, "only stat");
  app.add_flag("-E", o.read, "only read");
  app.add_flag("-r", o.remove, "only remove");
  app.add_option("-w", o.write_bytes, "bytes to write into each file");
  app.add_option("-e", o.read_bytes, "bytes to read of each file");
  app.add_flag("-y", o.sync, "sync each file after it was written");
  app.add_option("-N", o.stride, "look at the items of the task so many further on")
      ->check(CLI::Range(0, kMaxTasks));
  app.add_option("-i", o.iterations, "how often to do all of it")->check(CLI::Range(1, 1000));
  app.add_flag("--json", json, "one JSON object");
  CLI11_PARSE(app, argc, argv);
  if (o.items == 0 && o.per_dir == 0)
    throw BenchmarkError(
        "mdtest needs to know how many items: -n of each task, or -I of each "
        "directory");
  if (volume.empty()) std::filesystem::create_directories(dir);
  const auto rates = run_mdtest(
      o, [&](int) { return volume.empty() ? directory_task(dir) : library_task(volume, dir); });
  print_rates(o, rates, json);
  return 0;
}

}  // namespace graftfs::bench
