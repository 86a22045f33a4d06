#pragma once
// Named kill points and coverage marks in product code.
//
//   KILL_POINT("journal.write.before");   a durable or visible step is about to be taken
//   MARK("cache.merge.null_wins");        a rare branch was reached
//
// Both count their hits, and all sites of the binary are listed, hit or not, so a test run can
// report which were never reached. At a kill point a handler (the simulator's, in this thread)
// may throw Killed; in a real process GRAFTFS_KILL=NAME[:N] ends it with SIGKILL at the Nth hit.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace graftfs::fault {

// Thrown out of a kill point by the simulator; the node it hit is thrown away.
struct Killed {};

enum class SiteKind : uint8_t { kill_point, mark };

struct Site {
  const char* name;
  SiteKind kind;
  std::atomic<uint64_t> hits{0};

  Site(const char* site_name, SiteKind site_kind);
  void hit() {
    hits.fetch_add(1, std::memory_order_relaxed);
    if (kind == SiteKind::kill_point && armed) [[unlikely]]
      kill_here();
  }
  // Whether any kill handler is set; false in a normal process.
  static inline std::atomic<bool> armed{false};

 private:
  void kill_here();
};

// All sites of this binary, ordered by name.
std::vector<Site*> sites();
void reset_hits();

// Called at every kill point that this thread reaches; may throw Killed. Null: none.
using Handler = void (*)(void* context, const Site& site);
void set_handler(Handler handler, void* context);
// Reads GRAFTFS_KILL; called by main().
void arm_from_environment();

template <size_t N>
struct Name {
  char text[N];
  constexpr Name(const char (&s)[N]) {
    for (size_t i = 0; i < N; ++i) text[i] = s[i];
  }
};
template <Name name>
inline Site kill_point{name.text, SiteKind::kill_point};
template <Name name>
inline Site mark{name.text, SiteKind::mark};

}  // namespace graftfs::fault

#define KILL_POINT(name) ::graftfs::fault::kill_point<name>.hit()
#define MARK(name) ::graftfs::fault::mark<name>.hit()
