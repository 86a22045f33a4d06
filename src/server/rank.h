#pragma once
// One metadata server: one thread, one journal, one cache.
//
// Owned by the process that serves the volume; lives on one executor's thread, every call comes
// from there. start() fences older owners and recovers; from then on submit() executes requests.
// A reply leaves when what it shows is as durable as the volume's mode demands. A crash at any
// point leaves a journal and a store from which the next start() recovers everything that was
// answered. After an error of the journal the rank answers EIO until it is started anew.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "base/task.h"
#include "cache/cache.h"
#include "events/rank_state.h"
#include "events/registry.h"
#include "events/trace.h"
#include "events/two_party.h"
#include "journal/journal.h"
#include "recovery/recover.h"
#include "server/authority.h"
#include "server/header_reads.h"
#include "server/op_context.h"
#include "server/peers.h"
#include "server/recent.h"
#include "store/store.h"
#include "types/service.h"

namespace graftfs {

class HoldQueries;
class Leases;
class Locks;
class Migrations;
class RankCore;
class TwoParty;

// A request was executed now, with this answer.
struct Executed {
  const Request& request;
  const Reply& reply;
  Lsn lsn;       // of its event; 0: it changed nothing
  Timespec now;  // the time that its change bears
  // Other ranks were asked. Where it failed, what they answered was so a moment ago.
  bool asked_others = false;
  bool with_others = false;  // and they change with it
};

struct RankOptions {
  RankId rank;
  uint64_t volume = 0;
  std::string volume_name;
  Durability durability = Durability::posix;
  TracePolicy trace = TracePolicy::chunked;
  bool read_only = false;
  bool accept_loss = false;
  bool journal_must_exist = false;
  size_t memory_limit = size_t{1} << 30;  // bytes of cache
  Nanos recovery_target = kSecond;        // what a recovery may take
  uint64_t journal_cap = 0;               // bytes; 0: from recovery_target and measured speed
  double write_back_from = 0.5;           // of the cap: from here on write-back does not wait
  bool leaving = false;                   // it may have handed over all it had: makes nothing anew
  uint32_t max_dir_link = kMaxDirLink;    // EMLINK above
  uint32_t segment_events = 8192;
  uint32_t segments_per_major = 16;
  Nanos write_back_after = 5 * kSecond;  // dirty items go to the store at the latest after this
  size_t write_back_batch = 131072;      // items
  uint64_t ino_range = 1 << 20;          // inode numbers taken from the store at once
  // After recovery, once it may speak: for sessions to claim what they hold.
  Nanos reconnect_window = 0;
  std::function<void(const RecoveryProgress&)> progress;
  std::function<void(const std::string&)> log;  // for the operator, one line each
  // For the simulator's oracle. Not called for a request that is answered again.
  std::function<void(const Executed&)> executed;
  Peers* peers = nullptr;  // the other ranks; null: there never are any
  OwnOptions own;          // how the journal is taken
};

struct RankStats {
  uint64_t requests = 0, retries = 0, fetches = 0, throttled = 0;
  uint64_t write_backs = 0, written_back_items = 0, purged = 0, relogged = 0;
};

class Rank final : public MetadataService, private JournalHooks {
 public:
  Rank(Executor& executor, Store& store, RankOptions options);
  ~Rank() override;

  // Completion: requests are executed. Errors: EBUSY, EUCLEAN, and the store's.
  Task<Result<void>> start();
  // Answers what is under way, writes everything back, closes the journal.
  Task<Result<void>> stop();
  // Writes back and trims until nothing is dirty.
  Task<Result<void>> write_back_all();

  void submit(Request request, ReplyFn done) override;
  void open_session(SessionId session) override;
  void close_session(SessionId session) override;

  // -- other ranks (subtrees.cc) --
  void receive(RankId from, Message message);
  void peer_up(RankId rank, Epoch epoch);
  void peer_down(RankId rank);
  void tell_paths_to(RankId to);
  // Who is the authority for the inode: this rank, another one, or nobody that it knows.
  void find(Ino ino, std::move_only_function<void(RankId)> done);
  // Calls `send` once the journal is durable up to there and this node may speak.
  void say_when(Lsn durable, Fn send);
  // After a recovery: completes when clients have had `time` to come back, in which the rank may
  // speak, and the store, where they find it, answers.
  Task<void> give_clients(Nanos time);
  // Every session that the owner before had is back or gone: what it has lost and was not made
  // again is lost.
  void nothing_is_made_again();
  // Another rank's ~orphans have come here: what nobody holds is purged.
  void adopt_orphans(Ino dir);
  // Nothing is this rank's any more, and nobody waits for it to say or do something.
  bool is_drained() const;
  // The rank has failed because another owner has taken its journal.
  bool is_fenced() const { return failed_ && failed_->code == ESTALE; }
  // What has to be durable before the session may see the directory; only a name in it.
  Lsn hidden_from(SessionId session, const Dir& dir) const;
  Lsn hidden_from(SessionId session, const Dir& dir, NameHash name) const;
  // What the reply to a request waits for, before it may leave.
  bool may_speak();
  RankId id() const { return options_.rank; }
  Epoch epoch() const { return epoch_; }
  Executor& executor() { return executor_; }
  Migrations& migrations() { return *migrations_; }
  TwoParty& two_party() { return *two_party_; }
  Leases& leases() { return *leases_; }
  HoldQueries& hold_queries() { return *hold_queries_; }
  Locks& locks() { return *locks_; }
  RankCore& core() { return *core_; }

