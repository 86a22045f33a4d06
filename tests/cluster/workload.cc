#include "workload.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <tuple>

namespace graftfs {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNames = 60;  // of a CallWorker, at a time
constexpr size_t kLongest = 20'000;

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

bool write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return out.good();
}

std::string random_text(std::mt19937_64& random, size_t length) {
  std::string out(length, ' ');
  for (char& c : out) c = static_cast<char>('a' + random() % 26);
  return out;
}

bool read_text(const std::string& path, std::string& out) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  out.clear();
  char buffer[65536];
  ssize_t n = 0;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0) out.append(buffer, static_cast<size_t>(n));
  ::close(fd);
  return n == 0;
}

std::string error_text(const std::string& what) {
  return fmt::format("{}: {}", what, std::strerror(errno));
}

}  // namespace

// -- the tree -----------------------------------------------------------------------------------

SourceTree::SourceTree(std::string dir, int packages, int files, uint64_t seed)
    : dir_(dir + "/tree"), built_(dir + "/built"), archive_(dir + "/tree.tar") {
  std::mt19937_64 random(seed);
  fs::create_directories(dir_ + "/src");
  for (int p = 0; p < packages; ++p) {
    const std::string package = fmt::format("src/p{}/deep", p);
    fs::create_directories(dir_ + "/" + package);
    for (int f = 0; f < files; ++f)
      write_text(fmt::format("{}/{}/f{}.in", dir_, package, f),
                 random_text(random, 200 + random() % 6000));
    fs::create_symlink("deep/f0.in", fmt::format("{}/src/p{}/first", dir_, p));
    fs::create_hard_link(fmt::format("{}/{}/f0.in", dir_, package),
                         fmt::format("{}/src/p{}/second", dir_, p));
  }
  // Each object is written beside its source and renamed; at the end all of them become one file.
  write_text(dir_ + "/Makefile",
             "SOURCES := $(sort $(wildcard src/*/*/*.in))\n"
             "OBJECTS := $(SOURCES:.in=.out)\n"
             "program: $(OBJECTS)\n"
             "\tcat $^ > $@.new && mv $@.new $@\n"
             "%.out: %.in\n"
             "\ttr a-z A-Z < $< > $@.new && mv $@.new $@\n");
  auto run = [](const std::string& command) {
    if (std::system(command.c_str()) != 0) throw std::runtime_error(command);
  };
  run(fmt::format("tar -C {} -cf {} .", dir_, archive_));
  run(fmt::format("mkdir {0} && tar -C {0} -xf {1} && make -s -C {0} program", built_, archive_));
}

// -- workers ------------------------------------------------------------------------------------

void Worker::start() {
  last_ms_ = now_ms();
  thread_ = std::thread([this] { run(); });
}

void Worker::stop() {
  ending_ = true;
  if (thread_.joinable()) thread_.join();
}

std::chrono::milliseconds Worker::silent() const {
  const int64_t last = last_ms_;
  return std::chrono::milliseconds(last == 0 ? 0 : now_ms() - last);
}

void Worker::answered() {
  const int64_t now = now_ms(), last = last_ms_.exchange(now);
  if (last != 0 && now - last > longest_ms_) longest_ms_ = now - last;
  done_++;
}

void Worker::fail(std::string why) {
  ending_ = true;
  std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = std::move(why);
}

TreeWorker::TreeWorker(std::string mount, std::string place, const SourceTree& tree)
    : Worker(mount + "/" + place),
      mount_(std::move(mount)),
      place_(std::move(place)),
      tree_(tree) {}

bool TreeWorker::shell(const std::string& what, const std::string& command) {
  FILE* pipe = ::popen(("( " + command + " ) 2>&1").c_str(), "r");
  std::string said;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    if (said.size() < 2000) said.append(buffer, n);
  if (::pclose(pipe) == 0) {
    answered();
    return true;
  }
  fail(fmt::format("{} in {} failed: {}", what, name(), said));
  return false;
}

void TreeWorker::run() {
  const std::string home = mount_ + "/" + place_;
  for (int round = 0; !ending(); ++round) {
    const std::string dir = fmt::format("{}/round{}", home, round);
    rounds_[round] = touched;
    if (!shell("unpacking", fmt::format("mkdir {0} && tar -C {0} -xf {1}", dir, tree_.archive())))
      return;
    rounds_[round] = unpacked;
    if (ending()) return;
    rounds_[round] = touched;
    if (!shell("building", fmt::format("make -s -C {} program", dir))) return;
    rounds_[round] = built;
    if (round == 0) continue;
    rounds_[round - 1] = touched;
    if (!shell("removing", fmt::format("rm -r {}/round{}", home, round - 1))) return;
    rounds_[round - 1] = removed;
  }
}

std::string TreeWorker::check(const std::string& mount) const {
  const std::string home = mount + "/" + place_;
  for (const auto& [round, state] : rounds_) {
    const std::string dir = fmt::format("{}/round{}", home, round);
    struct stat st;
    const bool there = ::lstat(dir.c_str(), &st) == 0;
    if (state == touched) continue;
    if (there != (state != removed))
      return fmt::format("{} is {}", dir, there ? "still there" : "not there");
    if (!there) continue;
    std::string differs = difference(state == built ? tree_.built() : tree_.dir(), dir);
    if (!differs.empty()) return differs;
  }
  return {};
}

// -- single calls -------------------------------------------------------------------------------

CallWorker::CallWorker(std::string mount, std::string place, uint64_t seed)
    : Worker(mount + "/" + place),
      mount_(std::move(mount)),
      place_(std::move(place)),
      random_(seed) {}

std::string CallWorker::pick(bool existing) {
  if (!existing) return fmt::format("d{}/n{}", random_() % 2, next_++);
  auto it = expected_.begin();
  std::advance(it, static_cast<ptrdiff_t>(random_() % expected_.size()));
  return it->first;
}

