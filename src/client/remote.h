#pragma once
// A client's conversation with one rank, over connections that break (docs/protocols/requests.md).

#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "net/net.h"
#include "types/service.h"

namespace graftfs {

// Makes a connection to whoever serves the rank now. ENXIO: there is no such rank any more.
using DialFn = std::function<void(RankId, net::ConnectFn)>;

// Numbers requests and keeps each until it was answered and what it did is durable. When the
// connection is made anew, what is unanswered is sent again, in order, and so is what was answered
// and lost since (with the ino and the times that the answer told of).
//
// Owned by the Router, on the executor's thread. Completion: each `done` is called once. A crash of
// the rank loses nothing here. Where the rank has forgotten the session (evicted), what was sent
// and changes something fails with EIO, as does the next sync, and a new session begins with the
// rest.
class Remote final : public net::ConnectionEvents {
 public:
  Remote(Executor& executor, SessionId session, RankId rank, DialFn dial);
  ~Remote() override;

  void call(Credentials cred, Args args, ReplyFn done);
  // The rank is asked who has the inode, once it can be reached; kNobody: it does not know.
  void find(Ino ino, std::move_only_function<void(RankId)> done);
  // Ends the session; callbacks that were not called are destroyed.
  void close();

  // Holds that were made at another rank, of what has come to this one.
  struct Held {
    uint32_t opened = 0;
    bool nameless = false;  // its last name is gone
  };
  void add_hold(Ino ino, Held more);
  Held take_hold(Ino ino);
  bool has_hold(Ino ino) const { return holds_.contains(ino); }

  RankId rank() const { return rank_; }
  bool is_up() const { return state_ == up; }
  // Something was done here that a crash of the rank may still undo, or is under way.
  bool has_undurable() const { return !slots_.empty() || lost_; }
  size_t unanswered() const { return unanswered_; }
  Lsn durable() const { return durable_; }
  // What the rank has leased still holds.
  bool lease_valid() const;
  // What the rank says unasked: recalls, queries of holds, SessionMoved. May be empty.
  std::function<void(Body)> told;
  // A subtree has gone from this rank to another one.
  std::function<void(const msg::SessionMoved&)> moved;
  // The rank has ended, and nothing is under way here: this object is not needed any more.
  std::function<void()> ended;
  // The connection was made anew, or the session is a new one: what was leased is over.
  std::function<void(bool evicted)> attached;
  // What was answered, and its rank has lost, could not be done again: it is gone. May be empty.
  std::function<void(const Request&, int err)> lost_for_good;
  // The locks of this session, as it attaches. May be empty.
  std::function<std::vector<LockRange>()> claims;
  // An answer to that: also while it is attaching. Nothing where there is no connection.
  void say(Body body);

 private:
  enum State : uint8_t { down, dialing, attaching, up };
  struct Slot {
    Request request;
    ReplyFn done;
    bool sent = false;
    bool sent_here = false;  // by the connection that there is
    bool answered = false;
    Lsn lsn;               // of its event; 0: it changed nothing
    bool redoing = false;  // answered before, and sent again
  };

  void received(Message message) override;
  void disconnected(const Error& why) override;
  void dial();
  void dial_later();
  void on_connected(Result<std::unique_ptr<net::Connection>> connection);
  void on_attached(const msg::Attached& attached);
  void on_answer(msg::Answer answer);
  void send(uint64_t number, bool resent);
  void send_again();
  bool redo_behind_others(uint64_t number);
  void note_lost(const Request& request, int err);
  void begin_anew();
  void fail_all();
  void give_up(std::deque<Slot> slots);
  void durable_up_to(Lsn lsn);
  void reap();
  void take_leave();
  void rank_is_gone();
  void ended_soon();
  void note_holds(const Args& args, const Reply& reply);
  void beat();
  void hang_up();
  Slot& slot(uint64_t number) { return slots_[number - first_]; }

  Executor& executor_;
  const SessionId session_;
  const RankId rank_;
  DialFn dial_;
  State state_ = down;
  std::unique_ptr<net::Connection> connection_;
  Epoch known_;  // of the rank, when it was attached last
  Lsn durable_;
  Nanos lease_ = 2 * kSecond;
  Nanos retry_after_ = 0;
  bool closed_ = false;
  bool leaving_ = false;  // the rank is about to end
  bool lost_ = false;     // something answered is gone: the next sync says so

  std::deque<Slot> slots_;
  uint64_t first_ = 1;  // number of the front
  uint64_t last_seq_ = 0;
  std::deque<uint64_t> again_;  // to be done again, one after the other, and then Resent
  bool evicted_ = false;        // the session is a new one
  size_t unanswered_ = 0;
  std::map<Ino, Held> holds_;
  struct Finding {
    Ino ino;
    std::move_only_function<void(RankId)> done;
  };
  std::map<uint64_t, Finding> finding_;
  uint64_t last_find_ = 0;

  uint64_t last_beat_ = 0;
  std::map<uint64_t, Nanos> beats_;  // sent and not answered
  Nanos heard_ = 0;                  // when the last beat that was answered was sent
  bool beating_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
