#pragma once
// Knows what was executed, in which order, and what was promised; says when a promise is broken.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sim/executor.h"
#include "sim/file_history.h"
#include "sim/image.h"
#include "sim/model.h"

namespace graftfs::sim {

struct OracleOptions {
  Durability durability = Durability::posix;
  bool faults = false;      // the disk may fail: EIO is an answer
  bool small_disk = false;  // ENOSPC is an answer
  uint64_t volume = 0;
  bool print = false;
  bool data_may_rot = false;  // the disk spoils file data: who reads is told, or it was not sealed
};

// Owned by the world; sees every request at the moment the rank executes it (the order of events
// in the journal), every reply that the rank lets go, and every byte of file data. The first thing
// found wrong is kept in failure(); nothing is checked after that.
class Oracle {
 public:
  Oracle(EventQueue& queue, OracleOptions options) : queue_(queue), options_(options) {}

  const std::string& failure() const { return failure_; }
  void fail(std::string what);

  // -- the rank ------------------------------------------------------------------------------
  // `call` numbers the sendings of requests: a request that is sent again is another call.
  void submitted(int32_t call, const Request& request);
  void executed(int32_t call, const Request& request, const Reply& reply, Lsn lsn);
  void released(int32_t call, const Request& request, const Reply& reply);

  // -- file data -----------------------------------------------------------------------------
  size_t data_begin(Ino ino, uint64_t offset, uint64_t end, std::string bytes);
  void data_end(Ino ino, size_t op, bool done);
  void data_unknown(Ino ino, size_t op);
  void data_is(Ino ino, size_t op, std::string bytes);
  void data_read(Ino ino, uint64_t began, uint64_t offset, const std::string& bytes);

  // -- crashes -------------------------------------------------------------------------------
  void crashed(CrashKind kind);
  // A client died with data operations under way on these files.
  void data_crashed(Ino ino);
  // A recovery that kept everything up to `last` did not get to serving.
  void recovery_cut_off(const Recovered& recovered) {
    cuts_.push_back({recovered.last, recovered.newest});
  }
  // The rank serves again, with everything up to `last`.
  void recovered(const Medium& disk, const Recovered& recovered);
  // Bits were flipped at rest: recovery and requests may refuse, but never show anything wrong. Of
  // what was promised, only what something on the disk still vouches for can be asked of recovery:
  // at least up to `evidence`, or a refusal.
  void disk_is_damaged(Lsn evidence) {
    damaged_ = options_.faults = true;
    required_ = std::min(required_, evidence);
  }
  // The disk has told lies: the same.
  void disk_has_lied(Lsn evidence) {
    lied_ = true;
    required_ = std::min(required_, evidence);
  }
  // It may have spoiled file data: what is known of each file from now on, if anything, is as many
  // bytes as have checksums.
  void disk_may_have_spoiled(const std::map<Ino, uint64_t>& sealed);
  // What if the node died now?
  void what_if(const Medium& disk, CrashKind kind, Random& random);
  // Everything is written back and purged.
  void check_settled(const Medium& disk);

  // -- holds (the clients tell) ----------------------------------------------------------------
  std::map<Ino, uint32_t> held;

  const Model& model() const { return now_; }
  uint64_t executions() const { return executions_; }
  // A request that the rank carried out before its reply was lost.
  bool was_done(SessionId session, uint64_t seq) const { return done_.contains({session, seq}); }

 private:
  Lsn end_of_history(const Recovered& recovered) const;
  struct Executed {
    Request request;
    Reply reply;
    Lsn lsn;
    Timespec now;
  };
  struct Record {          // of a call
    Lsn written, durable;  // what must be before the reply may leave
    int err = 0;
  };
  struct Done {
    Lsn lsn;
    Ino result;
  };

  Model at(Lsn last) const;
  void first_recovery(const Medium& disk);
  std::set<Ino> held_inos() const;
  bool stale_is_right(const Expected& expected);
  void forget_unsealed(const Model& model);
  void follow_data(const Request& request, const Reply& reply, Lsn lsn);
  std::string check(const Medium& disk, const Model& model, const Look& look, bool holds_count,
                    bool settled, std::optional<Image>* out);
  std::string check_replays(const Medium& disk, const Image& image, bool settled);

  EventQueue& queue_;
  OracleOptions options_;
  std::string failure_;
  std::optional<Model> base_;  // what the rank last recovered
  Model now_;
  std::vector<Executed> history_;  // since base_, changes only, in LSN order
  std::map<std::pair<SessionId, uint64_t>, Done> done_;
  std::map<int32_t, Record> records_;
  std::map<SessionId, Lsn> answered_;  // the newest own event whose reply was let go
  std::map<Ino, FileHistory> files_;
  std::map<Ino, uint64_t> sealed_;  // since the rank last served, of each file
  uint64_t executions_ = 0;

  Lsn must_written_, must_durable_;  // promised to survive death; a power cut
  Lsn required_{UINT64_MAX};         // by what happened since the rank last served
  // Of recoveries since then that were cut off: what they kept, and the newest segment they found
  // (their own are above it).
  struct Cut {
    Lsn last;
    SegmentId newest;
  };
  std::vector<Cut> cuts_;
  bool crashed_ = false;
  bool damaged_ = false;
  bool lied_ = false;
  bool power_cut_ = false;
};

}  // namespace graftfs::sim