void CallWorker::step() {
  const std::string home = mount_ + "/" + place_ + "/";
  const uint64_t what = expected_.empty() ? 0 : random_() % 8;
  if (what <= 1 && expected_.size() < kNames) {  // a new file
    const std::string name = pick(false), bytes = random_text(random_, random_() % 5000);
    int fd = ::open((home + name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return fail(error_text("creating " + home + name));
    auto node = std::make_shared<Node>();
    expected_[name] = node;
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      fail(error_text("writing " + home + name));
    node->bytes = bytes;
    if (::close(fd) != 0) fail(error_text("closing " + home + name));
  } else if (what <= 3) {  // more of an old one
    const std::string name = pick(true), bytes = random_text(random_, 1 + random_() % 500);
    Node& node = *expected_[name];
    const bool anew = node.bytes.size() > kLongest;
    int fd = ::open((home + name).c_str(), O_WRONLY | O_CLOEXEC | (anew ? O_TRUNC : O_APPEND));
    if (fd < 0) return fail(error_text("opening " + home + name));
    if (anew) node.bytes.clear();
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      fail(error_text("appending to " + home + name));
    node.bytes += bytes;
    if (::close(fd) != 0) fail(error_text("closing " + home + name));
  } else if (what == 4) {
    const std::string name = pick(true), other = pick(random_() % 2 == 0);
    if (::rename((home + name).c_str(), (home + other).c_str()) != 0)
      return fail(error_text("renaming " + home + name + " to " + other));
    auto node = expected_[name];
    // Two names of one file stay as they are.
    auto target = expected_.find(other);
    if (target != expected_.end() && target->second == node) return;
    expected_.erase(name);
    expected_[other] = node;
  } else if (what == 5) {
    const std::string name = pick(true), other = pick(false);
    if (::link((home + name).c_str(), (home + other).c_str()) != 0)
      return fail(error_text("linking " + home + name + " to " + other));
    expected_[other] = expected_[name];
  } else if (what == 6) {
    const std::string name = pick(true);
    if (::unlink((home + name).c_str()) != 0) return fail(error_text("removing " + home + name));
    expected_.erase(name);
  } else {
    const std::string name = pick(true);
    std::string bytes;
    if (!read_text(home + name, bytes)) return fail(error_text("reading " + home + name));
    if (bytes != expected_[name]->bytes)
      return fail(fmt::format("{}{} holds {} bytes, which are not the {} that were written", home,
                              name, bytes.size(), expected_[name]->bytes.size()));
  }
}

void CallWorker::run() {
  while (!ending()) {
    step();
    answered();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string CallWorker::check(const std::string& mount) const {
  const std::string home = mount + "/" + place_ + "/";
  std::map<const Node*, size_t> links;
  for (const auto& [name, node] : expected_) links[node.get()]++;
  std::set<std::string> found;
  for (const char* dir : {"d0", "d1"})
    for (const auto& e : fs::directory_iterator(home + dir))
      found.insert(fmt::format("{}/{}", dir, e.path().filename().string()));
  for (const std::string& name : found)
    if (!expected_.contains(name)) return home + name + " was removed and is there";
  for (const auto& [name, node] : expected_) {
    struct stat st;
    std::string bytes;
    if (::lstat((home + name).c_str(), &st) != 0 || !found.contains(name))
      return home + name + " was made and is not there";
    if (!read_text(home + name, bytes)) return error_text("reading " + home + name);
    if (bytes != node->bytes)
      return fmt::format("{}{} holds {} bytes, which are not the {} that were written", home, name,
                         bytes.size(), node->bytes.size());
    if (st.st_nlink != links[node.get()])
      return fmt::format("{}{} has {} links, and {} names were made", home, name, st.st_nlink,
                         links[node.get()]);
  }
  return {};
}

// -- comparing ----------------------------------------------------------------------------------

std::string difference(const std::string& one, const std::string& other, bool links) {
  auto names = [](const std::string& dir) {
    std::set<std::string> all;
    for (const auto& e : fs::directory_iterator(dir)) all.insert(e.path().filename());
    return all;
  };
  const auto here = names(one), there = names(other);
  for (const auto& [some, rest, dir] : {std::tuple(&here, &there, &other), {&there, &here, &one}})
    for (const std::string& name : *some)
      if (!rest->contains(name)) return fmt::format("{}/{} is not there", *dir, name);
  for (const std::string& name : here) {
    const std::string a = one + "/" + name, b = other + "/" + name;
    struct stat x, y;
    if (::lstat(a.c_str(), &x) != 0) return error_text(a);
    if (::lstat(b.c_str(), &y) != 0) return error_text(b);
    const bool dir = S_ISDIR(x.st_mode);
    if (x.st_mode != y.st_mode || (!dir && x.st_size != y.st_size) ||
        (links && !dir && x.st_nlink != y.st_nlink))
      return fmt::format("{} and {} differ: mode {:o} and {:o}, size {} and {}, links {} and {}", a,
                         b, x.st_mode, y.st_mode, x.st_size, y.st_size, x.st_nlink, y.st_nlink);
    if (dir) {
      if (std::string deeper = difference(a, b, links); !deeper.empty()) return deeper;
    } else if (S_ISLNK(x.st_mode)) {
      if (fs::read_symlink(a) != fs::read_symlink(b)) return a + " and " + b + " lead elsewhere";
    } else {
      std::string left, right;
      if (!read_text(a, left)) return error_text("reading " + a);
      if (!read_text(b, right)) return error_text("reading " + b);
      if (left != right) return a + " and " + b + " differ";
    }
  }
  return {};
}

}  // namespace graftfs
