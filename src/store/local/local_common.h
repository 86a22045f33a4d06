#pragma once
// What the parts of a LocalStore share: descriptors, messages, jobs on helper threads.

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/blocking_pool.h"
#include "base/executor.h"
#include "base/result.h"
#include "base/task.h"
#include "store/local/space.h"

namespace graftfs::local {

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// "cannot VERB NAME: TEXT", with what to do about it.
std::unexpected<Error> os_fail(int code, std::string_view verb, std::string_view name);

// What every job of one volume holds; outlives the LocalStore while a job still runs.
struct Volume {
  Volume() = default;
  ~Volume();
  // Notes that this process has it open. EBUSY if it has already: LMDB must not open a file twice
  // in one process, since closing one of the two would give up the locks of both.
  Result<void> register_open();

  std::string path;
  Fd fd;  // of the volume's directory; opened first, so that syncfs on it reports every error
  std::atomic<bool> shut_down{false};
  // A sync of everything has failed, which the kernel tells one caller only.
  std::atomic<bool> lost_data{false};
  mutable Space space;

  Result<void> alive() const {
    if (!shut_down.load(std::memory_order_relaxed)) [[likely]]
      return {};
    return fail(EIO, path + " was shut down; mount it again to go on");
  }

 private:
  std::pair<uint64_t, uint64_t> identity_;  // device and inode, while registered
};

// Runs `fn` on a helper thread. The result arrives through the executor, also when nobody waits
// for it any more; so `fn` captures by value or by shared_ptr.
template <class F, class T = std::invoke_result_t<F&>>
Promised<T> start_job(BlockingPool& pool, Executor& executor, F fn) {
  Promised<T> done(executor);
  pool.submit(
      [&executor, done, fn = std::move(fn)]() mutable {
        auto value = std::make_shared<T>(fn());
        // What it held goes before anybody learns of the result, and may close the volume.
        {
          F finished = std::move(fn);
        }
        executor.post([done, value] { done.set(std::move(*value)); });
      },
      &executor);
  return done;
}

Result<Fd> open_at(int dir, const std::string& name, int flags, const std::string& shown);
// The whole file, up to 64 KiB. ENOENT as an error.
Result<std::string> read_small_file(int dir, const std::string& name, const std::string& shown);
// Replaces the file in one step, by rename; `durable`: with all syncs.
Result<void> replace_small_file(int dir, const std::string& name, std::string_view bytes,
                                bool durable, const std::string& shown);
Result<void> pwrite_all(int fd, std::string_view bytes, uint64_t offset, std::string_view shown);
Result<void> fsync_fd(int fd, std::string_view shown);

}  // namespace graftfs::local
