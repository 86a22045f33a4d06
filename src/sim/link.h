#pragma once
// What stands between a client and the rest of the world: a network to the rank, and an observer
// of the data it reads and writes.

#include <memory>
#include <string>

#include "sim/oracle.h"
#include "store/store.h"
#include "types/service.h"

namespace graftfs::sim {

class World;

// A connection that delays messages, keeps the order of what is sent, and breaks when the rank
// dies. What is sent while it is broken goes nowhere: the session sends it again.
class Link final : public MetadataService {
 public:
  Link(World& world, NodeExecutor& client) : world_(world), client_(client) {}
  void submit(Request request, ReplyFn done) override;
  void open_session(SessionId session) override;
  void close_session(SessionId session) override;

  void connect() { connected_ = true; }
  // Sends although the connection is not open for requests yet.
  void claim(Request request, ReplyFn done);
  void disconnect();
  bool connected() const { return connected_; }

 private:
  void send(Request request, ReplyFn done);
  Nanos next_due();

  World& world_;
  NodeExecutor& client_;
  bool connected_ = false;
  Nanos last_due_ = 0;
  std::shared_ptr<uint64_t> generation_ = std::make_shared<uint64_t>(0);
};

// Tells the oracle of every change of file data.
class SimData final : public DataStore {
 public:
  SimData(DataStore& inner, Oracle& oracle) : inner_(inner), oracle_(oracle) {}
  Task<Result<DataInfo>> write(Ino ino, uint64_t offset, std::string_view bytes,
                               uint64_t valid_size) override;
  Task<Result<void>> read(Ino ino, uint64_t offset, char* out, size_t length) override;
  Task<Result<DataInfo>> truncate(Ino ino, uint64_t size) override;
  Task<Result<DataInfo>> allocate(Ino ino, AllocateMode mode, uint64_t offset, uint64_t length,
                                  uint64_t valid_size) override;
  Task<Result<uint64_t>> seek(Ino ino, uint64_t offset, bool data, uint64_t size) override;
  Task<Result<DataInfo>> copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                              uint64_t length, uint64_t valid_size) override;
  Task<Result<void>> sync(Ino ino) override;
  Task<Result<void>> sync_all() override;
  bool has_unsynced() const override { return inner_.has_unsynced(); }
  void note_written(Ino ino) override { inner_.note_written(ino); }
  void forget(Ino ino) override { inner_.forget(ino); }
  Task<Result<void>> remove(Ino ino) override;
  Task<Result<std::vector<Ino>>> list(Ino from, size_t max) override;

  // Files with a change under way, for when the client dies.
  const std::multiset<Ino>& busy() const { return busy_; }

 private:
  DataStore& inner_;
  Oracle& oracle_;
  std::multiset<Ino> busy_;
};

}  // namespace graftfs::sim
