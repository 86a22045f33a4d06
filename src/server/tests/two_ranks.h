#pragma once
// Several ranks on one disk and one executor, whose messages can be cut.

#include <algorithm>
#include <set>

#include "events/import.h"
#include "events/migration.h"
#include "ops_fixture.h"
#include "server/authority.h"
#include "server/leases.h"
#include "server/peers.h"
#include "server/rank.h"
#include "server/rank_core.h"

namespace graftfs {

class Ranks {
 public:
  explicit Ranks(size_t count = 2, RankOptions options = {}) : options_(std::move(options)) {
    for (size_t i = 0; i < count; ++i) nodes_.push_back(std::make_unique<Node>(*this, id(i)));
    for (size_t i = 0; i < count; ++i) start(i);
  }
  ~Ranks() {
    for (size_t i = 0; i < nodes_.size(); ++i) stop(i);
  }

  // A rank of its own begins, or goes on with its journal.
  void start(size_t i) {
    Node& node = *nodes_[i];
    RankOptions options = options_;
    options.rank = id(i);
    options.volume = 1;
    options.volume_name = "test";
    options.peers = &node;
    node.store = std::make_unique<MemoryStore>(executor, disk, nullptr);
    node.rank = std::make_unique<Rank>(executor, *node.store, std::move(options));
    finish(node.rank->start());
    node.rank->open_session(kSession);
    for (auto& other : nodes_) {
      if (other.get() == &node || !other->rank) continue;
      hail(*other, node);
      hail(node, *other);
    }
  }
  void stop(size_t i) {
    Node& node = *nodes_[i];
    if (!node.rank) return;
    finish(node.rank->stop());
    end(node);
  }
  // Its process dies.
  void kill(size_t i) {
    end(*nodes_[i]);
    disk->crash(random_, CrashKind::process_death);
  }
  // The machine of all of them loses its power.
  void cut_power() {
    for (auto& node : nodes_) end(*node);
    disk->crash(random_, CrashKind::power_cut);
  }

  Rank& rank(size_t i) { return *nodes_[i]->rank; }
  bool is_up(size_t i) const { return nodes_[i]->rank != nullptr; }
  static RankId id(size_t i) { return RankId{static_cast<uint16_t>(i)}; }
  // While it is cut nothing is delivered between these two; both are told.
  void cut(size_t a, size_t b) {
    cut_.insert(std::minmax(a, b));
    if (nodes_[a]->rank) nodes_[a]->rank->peer_down(id(b));
    if (nodes_[b]->rank) nodes_[b]->rank->peer_down(id(a));
  }
  void heal(size_t a, size_t b) {
    cut_.erase(std::minmax(a, b));
    if (!nodes_[a]->rank || !nodes_[b]->rank) return;
    hail(*nodes_[a], *nodes_[b]);
    hail(*nodes_[b], *nodes_[a]);
  }
  void set_lease_valid(bool valid) { lease_valid_ = valid; }
  // What each rank was sent, in order.
  std::vector<Message> delivered;

  Reply call(size_t i, Args args, SessionId session = kSession) {
    Request request;
    request.session = session;
    request.seq = ++seq_;
    request.oldest = 1;  // tests number requests of their own beside these, and send some again
    request.args = std::move(args);
    return submit(i, std::move(request));
  }
  Reply submit(size_t i, Request request) {
    executor.advance(kMillisecond);
    std::optional<Reply> reply;
    rank(i).submit(std::move(request), [&reply](Reply r) { reply = std::move(r); });
    executor.run_until([&reply] { return reply.has_value(); });
    return reply ? std::move(*reply) : Reply{.err = EIO};
  }
  // Until nothing more happens within that time.
  void settle(Nanos time = 50 * kMillisecond) {
    bool over = false;
    executor.post_after(time, [&over] { over = true; });
    executor.run_until([&over] { return over; });
  }
  void finish(Task<Result<void>> task) {
    std::optional<Result<void>> result;
    TaskScope scope;
    scope.spawn(keep(std::move(task), result));
    executor.run_until([&result] { return result.has_value(); });
    ASSERT_TRUE(result && *result) << (result ? describe(result->error()) : "no result");
  }

  Ino mkdir(size_t i, Ino dir, const std::string& name) {
    Reply reply = call(i, MkdirArgs{dir, name, 0755, 0});
    EXPECT_EQ(reply.err, 0) << name;
    return reply.stat.ino;
  }
  Ino create(size_t i, Ino dir, const std::string& name) {
    Reply reply = call(i, CreateArgs{dir, name, 0644, 0, true, 0});
    EXPECT_EQ(reply.err, 0) << name;
    if (reply.err == 0) call(i, ReleaseArgs{reply.stat.ino, 1});
    return reply.stat.ino;
  }

