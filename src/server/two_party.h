#pragma once
// Operations on several authorities (docs/protocols/two_party.md): this rank as coordinator and as
// participant.

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "server/marks.h"
#include "server/rank_core.h"

namespace graftfs {

// One for a rank, in its thread. As coordinator it does what an operation asks of others (begin)
// until the operation can be carried out (commit) or is over (ended); as participant what other
// ranks ask of this one. A crash leaves what the journal says, Prepare and Commit; recovered()
// takes that up.
class TwoParty {
 public:
  explicit TwoParty(RankCore& core) : core_(core) {}
  ~TwoParty() { *alive_ = false; }

  void receive(RankId from, Message message);
  void peer_up(RankId rank);
  void peer_down(RankId rank);
  void recovered();

  // A request needs these of others; `number`: the one it had before, 0: none. Returns why it
  // stops: an error, or what it waits for (Need::two_party with a number), to start over when that
  // is woken. Parts that were asked before and are not these are given up.
  Stop begin(const Request& request, uint64_t number, std::vector<Asked> asked);
  // For a request that starts over: what it has got. Null: nothing yet.
  const Prepared* prepared(uint64_t number) const;
  // Logs and applies it; the others are told once it is durable.
  Lsn commit(uint64_t number, TreeEvent& event, std::vector<MapChange> map);
  // The request waits for what somebody else has marked: what it has marked itself is free, and
  // what others have promised. What was found out is kept.
  void yield(uint64_t number);
  // The request was answered: what it has not committed is aborted.
  void ended(uint64_t number);

  // As `self`, of a part that is being carried out: nothing is in its way any more.
  static constexpr uint64_t kDecided = UINT64_MAX;
  // Whether something is marked by another operation than `self`; by which.
  std::optional<Need> busy(Ino ino, std::string_view name, uint64_t self) const;
  // Whether another rank's operation is about to change a name in it.
  std::optional<Need> busy_names(const Dir& dir, uint64_t self) const;
  // Whether anything at or below the directory is marked.
  bool busy_below(const Dir& dir) const;
  // Nothing is under way, here or for others.
  bool idle() const { return ops_.empty() && parts_.empty(); }

 private:
  // An operation that this rank coordinates. Every try has a new id.
  struct Op {
    enum State : uint8_t {
      begun,   // start() is about to be called
      queued,  // for the token
      preparing,
      climbing,   // is it a loop?
      ready,      // the request may be carried out
      refused,    // the request is answered `err`
      pausing,    // something was busy; then the request starts over
      resting,    // the request waits for somebody else
      committed,  // logged
      decided,    // and durable: the participants are being told
    } state = begun;
    uint64_t number = 0;
    ProtocolId id;
    SessionId session;
    Credentials cred;
    std::optional<Timespec> redo;  // when it was done the first time
    Prepared what;
    std::vector<Ino> seen;                        // what its names here led to when that was asked
    std::map<RankId, std::vector<size_t>> parts;  // of other ranks: which of `what.asked`
    std::optional<RankId> token;                  // at which rank; may be this one
    std::set<RankId> asked;                       // were sent Prepare
    std::set<RankId> answered, done;
    int err = 0;
    int tries = 0;
    std::map<Ino, int> strays;  // how often somebody was asked for it who has it not
    Nanos since = 0;
    // The loop check: each of these must not be above the directory beside it.
    std::vector<std::pair<Ino, Ino>> climbs;
    Ino here;
    RankId guide;  // who is asked next
    int hops = 0, turns = 0;
  };
  // What this rank does for another one's.
  struct Part {
    enum State : uint8_t { preparing, prepared, committing } state = preparing;
    uint64_t number = 0;
    PreparedOp promised;
  };
  struct Waiting {
    RankId from;  // this rank: `number` is its own operation's
    uint64_t number = 0;
    msg::Prepare prepare;
  };

  // coordinator: two_party.cc
  void post(Fn fn);
  void start(uint64_t number);
  RankId place(Op& op, const Asked& asked);
  std::vector<Ino> own_names(const Op& op) const;
  void with_token(Op& op);
  void send_prepares(Op& op);
  void all_prepared(Op& op);
  void climb(Op& op);
  void ask_guide(Op& op);
  void climbed(const msg::AncestryIs& is);
  bool loops(Op& op, const std::vector<Ino>& chain);
  void make_ready(Op& op);
  void abort(Op& op);
  void retry(Op& op);
  void refuse(Op& op, int err);
  void wake_request(uint64_t number);
  void decide(uint64_t number);
  void send_decisions(Op& op);
  void close(Op& op);
  Op* find(const ProtocolId& id);
  void on_prepared(RankId from, const msg::Prepared& m);
  void on_refused(RankId from, const msg::Refused& m);
  static bool moves_directory(const Op& op);
  void on_done(RankId from, const msg::Done& m);
  void on_ask(RankId from, const msg::AskOp& m);
  void tick();
  void ask_again(RankId rank);
  void want_tick();
  void unmark(uint64_t number);

  // participant: participant.cc
  void on_prepare(RankId from, msg::Prepare m);
  void on_decide(RankId from, const msg::Decide& m);
  void grant_token();
  void give_token_back(const ProtocolId& op);
  Task<void> prepare_task(RankId from, msg::Prepare m);
  std::optional<Stop> try_prepare(RankId from, const msg::Prepare& m, const Request& request,
                                  const std::vector<Absent>& absent, uint32_t& phase);
  void promise(RankId from, const msg::Prepare& m, std::vector<msg::IntentValue> values);
  Task<void> commit_task(RankId from, ProtocolId op);
  std::optional<Stop> try_commit(RankId from, const ProtocolId& op, const Request& request,
                                 const std::vector<Absent>& absent);
  // What is missing; an error: what to answer.
  Task<std::optional<Stop>> get(Stop stop, std::vector<Absent>* absent);
  void ask_fate(const ProtocolId& op);

  RankCore& core_;
  Marks marks_;
  uint64_t numbers_ = 0;
  std::map<uint64_t, Op> ops_;
  std::map<ProtocolId, Part> parts_;
  std::map<Ino, RankId> homes_;  // what was found out by asking
  std::optional<ProtocolId> token_;
  std::deque<Waiting> token_queue_;
  bool ticking_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
