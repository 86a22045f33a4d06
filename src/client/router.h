#pragma once
// Finds the rank that each request is for (docs/protocols/subtrees.md).

#include <absl/container/flat_hash_map.h>

#include <map>
#include <memory>
#include <vector>

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
// sees whole answers.
//
// Owned by whoever owns the Client, outlives it; on the executor's thread. Completion: each `done`
// once. Crashes of ranks are the Remotes' business: here a request only takes longer.
class Router final : public MetadataService {
 public:
  Router(Executor& executor, DialFn dial, std::function<RankMap()> map);
  ~Router() override { *alive_ = false; }

  void submit(Request request, ReplyFn done) override;
  void open_session(SessionId session) override { session_ = session; }
  void close_session(SessionId session) override;

  // Where the inode was last seen; the root rank, if nowhere.
  RankId home_of(Ino ino) const;
  void note_home(Ino ino, RankId home);
  Remote& remote(RankId rank);
  // For every Remote that there is, and each new one.
  std::function<void(Remote&)> made;
  uint64_t redirects() const { return redirects_; }

 private:
  // A request on its way, perhaps from rank to rank.
  struct Pending {
    Credentials cred;
    Args args;
    ReplyFn done;
    int redirects = 0;
    bool searched = false;  // every rank was asked
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

  Executor& executor_;
  DialFn dial_;
  std::function<RankMap()> map_;
  SessionId session_;
  std::map<RankId, std::unique_ptr<Remote>> remotes_;
  // Two generations: what is used is in the young one, and the old one is dropped when that is
  // full.
  absl::flat_hash_map<Ino, RankId> young_, old_;
  uint64_t redirects_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