  const Recovered& recovered() const { return recovered_; }
  const RankStats& stats() const { return stats_; }
  const TraceStats& trace_stats() const { return encoder_.stats(); }
  const Cache& cache() const { return cache_; }
  const RankState& state() const { return state_; }
  const Journal& journal() const { return *journal_; }
  uint64_t journal_cap() const { return journal_cap_; }
  bool failed() const { return failed_.has_value(); }
  // What requests wait for: pieces of the tree, or others.
  std::vector<Need> waiting() const;

 private:
  friend class OpContext;
  friend class Change;
  friend class RankCore;

  // A request on its way. It holds nothing while it waits.
  struct Pending {
    Request request;
    ReplyFn done;
    std::vector<Absent> absent;  // what was asked for and is not there
    uint64_t two_party = 0;      // the number of its part at other ranks
    int runs = 0;
    bool hungry = false;  // what it fetches is evicted before it has all it needs
  };
  using PendingPtr = std::unique_ptr<Pending>;
  struct WaitingReply {
    Lsn written, durable;
    Reply reply;
    ReplyFn done;
  };

  // requests.cc
  void run(PendingPtr pending);
  // True: answered. False: `need` is missing; request and done are untouched.
  bool try_run(const Request& request, const std::vector<Absent>& absent, uint64_t two_party,
               ReplyFn& done, Need& need);
  // Another rank's business, or an operation on several authorities.
  Outcome redirect(OpContext& context, const Request& request, const Stop& stop);
  void park(Need need, PendingPtr pending);
  void wake(const Need& need);
  Outcome dispatch(OpContext& context, const Args& args);
  Outcome answer_again(OpContext& context, const CompletedRequest& completed, bool hold);
  void answer(Lsn written, Lsn durable, Reply&& reply, ReplyFn&& done);
  void answered() {
    running_--;
    quieter_.ring();
  }
  void release_replies();
  void fail_replies(int err);
  bool throttled(const Args& args) const;
  bool is_refused(const Args& args) const;
  bool has_room(const Args& args) const;
  void resume_throttled();
  Task<void> sync_request(ReplyFn done);
  Task<void> statfs_request(ReplyFn done);

  // rank.cc
  // `commit`: the event is a Commit, and this is what it says beside its tree event.
  Lsn log(const TreeEvent& event, const Commit* commit = nullptr);
  void note_recent(const TreeEvent& event, Lsn lsn);
  Lsn log_raw(EventType type, const std::string& payload);
  void end_of_turn();
  void begin_segment(SegmentId id, bool major, std::string& payload) override;
  void journal_progress() override;
  void journal_failed(const Error& error) override;
  void say(const std::string& line) const;
  Task<Result<void>> begin();
  Task<Result<void>> see_that_it_is_ours();
  Task<Result<void>> begin_fresh();
  Task<Result<void>> choose_cap();
  void set_out_of_space(bool full);

  // subtrees.cc
  bool is_alone() const;
  RankId ask_root() const;
  void refresh_bounds();
  void put_stub(Ino ino, Dir& parent, RankId rank);
  Task<Result<void>> fetch_bounds();
  Task<void> find_task(Ino ino, std::move_only_function<void(RankId)> done);
  Task<void> answer_stat(RankId from, msg::StatAsk ask);
  void tell_paths(const TreeEvent& event, Lsn lsn);
  void path_changed(const msg::PathChanged& changed);
  void bound_moved(RankId from, const msg::BoundMoved& moved);
  msg::AncestryIs ancestry(const msg::Ancestry& asked);
  void fail_waiting(int err);

  // fetch.cc
  void fetch(Need need, PendingPtr pending);
  Task<void> fetch_task(Need need);
  Task<Result<Place>> fetch_need(Need need);
  Task<Result<Place>> fetch_dir(Ino ino);
  Task<Result<Place>> fetch_inode(Ino ino);
  struct ReadHeader {
    DirHeader header;
    uint64_t read_at;
  };
  Task<Result<Place>> hang(std::vector<ReadHeader> way, const HeaderReads::Reader& reader);
  Place is_root_of_other(Ino ino) const;
  std::optional<Place> ends_at(Ino ino) const;
  Task<Result<bool>> fetch_entry(Ino ino, std::string name);
  Task<Result<bool>> fetch_range(Ino ino, NameHash from);
  Task<Result<bool>> fetch_inos();
  // A number is about to be given out: the next range is fetched before the last one is used up, as
  // the store may have to finish a large commit first.
  void note_ino_wanted();
  uint64_t inos_left() const;

