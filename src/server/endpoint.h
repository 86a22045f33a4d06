#pragma once
// A rank's side of its clients' connections (docs/protocols/requests.md, leases.md, net.md).

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "net/net.h"
#include "server/leases.h"
#include "server/rank.h"

namespace graftfs {

struct EndpointOptions {
  Nanos lease = 2 * kSecond;
  // After a recovery: clients have so long to come back and send again what they had been answered;
  // who is at it then, a few times that. Until then nothing else is carried out.
  Nanos window = 0;
  uint32_t in_flight = 4096;                    // requests of one connection
  Nanos forget_after = 3600 * kSecond;          // sessions that nobody speaks for
  std::function<void(const std::string&)> log;  // for the operator, one line each
};

// Owned by whoever owns the rank, made when that serves, destroyed before it; in its thread. Each
// connection is a session's; the newest one counts, and older ones of it are closed. Requests that
// were accepted are answered on the connection they came by, or, where that broke, on the next one,
// by which the client sends them again: they are carried out once. A crash forgets everything
// here; clients come back with Attach. A client that breaks the rules is closed with a line in the
// log, and nobody else notices.
class Endpoint final : public SessionLines {
 public:
  Endpoint(Rank& rank, EndpointOptions options);
  ~Endpoint() override;

  // A client's connection, of which nothing was read yet.
  void add(std::unique_ptr<net::Connection> connection);
  // The rank has handed everything over and is about to end: `done` is called when no session needs
  // it any more. Sessions that nobody speaks for within the lease, or that do not end within a few
  // of them, are evicted.
  void retire(RankId heir, Fn done);
  size_t connections() const { return lines_.size(); }

  // Disconnects clients; `why` continues "a client was disconnected: NAME".
  void drop_if(const std::function<bool(const net::Peer&)>& is_meant, const std::string& why);

  bool send(SessionId session, Body body) override;
  bool connected(SessionId session) const override { return attached_.contains(session); }
  void evict(SessionId session, const std::string& why) override;
  void disconnect(SessionId session, const std::string& why) override;
  Nanos heard(SessionId session) const override;
  Nanos lease() const override { return options_.lease; }
  bool in_window() const override { return window_; }

 private:
  struct Line;
  void attach(Line& line, msg::Attach attach);
  void call(Line& line, msg::Call call);
  void carry_out(Line& line, msg::Call call);
  void confine(Line& line, msg::Call call);
  Task<void> confine_later(uint64_t id, msg::Call call, Ino unknown);
  void submit(Line& line, msg::Call call);
  void answer(uint64_t line, uint64_t number, Reply reply);
  void other(Line& line, Message message);
  void resent(SessionId session);
  Task<void> keep_window();
  bool somebody_redoes() const;
  void open_window();
  void tell(Line& line, Body body);
  void drop(Line& line, const std::string& why);
  Line* find(uint64_t line) const;
  Line* line_of(SessionId session) const;
  void sweep();
  void look_at_sessions();
  msg::SessionMoved moved_to(RankId heir);

  // Where a request that is being carried out is answered: on the connection by which it came last.
  struct Answering {
    uint64_t line, number;
    bool came_again = false;
  };

  Rank& rank_;
  EndpointOptions options_;
  std::map<std::pair<SessionId, uint64_t>, Answering> running_;  // by seq
  uint64_t last_line_ = 0;
  std::map<uint64_t, std::unique_ptr<Line>> lines_;
  std::map<SessionId, uint64_t> attached_;    // session -> line
  mutable std::map<SessionId, Nanos> heard_;  // when it was last answered
  bool window_ = false;
  std::set<SessionId> awaited_;  // of those that the owner before had: who has not said Resent
  std::optional<RankId> heir_;
  Nanos retiring_since_ = 0;
  Fn retired_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs
