#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace graftfs::bench {

// Runs `work(thread)` on `threads` threads that start together; seconds until
// the last one is done. What a thread throws is thrown here.
double timed_threads(unsigned threads, const std::function<void(unsigned)>& work);

// `count` empty files (or directories), spread over one directory per thread.
// Each phase does one operation on each of them and returns operations per
// second; names are 12 bytes long and relative to the directory, so that an
// operation is not blurred by a path walk. Errors throw BenchmarkError.
class Files {
 public:
  // Makes the directories.
  Files(std::filesystem::path home, unsigned threads, uint64_t count);
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files();

  uint64_t count() const { return per_thread_ * directories_.size(); }
  double last_seconds() const { return last_seconds_; }

  double create();  // and close
  double stat();
  double rename();  // f... to r..., in the same directory
  double unlink();  // after rename() or without it
  double mkdir();
  double rmdir();

 private:
  using Operation = int (*)(int directory, const char* name);
  double phase(const char* what, char prefix, Operation operation);

  uint64_t per_thread_;
  std::vector<int> directories_;
  char file_prefix_ = 'f';
  double last_seconds_ = 0;
};

}  // namespace graftfs::bench