  // write_back.cc
  Task<void> write_back_loop();
  Task<Result<size_t>> write_back_batch();
  Task<Result<void>> merge_before_commit(Dir& dir, std::vector<Dentry*> dentries);
  Task<Result<void>> trim();
  void wake_write_back();
  uint64_t soft_cap() const {
    return static_cast<uint64_t>(static_cast<double>(journal_cap_) * options_.write_back_from);
  }
  void relog_stuck();
  Task<void> evict();
  bool only_damaged_dirty() const;

  // purge.cc
  struct Hold {
    SessionId session;
    uint32_t count = 0;
    bool nameless = false;
  };
  // Count 0: it has lost its last name, which happens once. Not for a session that has ended.
  void add_hold(Ino ino, SessionId session, uint32_t count);
  void drop_hold(Ino ino, SessionId session, uint32_t count);
  bool is_held_by(Ino ino, SessionId session) const;
  // The request has got the holds that its answer gives. False: it had, since the session came by
  // the connection that it has.
  bool note_held(const Request& request);
  void drop_holds(SessionId session);
  void claim_holds(SessionId session, const std::vector<HoldCount>& claimed);
  Hold* find_hold(Ino ino, SessionId session);
  void want_purge(Ino ino);
  Task<void> purge_loop();
  Task<void> yield_to_requests();
  Task<Result<void>> durable_in_time(Lsn lsn);
  Task<Result<bool>> is_orphan(Dir& orphans, Ino ino);
  Task<Result<void>> purge_batch(std::vector<Ino> asked);
  Task<Result<void>> remove_contents(std::vector<Ino> files, std::vector<DirUpdate> dirs);
  Task<Result<void>> purge_from(Ino dir, std::vector<Ino> asked);
  Task<Result<void>> find_orphans();
  Task<Result<void>> find_orphans_in(Ino dir);
  Task<void> let_sessions_claim();
  std::vector<Ino> orphans_dirs() const;
  void start_purging();
  Task<Result<void>> drop_data_of_lost_files();

  Executor& executor_;
  Store& store_;
  RankOptions options_;
  Cache cache_;
  RankState state_;
  Recent recent_;
  TraceEncoder encoder_;
  JournalDevice* device_ = nullptr;
  std::unique_ptr<Journal> journal_;
  Recovered recovered_;
  Epoch epoch_;  // of this owner
  uint64_t journal_cap_ = 0;
  uint64_t commits_ = 0;  // write-backs that were begun, ever
  std::optional<Error> failed_;
  bool serving_ = false;
  bool ending_ = false;  // nothing waits for other ranks any more
  bool stopping_ = false;
  bool out_of_space_ = false;  // the store said ENOSPC

  TreeEvent scratch_;  // of the Change under construction
  bool turn_posted_ = false;
  std::deque<WaitingReply> wait_written_, wait_durable_;
  std::multimap<Lsn, Fn> sayings_;  // wait until it is durable up to there
  bool speaking_later_ = false;
  std::map<Need, std::vector<PendingPtr>> fetching_;
  HeaderReads header_reads_;
  uint64_t inos_usable_below_ = UINT64_MAX;
  std::map<Need, std::vector<PendingPtr>> parked_;
  std::set<Ino> stubs_;  // in the cache
  int gates_ = 0;        // reasons to look closer at each directory
  std::deque<PendingPtr> throttled_;
  size_t running_ = 0;  // requests accepted and not answered
  Bell quieter_;        // a request was answered, or write-back or a purge has ended
  size_t hungry_ = 0;   // while there is one, nothing is evicted

  absl::flat_hash_map<uint64_t, absl::InlinedVector<Hold, 1>> holds_;
  std::map<SessionId, std::set<uint64_t>> held_for_;  // requests, by their seq
  std::deque<Ino> purge_queue_;
  absl::flat_hash_set<uint64_t> being_purged_;  // nobody can reach these any more
  class Purge;
  bool purging_ = false;
  // Not given out by the owner before, as far as its journal tells. Some of them it has given out
  // all the same, and a crash has taken that; which of those were made again.
  std::vector<InoRange> lost_inos_;
  std::set<Ino> made_again_;
  bool drop_lost_ = false;  // the data of the others
  bool claiming_ = false;   // sessions may still claim what they hold: nothing is purged

  bool write_back_running_ = false;
  bool write_back_now_ = false;  // do not wait for the timer
  bool write_back_timer_ = false;

  RankStats stats_;
  Peers* peers_;
  std::unique_ptr<RankCore> core_;
  std::unique_ptr<Leases> leases_;
  std::unique_ptr<HoldQueries> hold_queries_;
  std::unique_ptr<Locks> locks_;
  std::unique_ptr<Migrations> migrations_;
  std::unique_ptr<TwoParty> two_party_;
  std::shared_ptr<bool> alive_;  // posted functions check it
  TaskScope tasks_;              // last: destroyed first
};

}  // namespace graftfs
