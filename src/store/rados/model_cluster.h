#pragma once
// A cluster of objects in memory: what librados and OSDs promise, and no more than that
// (docs/simulator.md, "On RADOS"). RadosStore runs on it as on Ceph.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/rados/extents.h"
#include "store/rados/session.h"

namespace graftfs::rados {

struct ModelOptions {
  unsigned osds = 3;          // each with a map of its own
  Nanos latency = 0;          // at most, of an operation to its OSD, and of its answer
  uint32_t slow_percent = 0;  // of both, those that take up to `slow`
  Nanos slow = 0;
  bool slow_osds = false;  // and at each third OSD everything does
  Nanos late = 0;          // within which what a dead client had sent arrives, or never
  Nanos map_within = 0;    // an OSD that nobody tells of a new map hears of it within this
  uint64_t keys_in_answer = 1024;
  bool guards_alone = false;  // nobody is ever refused because it was shut out
};

// Who has clients. A machine that began anew is another one.
struct ModelProcess {
  std::string machine;
  int32_t pid = 0;
  friend auto operator<=>(const ModelProcess&, const ModelProcess&) = default;
};

class ModelSession;

// Owned by the test or the simulated world, shared with its sessions; one thread. On an executor of
// its own each operation takes its time to arrive and its answer to come back, and the seed decides
// how long; without one everything takes effect as it is sent. Operations of one client on one
// object take effect in the order in which they were sent, and once; all others in any order.
class ModelCluster : public std::enable_shared_from_this<ModelCluster> {
 public:
  struct Object {
    std::string bytes;
    Extents held;
    std::map<std::string, std::string> attributes, keys;
    std::string header;
    std::map<uint64_t, uint32_t> watchers;  // clients, and after how many seconds of silence each
                                            // is forgotten
  };

  // Has an empty volume in it, as RadosVolume::format() makes it.
  explicit ModelCluster(ModelOptions options) : ModelCluster(options, nullptr, nullptr) {}
  ModelCluster(ModelOptions options, Executor* executor, Random* random);

  std::shared_ptr<ModelSession> connect(Executor& executor, ModelProcess process);
  // The process dies. Of what it has sent, on each object a part arrives, now or later, in order.
  void kill(const ModelProcess& process);
  // An OSD dies and is back after `away`: what was sent to it and did not take effect is sent
  // again, by clients that live. `forgets`: it was away for so long that it knows no watchers.
  void restart_osd(unsigned osd, Nanos away, bool forgets);
  // What dead clients have on their way to objects of this prefix arrives now, or never; or all of
  // it arrives.
  void settle(std::string_view prefix, bool all = false);

  // What is there, without what is under way; where everything takes effect at once.
  std::shared_ptr<ModelCluster> clone() const;
  // The same, if all clients died now.
  std::shared_ptr<ModelCluster> what_if(Random& random) const;

  const ModelOptions& options() const { return options_; }
  const std::map<std::string, Object>& objects() const { return objects_; }
  // A value of the state, as RadosState keeps it; "": there is none.
  std::string state(const std::string& key) const;
  // How many operations of dead clients arrived, and how many of any were refused by a guard, or
  // because their client was shut out.
  struct Counts {
    uint64_t late = 0, guarded = 0, shut_out = 0;
    Counts& operator+=(const Counts& o) {
      late += o.late, guarded += o.guarded, shut_out += o.shut_out;
      return *this;
    }
  };
  const Counts& counts() const { return counts_; }

 private:
  friend class ModelSession;
  // A client, as the cluster knows it.
  struct Client {
    uint64_t id;
    ModelProcess process;
    Executor* executor;
    uint64_t map;  // the newest it has
    bool dead = false, closed = false;
    Nanos silent_since = 0;
    std::map<std::string, Nanos> answers;  // when the last one about an object comes
    std::map<std::string, std::shared_ptr<Watch>> watches;
    std::string address() const;
    bool gone() const { return dead || closed; }
  };
  struct Sent {
    std::shared_ptr<Client> from;
    uint64_t map;  // that the client had
    bool changes;  // else it only reads
    std::function<int(ModelCluster&)> carry_out;
    std::function<void(int)> answer;
  };
  using Way = std::pair<uint64_t, std::string>;  // of a client to an object
  struct Queue {
    std::deque<Sent> sent;
    uint64_t turn = 0;  // a timer of an older one does nothing
  };

  Nanos draw_delay(std::string_view object);
  Nanos draw_late(std::string_view object);
  Nanos now() const { return executor_ ? executor_->now() : 0; }
  unsigned osd_of(std::string_view object) const;
  void send(const std::string& object, Sent sent);
  void schedule(const Way& way, Nanos after);
  void arrive(const Way& way);
  int take_effect(const std::string& object, const Sent& sent);
  void answer(const std::string& object, const Sent& sent, int code, uint64_t map);
  void finish_what_was_sent(const Way& way);
  bool is_shut_out(uint64_t client, uint64_t map) const;
  void new_map(uint64_t shut_out);

  int check(const std::string& object, const WriteOp& op) const;
  int change(const std::string& object, const WriteOp& op);
  int read(const std::string& object, const ReadOp& op);
  std::vector<uint64_t> watchers(const std::string& object);

  const ModelOptions options_;
  Executor* executor_;
  Random* random_;
  std::map<std::string, Object> objects_;
  std::map<uint64_t, uint64_t> shut_out_;  // clients, and since which map
  uint64_t map_ = 1;
  struct Osd {
    uint64_t map = 1;
    Nanos back_at = 0;
  };
  std::vector<Osd> osds_;
  uint64_t last_client_ = 0, last_turn_ = 0;
  std::map<uint64_t, std::shared_ptr<Client>> clients_;
  std::set<ModelProcess> ended_;
  std::map<Way, Queue> queues_;
  Counts counts_;
};

// A client of it.
class ModelSession final : public Session {
 public:
  ModelSession(std::shared_ptr<ModelCluster> cluster, std::shared_ptr<ModelCluster::Client> client);
  bool close() override;
  Promised<int> write(const std::string& object, WriteOp op) override;
  Promised<Mapped> mapext(const std::string& object, uint64_t length) override;
  Promised<Result<std::vector<Ino>>> list_inos(Ino (*ino_of)(std::string_view object)) override;
  Promised<Result<StoreUsage>> usage() override;
  Promised<int> watch(const std::string& object, std::shared_ptr<Watch> watch,
                      uint32_t timeout_s) override;
  Promised<int> unwatch(Watch& watch) override;
  int write_now(const std::string& object, WriteOp op) override;
  int unwatch_now(Watch& watch) override;
  Promised<int> shut_out(std::string address) override;
  OwnerRecord me() override;
  bool has_ended_here(const OwnerRecord& owner) const override;

 private:
  using Client = ModelCluster::Client;
  void start_read(const std::string& object, ReadOp op, std::move_only_function<void(int)> finish,
                  std::shared_ptr<void> keep) override;
  void send(const std::string& object, bool changes, std::function<int(ModelCluster&)> carry_out,
            std::function<void(int)> answer);
  std::string watched(const Watch& watch) const;

  std::shared_ptr<ModelCluster> cluster_;
  std::shared_ptr<Client> client_;
};

}  // namespace graftfs::rados
