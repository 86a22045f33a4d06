#pragma once
// Finds the rank that each request is for (docs/protocols/subtrees.md).

#include <absl/container/flat_hash_map.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "client/client.h"
#include "client/lease_cache.h"
#include "client/remote.h"
#include "types/service.h"

namespace graftfs {

// Which ranks there are, and which one serves /: a hint.
struct RankMap {
  RankId root;
  std::vector<RankId> ranks;
};

// A MetadataService over one Remote for each rank that was needed. Redirects, questions of who has
// an inode, and attributes that another rank has to be asked for are settled in here; its caller
// sees whole answers. What ranks have leased is answered at once.
//
// Owned by whoever owns the Client, outlives it; on the executor's thread. Completion: each `done`
// once. Crashes of ranks are the Remotes' business: here a request only takes longer.
class Router final : public MetadataService, public OwnLocks {
 public:
  Router(Executor& executor, DialFn dial, std::function<RankMap()> map);
  ~Router() override { *alive_ = false; }

  void submit(Request request, ReplyFn done) override;
  void open_session(SessionId session) override { session_ = session; }
  void close_session(SessionId session) override;

  bool may_write(Ino ino) override;
  bool has_lock(Ino ino, uint64_t owner, LockKind kind) const override {
    return locks_.has(session_, ino, owner, kind);
  }
  uint64_t losses(Ino ino) const override;
  std::optional<FileSize> size_of(Ino ino) override;
  void note_size(Ino ino, std::optional<FileSize> size) override;
  // The rank has forgotten this session, and with it the locks on these files: what their callers
  // do with them rests on nothing any more.
  std::function<void(RankId, const std::vector<Ino>& locked)> evicted;
  // What this client was answered, and its rank has lost, could not be done again.
  std::function<void(RankId, const Request&, int err)> lost_for_good;
  // Others want to write to the file: Client::give_back. Unset: it is given back at once.
  std::function<void(Ino)> wanted_back;
  // Whether the right to write to it can be given back without asking: Client::is_idle. Unset:
  // it can.
  std::function<bool(Ino)> is_idle;
  // Rights to write, of which the oldest go back to their ranks.
  static constexpr size_t kMostRights = 1024;

  // Where the inode was last seen; the root rank, if nowhere.
  RankId home_of(Ino ino) const;
  void note_home(Ino ino, RankId home);
  Remote& remote(RankId rank);
  // For every Remote that there is, and each new one.
  std::function<void(Remote&)> made;
  uint64_t redirects() const { return redirects_; }
  LeaseCache& cache() { return cache_; }
  // Whether an inode that has lost its last name is still in use here; if it is, a Release follows
  // when it is not any more. Unset: what is in use was opened.
  std::function<bool(Ino)> refers_to;
  // No rank was asked. For whoever judges answers: this one is right at this moment.
  std::function<void(const Request&, const Reply&)> answered_from_cache;

 private:
  // A request on its way, perhaps from rank to rank.
  struct Pending {
    Credentials cred;
    Args args;
    ReplyFn done;
    int redirects = 0;
    int searches = 0;     // how often every rank was asked
    uint64_t change = 0;  // LeaseCache::begin
  };
  using PendingPtr = std::shared_ptr<Pending>;

  void run(PendingPtr pending);
  void run_at(RankId rank, PendingPtr pending);
  void answered(RankId rank, PendingPtr pending, Reply reply);
  void redirected(RankId rank, PendingPtr pending, RankId home);
  void complete(PendingPtr pending, Reply reply);
  void completed(PendingPtr pending, Reply first, Reply whole);
  bool exists(RankId rank) const;
  void moved(RankId from, const msg::SessionMoved& moved);
  void search(Ino ino, std::move_only_function<void(RankId)> done);
  void sync_all(PendingPtr pending);
  void note(RankId rank, const Reply& reply);
  void keep(RankId rank, Pending& pending, const Reply& reply);
  void finish(const PendingPtr& pending, Reply reply);
  void told(Remote& remote, Body body);
  void note_lock(const LockArgs& args);
  void note_right(Ino ino, std::optional<FileSize> size);
  void note_granted(RankId rank, const Args& args, const Reply& reply);
  void return_rights();
  void attached(RankId rank, bool forgotten);
  bool is_locked(Ino ino) const;
  void forget_rights_at(RankId rank);
  void age_homes();

  Executor& executor_;
  DialFn dial_;
  std::function<RankMap()> map_;
  SessionId session_;
  LeaseCache cache_;
  LockTable locks_;  // that were granted
  // Of each right to write: the size, where it is known. Some of them are gone; then they are not
  // in locks_, and the next grant sets them anew.
  absl::flat_hash_map<Ino, std::optional<FileSize>> rights_;
  std::deque<Ino> rights_order_;  // all of rights_, the oldest first
  // What a rank has granted with an answer before this one, it may have taken back since.
  std::map<RankId, uint64_t> rights_floor_;
  std::map<Ino, uint64_t> losses_;
  std::set<uint64_t> cancelled_;  // waits that are to end
  std::map<RankId, std::unique_ptr<Remote>> remotes_;
  // Two generations: what is used is in the young one, and the old one is dropped when that is
  // full.
  absl::flat_hash_map<Ino, RankId> young_, old_;
  uint64_t redirects_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
