#pragma once
// A rank's connections to the other ranks.

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "net/net.h"
#include "node/cluster_view.h"
#include "server/peers.h"

namespace graftfs::node {

// What the lines call, from the executor. In order for each rank: up, received..., down.
struct PeerEvents {
  std::function<void(RankId, Epoch)> up;
  std::function<void(RankId)> down;
  std::function<void(RankId, Message)> received;
  std::function<void(const std::string&)> log;
};

// One connection to each rank that is alive; the rank with the lower number makes it, and makes it
// again when it breaks. Each side says Hail with its epoch first; an epoch older than one that was
// seen, or a message that is for another rank, closes it.
//
// Owned by the rank's host, in its thread; outlives the rank, whose Peers it is. Nothing is sent
// before begin(). A crash of either side breaks the connection, which `down` tells once.
class PeerLines final : public Peers {
 public:
  // `dial` makes a connection to one of the addresses of a rank.
  using DialFn = std::function<void(RankId, const RankView&, net::ConnectFn)>;
  PeerLines(Executor& executor, RankId me, DialFn dial, std::function<bool()> lease_valid,
            PeerEvents events);
  ~PeerLines() override;

  // The rank serves, under this epoch.
  void begin(Epoch epoch);
  // The view may come before that.
  void update(ViewPtr view);
  // A connection that another node has made.
  void accepted(std::unique_ptr<net::Connection> connection);

  void send(RankId to, Message message) override;
  bool alive(RankId rank) const override;
  RankId root_rank() const override { return view_ ? view_->root : me_; }
  std::vector<RankId> ranks() const override;
  RankId heir(RankId rank) const override;
  bool lease_valid() const override { return lease_valid_(); }

  bool is_up(RankId rank) const;

 private:
  class Line;
  struct Other {
    std::unique_ptr<Line> line;
    bool up = false;
    bool dialing = false;
    bool waiting = false;  // to dial again
    Nanos retry_after = 0;
    Epoch seen;  // the newest
    cluster::NodeId node = 0;
  };
  void dial(RankId rank);
  void dial_later(RankId rank);
  void hail(Line& line, RankId rank);
  void received(Line& line, Message message);
  void disconnected(Line& line);
  void hang_up(std::unique_ptr<Line> line);
  void lose(RankId rank);
  void say(const std::string& line) const;

  Executor& executor_;
  RankId me_;
  DialFn dial_;
  std::function<bool()> lease_valid_;
  PeerEvents events_;
  Epoch epoch_;
  bool begun_ = false;
  ViewPtr view_;
  std::map<RankId, Other> others_;
  std::map<Line*, std::unique_ptr<Line>> strangers_;  // who have not said Hail yet
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::node