  // Gives a directory to another rank by hand: everything is written back, then Import, Export and
  // ImportEnd are logged. The directory must be cached at `from`.
  void give(size_t from, size_t to, Ino root) {
    finish(rank(from).write_back_all());
    RankCore &giver = rank(from).core(), &taker = rank(to).core();
    const Dir* dir = giver.cache().find_dir(root);
    ASSERT_NE(dir, nullptr);
    bool recalled = false;
    giver.leases().recall_tree(*dir, [&] { recalled = true; });
    executor.run_until([&] { return recalled; });
    const Ino within = import_of(giver.state(), *dir);
    const Import& old = giver.state().imports.at(within);
    Import import;
    import.root = root;
    import.path = Cache::path_of(*dir);
    import.parent = dir->header.at.parent;
    import.moves = old.moves + 1;
    for (Ino above : way_up(giver.state(), *dir))
      if (above != root) import.above.push_back(above);
    Export exported{.root = root, .id = {id(from), giver.epoch(), ++gifts_}, .to = id(to)};
    exported.moves = import.moves;
    exported.bounds = bounds_below(giver.cache(), old, *dir);
    for (Ino bound : exported.bounds) import.bounds[bound] = old.bounds.at(bound);
    if (within != root) {
      exported.within = within;
      exported.parent = import.parent;
    }
    giver.cache().for_each_dir([&](const Dir& d) {
      if (!d.is_foreign() && Cache::is_below(&d, dir)) exported.dirs.push_back(d.ino());
    });
    import.from = exported.id;
    import.settled = false;
    const DirHeader header = dir->header;
    std::string in, out, end;
    ByteWriter i(in), o(out), e(end);
    encode_import(i, import, {header});
    encode_export(o, exported);
    encode_import_end(e, exported.id, true);
    taker.log_event(EventType::import, in);
    giver.log_event(EventType::export_, out);
    taker.log_event(EventType::import_end, end);
    finish(cache_root(taker, root));
    finish(sync(giver.journal()));
    finish(sync(taker.journal()));
  }

  TestExecutor executor;
  std::shared_ptr<MemoryDisk> disk = std::make_shared<MemoryDisk>();
  static constexpr SessionId kSession{77};

 private:
  struct Node final : Peers {
    Node(Ranks& r, RankId rank_id) : owner(r), id(rank_id) {}
    void send(RankId to, Message message) override { owner.post(id, to, std::move(message)); }
    bool alive(RankId r) const override {
      return r.v < owner.nodes_.size() && owner.nodes_[r.v]->rank;
    }
    RankId root_rank() const override {
      for (auto& node : owner.nodes_)
        if (node->rank && node->rank->state().is_root(kRootIno)) return node->id;
      return RankId{0};
    }
    std::vector<RankId> ranks() const override {
      std::vector<RankId> all;
      for (auto& node : owner.nodes_) all.push_back(node->id);
      return all;
    }
    bool lease_valid() const override { return owner.lease_valid_; }

    Ranks& owner;
    RankId id;
    uint64_t life = 0;  // messages to an earlier one are lost
    std::unique_ptr<MemoryStore> store;
    std::unique_ptr<Rank> rank;
  };

  void end(Node& node) {
    node.life++;
    node.rank.reset();
    node.store.reset();
    for (auto& other : nodes_)
      if (other->rank) other->rank->peer_down(node.id);
  }
  void hail(Node& from, Node& to) {
    post(from.id, to.id, Message{from.id, to.id, msg::Hail{from.rank->epoch()}});
  }
  void post(RankId from, RankId to, Message message) {
    if (to.v >= nodes_.size()) return;
    const uint64_t life = nodes_[to.v]->life;
    const uint64_t sender = nodes_[from.v]->life;
    if (cut_.contains(std::minmax<size_t>(from.v, to.v))) return;
    // As over a connection: what does not survive its encoding is not there.
    std::string bytes;
    encode_message(message, bytes);
    executor.post([this, from, to, life, sender, bytes = std::move(bytes)] {
      Node& node = *nodes_[to.v];
      // What was on its way when either side died is lost with the connection.
      if (!node.rank || node.life != life || nodes_[from.v]->life != sender) return;
      if (cut_.contains(std::minmax<size_t>(from.v, to.v))) return;
      Result<Message> message = decode_message(bytes, Sender::node_to_node);
      ASSERT_TRUE(message) << describe(message.error());
      delivered.push_back(*message);
      node.rank->receive(from, std::move(*message));
    });
  }
  static Task<void> keep(Task<Result<void>> task, std::optional<Result<void>>& result) {
    result = co_await task;
  }
  // Roots of imports are always cached; a real migration brings them along.
  static Task<Result<void>> cache_root(RankCore& core, Ino root) {
    CO_TRY_ASSIGN([[maybe_unused]] Place place, co_await core.find_dir(root));
    co_return Result<void>{};
  }
  static Task<Result<void>> sync(Journal& journal) { co_return co_await journal.sync(); }

  RankOptions options_;
  TestRandom random_;
  std::set<std::pair<size_t, size_t>> cut_;
  bool lease_valid_ = true;
  uint64_t seq_ = 0, gifts_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
};

}  // namespace graftfs
