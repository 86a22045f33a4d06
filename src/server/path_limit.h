#pragma once
// What a client may name whose key is for a part of the volume (docs/protocols/net.md).

#include <set>
#include <string>

#include "types/request.h"

namespace graftfs {

class Rank;

// Of one session at one rank, owned by the endpoint, in the rank's thread. Every inode that a
// request names must lie at or below the path, by where it hangs in this rank's memory when the
// request is accepted; above it, the client may only look for the way down. An inode that is kept
// for several names, or has none any more, does not say where it hangs: of those the client may
// name what it was led to by a request that was allowed, here. What is in memory only a crash
// forgets; then the client looks the names up again.
class PathLimit {
 public:
  PathLimit(Rank& rank, std::string path);

  struct Verdict {
    enum What : uint8_t {
      allowed,
      denied,   // `err`
      unknown,  // `ino` has to be fetched, and then it is asked again
    } what = allowed;
    int err = 0;
    Ino ino;
  };
  Verdict judge(const Args& args) const;
  // What an allowed request was answered.
  void note(const Reply& reply);

 private:
  enum class Where : uint8_t { inside, above, outside, elsewhere, unknown };
  Where where(Ino ino, std::string* path = nullptr) const;
  Where place(const std::string& path) const;
  Verdict inside(Ino ino) const;
  Verdict second(Ino ino) const;

  Rank& rank_;
  std::string path_;  // without a slash at its end
  // Two generations, so that a client cannot make it grow.
  std::set<Ino> young_, old_;
};

}  // namespace graftfs
