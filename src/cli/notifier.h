#pragma once
// How a daemon that is starting up talks to the command that started it.

#include <string>
#include <string_view>

#include "base/result.h"

namespace graftfs::cli {

// In the daemon: the writing end of a pipe to the parent, or, in the foreground, standard error.
// Used from one thread. When it is destroyed without ready() or failed(), the parent says that
// the daemon died.
class Notifier {
 public:
  Notifier() = default;  // foreground
  explicit Notifier(int fd) : fd_(fd) {}
  Notifier(Notifier&& o) noexcept;
  Notifier& operator=(Notifier&&) = delete;
  ~Notifier();

  // A line for the parent's standard error.
  void say(std::string_view line);
  // The volume is mounted: the parent ends with success.
  void ready();
  // It cannot be: the parent prints the sentence and ends with an error.
  void failed(std::string_view message);

 private:
  void send(char kind, std::string_view text);
  int fd_ = -1;
  bool foreground() const { return fd_ < 0; }
  bool done_ = false;
};

// Forks. In the parent: prints what the child says and returns the exit code once it is ready or
// has failed. In the child (its own session, standard streams at /dev/null): returns what
// `daemon` returns. Call before any thread is started.
Result<int> daemonize(int (*daemon)(Notifier notifier, void* context), void* context);

}  // namespace graftfs::cli
