#include "node/peer_lines.h"

#include <algorithm>

#include "base/fault.h"

namespace graftfs::node {
namespace {

constexpr Nanos kFirstRetry = 5 * kMillisecond;
constexpr Nanos kLongestRetry = 200 * kMillisecond;
constexpr Nanos kHailWithin = 5 * kSecond;

}  // namespace

class PeerLines::Line final : public net::ConnectionEvents {
 public:
  Line(PeerLines& owner, std::unique_ptr<net::Connection> connection)
      : connection(std::move(connection)), owner_(owner) {
    this->connection->set_events(this);
  }
  ~Line() override { connection->set_events(nullptr); }
  void received(Message message) override { owner_.received(*this, std::move(message)); }
  void disconnected(const Error&) override { owner_.disconnected(*this); }

  std::unique_ptr<net::Connection> connection;
  std::optional<RankId> rank;  // whose it is, once that is known

 private:
  PeerLines& owner_;
};

PeerLines::PeerLines(Executor& executor, RankId me, DialFn dial, std::function<bool()> lease_valid,
                     PeerEvents events)
    : executor_(executor),
      me_(me),
      dial_(std::move(dial)),
      lease_valid_(std::move(lease_valid)),
      events_(std::move(events)) {}

PeerLines::~PeerLines() { *alive_ = false; }

void PeerLines::say(const std::string& line) const {
  if (events_.log) events_.log(line);
}

void PeerLines::begin(Epoch epoch) {
  epoch_ = epoch;
  begun_ = true;
  if (view_) update(view_);
}

void PeerLines::update(ViewPtr view) {
  view_ = std::move(view);
  if (!begun_) return;
  for (const auto& [rank, now] : view_->ranks) {
    if (rank == me_) continue;
    Other& other = others_[rank];
    // The node before is over, even where its connection still stands.
    if (other.node != now.node && other.line) {
      MARK("node.peer.moved");
      lose(rank);
    }
    other.node = now.node;
    if (now.alive && me_ < rank) dial(rank);
  }
  for (auto& [rank, other] : others_) {
    if (!view_->find(rank) && other.line) lose(rank);
  }
}

void PeerLines::dial(RankId rank) {
  Other& other = others_[rank];
  const RankView* where = view_->find(rank);
  if (other.line || other.dialing || other.waiting || !where || !where->alive) return;
  other.dialing = true;
  dial_(rank, *where,
        [this, rank, alive = alive_](Result<std::unique_ptr<net::Connection>> connection) {
          if (!*alive) return;
          Other& other = others_[rank];
          other.dialing = false;
          if (!connection || other.line) return dial_later(rank);
          auto line = std::make_unique<Line>(*this, std::move(*connection));
          line->rank = rank;
          hail(*line, rank);
          other.line = std::move(line);
        });
}

void PeerLines::dial_later(RankId rank) {
  Other& other = others_[rank];
  if (other.waiting) return;
  other.waiting = true;
  other.retry_after = std::clamp(2 * other.retry_after, kFirstRetry, kLongestRetry);
  executor_.post_after(other.retry_after, [this, rank, alive = alive_] {
    if (!*alive) return;
    others_[rank].waiting = false;
    dial(rank);
  });
}

void PeerLines::hail(Line& line, RankId rank) {
  line.connection->send(Message{me_, rank, msg::Hail{epoch_}});
}

void PeerLines::accepted(std::unique_ptr<net::Connection> connection) {
  auto line = std::make_unique<Line>(*this, std::move(connection));
  Line* key = line.get();
  strangers_[key] = std::move(line);
  executor_.post_after(kHailWithin, [this, key, alive = alive_] {
    if (!*alive) return;
    auto it = strangers_.find(key);
    if (it == strangers_.end()) return;
    MARK("node.peer.silent");
    auto gone = std::move(it->second);
    strangers_.erase(it);
    hang_up(std::move(gone));
  });
}

void PeerLines::received(Line& line, Message message) {
  const msg::Hail* hail = std::get_if<msg::Hail>(&message.body);
  if (!line.rank) {
    auto it = strangers_.find(&line);
    auto mine = std::move(it->second);
    strangers_.erase(it);
    const RankId rank = message.from;
    // Only a lower one makes connections, and it speaks to this rank.
    if (!hail || message.to != me_ || !(rank < me_) || !begun_ || !view_ || !view_->find(rank)) {
      MARK("node.peer.stranger");
      return hang_up(std::move(mine));
    }
    Other& other = others_[rank];
    if (hail->epoch < other.seen) {
      MARK("node.peer.old_epoch");
      return hang_up(std::move(mine));
    }
    if (other.line) lose(rank);
    mine->rank = rank;
    this->hail(*mine, rank);
    other.line = std::move(mine);
  }
  const RankId rank = *line.rank;
  Other& other = others_[rank];
  if (message.from != rank || message.to != me_) {
    say(fmt::format("a connection to rank {} said something that is for rank {}: closed", rank,
                    message.to));
    return lose(rank);
  }
  if (hail) {
    if (hail->epoch < other.seen || other.up) {
      MARK("node.peer.bad_hail");
      return lose(rank);
    }
    other.seen = hail->epoch;
    other.up = true;
    other.retry_after = 0;
    events_.up(rank, hail->epoch);
    return;
  }
  if (!other.up) return lose(rank);
  events_.received(rank, std::move(message));
}

void PeerLines::disconnected(Line& line) {
  if (line.rank) return lose(*line.rank);
  auto it = strangers_.find(&line);
  auto gone = std::move(it->second);
  strangers_.erase(it);
  hang_up(std::move(gone));
}

// It may be inside one of its own events.
void PeerLines::hang_up(std::unique_ptr<Line> line) {
  line->connection->set_events(nullptr);
  line->connection->close();
  executor_.post([gone = std::shared_ptr<Line>(std::move(line))] {});
}

void PeerLines::lose(RankId rank) {
  Other& other = others_[rank];
  const bool was_up = std::exchange(other.up, false);
  if (other.line) hang_up(std::move(other.line));
  other.line = nullptr;
  if (was_up) events_.down(rank);
  if (me_ < rank) dial_later(rank);
}

void PeerLines::send(RankId to, Message message) {
  auto it = others_.find(to);
  if (it == others_.end() || !it->second.up) return;
  message.from = me_;
  message.to = to;
  it->second.line->connection->send(std::move(message));
}

bool PeerLines::alive(RankId rank) const {
  if (rank == me_) return true;
  const RankView* other = view_ ? view_->find(rank) : nullptr;
  return other && other->alive;
}

std::vector<RankId> PeerLines::ranks() const {
  std::vector<RankId> all;
  if (view_)
    for (const auto& [rank, view] : view_->ranks) all.push_back(rank);
  if (all.empty()) all.push_back(me_);
  return all;
}

RankId PeerLines::heir(RankId rank) const {
  if (!view_) return rank;
  auto it = view_->heirs.find(rank);
  return it == view_->heirs.end() ? rank : it->second;
}

bool PeerLines::is_up(RankId rank) const {
  auto it = others_.find(rank);
  return it != others_.end() && it->second.up;
}

}  // namespace graftfs::node
