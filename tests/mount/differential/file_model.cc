#include "differential/file_model.h"

#include "differential/caller.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace graftfs::mounttest {
namespace {

constexpr size_t kMax = 300'000;  // bytes of the file
constexpr size_t kBlock = 4096;   // of O_DIRECT
constexpr size_t kHistory = 40;

class FileCheck {
 public:
  FileCheck(std::string path, uint64_t seed) : path_(std::move(path)), random_(seed) {
    unlink(path_.c_str());
    open_files();
  }
  ~FileCheck() {
    close_files();
    unlink(path_.c_str());
  }

  std::string run(int steps) {
    for (int i = 0; i < steps && wrong_.empty(); ++i) {
      step();
      check_size();
      if (i % 20 == 19) check_all(), check_holes();
      if (i == steps / 2) expect(fsync(fd_), 0);
    }
    if (wrong_.empty()) return "";
    std::string out;
    for (const auto& line : history_) out += "  " + line + "\n";
    return out + wrong_ + "\n";
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  size_t offset() {
    const size_t at = below(kMax);
    return below(3) ? at : at / kBlock * kBlock;
  }
  size_t length_from(size_t at) {
    size_t n = below(4) ? below(9000) + 1 : below(120'000) + 1;
    if (!below(3)) n = n / kBlock * kBlock + kBlock;
    return std::min(n, kMax - at);
  }
  std::string bytes(size_t n) {
    std::string out(n, '\0');
    const uint64_t start = random_();
    for (size_t i = 0; i < n; ++i)
      out[i] = static_cast<char>((start + i * 2654435761u) >> 11 | 1);  // never 0
    return out;
  }

  void open_files() {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT, 0644);
    direct_ = open(path_.c_str(), O_RDWR | O_DIRECT);
    append_ = open(path_.c_str(), O_WRONLY | O_APPEND);
    if (fd_ < 0 || append_ < 0) fail(fmt::format("open: {}", strerror(errno)));
  }
  void close_files() {
    for (int fd : {fd_, direct_, append_})
      if (fd >= 0) close(fd);
  }

  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  void expect(int64_t got, int64_t want) {
    if (got != want)
      fail(fmt::format("returned {} ({}), not {}", got, got < 0 ? strerror(errno) : "no error",
                       want));
  }
  void note(std::string text) {
    history_.push_back(std::move(text));
    if (history_.size() > kHistory) history_.erase(history_.begin());
  }
  void grow(size_t end) {
    if (end > model_.size()) model_.resize(end, '\0');
  }
  void compare(const char* got, size_t at, size_t n) {
    for (size_t i = 0; i < n; ++i)
      if (got[i] != model_[at + i])
        return fail(fmt::format("byte {} is {:#x}, not {:#x}", at + i,
                                static_cast<unsigned char>(got[i]),
                                static_cast<unsigned char>(model_[at + i])));
  }

  void step() {
    switch (below(14)) {
      case 0 ... 2:
        return write_some(fd_);
      case 3:
        return append();
      case 4 ... 5:
        return read_some();
      case 6:
        return map_some();
      case 7:
        return cut();
      case 8:
        return punch(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
      case 9:
        return below(2) ? punch(FALLOC_FL_ZERO_RANGE) : allocate();
      case 10:
        return copy();
      case 11:
        return direct_write();
      case 12:
        return direct_read();
      default:
        return sync_or_reopen();
    }
  }

  void write_some(int fd) {
    const size_t at = offset(), n = length_from(at);
    const auto data = bytes(n);
    note(fmt::format("pwrite {}+{}", at, n));
    expect(pwrite(fd, data.data(), n, at), n);
    grow(at + n);
    model_.replace(at, n, data);
  }
  void append() {
    const size_t n = std::min<size_t>(below(5000) + 1, kMax - std::min(kMax, model_.size()));
    if (n == 0) return;
    const auto data = bytes(n);
    note(fmt::format("append {}", n));
    expect(write(append_, data.data(), n), n);
    model_ += data;
  }
  void read_some() {
    const size_t at = offset(), n = length_from(at);
    note(fmt::format("pread {}+{}", at, n));
    std::string got(n, '?');
    const size_t want = at >= model_.size() ? 0 : std::min(n, model_.size() - at);
    expect(pread(fd_, got.data(), n, at), want);
    compare(got.data(), at, want);
  }
  // Stores through a mapping, reads through it, and leaves what lies behind the end alone.
  void map_some() {
    if (model_.empty()) return;
    const size_t at = below(model_.size()), n = std::min(length_from(at), model_.size() - at);
    note(fmt::format("store {}+{} in a mapping", at, n));
    char* map = static_cast<char*>(
        mmap(nullptr, model_.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
    if (map == MAP_FAILED) return fail(fmt::format("mmap: {}", strerror(errno)));
    compare(map + at, at, n);
    const auto data = bytes(n);
    std::memcpy(map + at, data.data(), n);
    model_.replace(at, n, data);
    // What is stored behind the end in its page must not come back when the file grows.
    const size_t page = (model_.size() + kBlock - 1) / kBlock * kBlock;
    if (page > model_.size() && below(2)) map[page - 1] = 'x';
    munmap(map, model_.size());
  }
  void cut() {
    const size_t size = below(3) ? offset() : below(20'000);
    note(fmt::format("ftruncate {}", size));
    expect(ftruncate(fd_, size), 0);
    model_.resize(size, '\0');
  }
  void punch(int mode) {
    const size_t at = offset(), n = length_from(at);
    note(fmt::format("fallocate {:#x} {}+{}", mode, at, n));
    expect(fallocate(fd_, mode, at, n), 0);
    if (!(mode & FALLOC_FL_KEEP_SIZE)) grow(at + n);
    for (size_t i = at; i < std::min(at + n, model_.size()); ++i) model_[i] = 0;
  }
  void allocate() {
    const size_t at = offset(), n = length_from(at);
    const bool keep = below(2);
    note(fmt::format("allocate {}+{}{}", at, n, keep ? " keep size" : ""));
    expect(fallocate(fd_, keep ? FALLOC_FL_KEEP_SIZE : 0, at, n), 0);
    if (!keep) grow(at + n);
    struct stat st{};
    fstat(fd_, &st);
    if (st.st_blocks * 512ull < std::min(n, kMax) / 2) fail("nothing is allocated");
  }
  void copy() {
    if (model_.empty()) return;
    const size_t at = below(model_.size()), n = std::min(length_from(at), model_.size() - at);
    const size_t to = offset();
    if (to + n > kMax || (at < to + n && to < at + n)) return;
    note(fmt::format("copy_file_range {}+{} to {}", at, n, to));
    off64_t in = at, out = to;
    expect(copy_file_range(fd_, &in, fd_, &out, n, 0), n);
    const std::string data = model_.substr(at, n);
    grow(to + n);
    model_.replace(to, n, data);
  }

  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  static std::unique_ptr<char, Free> aligned(size_t n) {
    return std::unique_ptr<char, Free>(static_cast<char*>(std::aligned_alloc(kBlock, n)));
  }
  void direct_write() {
    if (direct_ < 0) return;  // not every file system to compare with has it
    const size_t at = below(kMax / kBlock - 8) * kBlock, n = (below(8) + 1) * kBlock;
    note(fmt::format("direct write {}+{}", at, n));
    const auto data = bytes(n);
    auto buffer = aligned(n);
    std::memcpy(buffer.get(), data.data(), n);
    expect(pwrite(direct_, buffer.get(), n, at), n);
    grow(at + n);
    model_.replace(at, n, data);
  }
  void direct_read() {
    if (direct_ < 0) return;
    const size_t at = below(kMax / kBlock - 8) * kBlock, n = (below(8) + 1) * kBlock;
    note(fmt::format("direct read {}+{}", at, n));
    auto buffer = aligned(n);
    const size_t want = at >= model_.size() ? 0 : std::min(n, model_.size() - at);
    expect(pread(direct_, buffer.get(), n, at), want);
    compare(buffer.get(), at, want);
  }
  void sync_or_reopen() {
    switch (below(16)) {  // a sync is slow
      case 0:
        note("fdatasync");
        return expect(fdatasync(fd_), 0);
      default:
        note("close and open");
        close_files();
        open_files();
    }
  }

  void check_size() {
    struct stat st{};
    if (fstat(fd_, &st) != 0 || st.st_size != static_cast<off_t>(model_.size()))
      fail(fmt::format("size is {}, not {}", st.st_size, model_.size()));
  }
  void check_all() {
    std::string got(model_.size() + 100, '?');
    const ssize_t n = pread(fd_, got.data(), got.size(), 0);
    if (n != static_cast<ssize_t>(model_.size()))
      return fail(fmt::format("the whole file has {} bytes, not {}", n, model_.size()));
    compare(got.data(), 0, model_.size());
  }
  // In a hole there are zeros; data and holes take turns up to the end.
  void check_holes() {
    const off_t size = static_cast<off_t>(model_.size());
    for (off_t at = 0; at < size;) {
      off_t data = lseek(fd_, at, SEEK_DATA);
      if (data < 0 && errno == ENXIO) data = size;
      if (data < at || data > size) return fail(fmt::format("SEEK_DATA {} says {}", at, data));
      for (off_t i = at; i < data; ++i)
        if (model_[i]) return fail(fmt::format("byte {} is said to be in a hole", i));
      if (data == size) break;
      at = lseek(fd_, data, SEEK_HOLE);
      if (at <= data || at > size) return fail(fmt::format("SEEK_HOLE {} says {}", data, at));
    }
    if (lseek(fd_, size, SEEK_DATA) >= 0 || errno != ENXIO) fail("there is data behind the end");
  }

  std::string path_;
  std::mt19937_64 random_;
  int fd_ = -1, direct_ = -1, append_ = -1;
  std::string model_, wrong_;
  std::vector<std::string> history_;
};

}  // namespace

// In a process of its own: munmap(2) writes back with the address space locked, which a thread that
// serves the mount from the same process would wait for.
std::string check_file(const std::string& path, uint64_t seed, int steps) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    leave_parent(ends[1]);
    alarm(120);
    const std::string wrong = FileCheck(path, seed).run(steps);
    _exit(write(ends[1], wrong.data(), wrong.size()) == ssize_t(wrong.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string wrong;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) wrong.append(buffer, n);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) wrong += fmt::format("the process ended with status {:#x}\n", status);
  return wrong.empty() ? "" : fmt::format("seed {}\n{}", seed, wrong);
}

}  // namespace graftfs::mounttest
