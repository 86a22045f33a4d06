#pragma once
// A client of a Ceph cluster.

#include <rados/librados.hpp>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/blocking_pool.h"
#include "store/rados/session.h"

namespace graftfs::rados {

// One RADOS client: made by one thread, connect() blocks. Where the cluster does not answer, what
// is under way at the end is left to the process's end.
class LibradosSession final : public Session {
 public:
  // An error is a sentence that says whether it is ceph.conf, the monitors, the key or the pool.
  static Result<std::shared_ptr<LibradosSession>> connect(const VolumeName& name);
  ~LibradosSession() override;

  // From here on calls complete on `executor`; those that librados has only as blocking ones are
  // made on the pool. Both must outlive the session's use.
  void bind(Executor& executor, BlockingPool& pool) {
    executor_ = &executor;
    pool_ = &pool;
  }
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

  // Its calls block.
  librados::IoCtx& io() { return io_; }

 private:
  struct Call;
  explicit LibradosSession(VolumeName name) : Session(std::move(name)) {}
  void start_read(const std::string& object, ReadOp op, std::move_only_function<void(int)> finish,
                  std::shared_ptr<void> keep) override;
  librados::AioCompletion* begin(std::move_only_function<void(int)> finish,
                                 std::shared_ptr<void> keep, bool on_executor);
  static void complete(librados::completion_t, void* call);
  std::shared_ptr<LibradosSession> shared() {
    return std::static_pointer_cast<LibradosSession>(shared_from_this());
  }
  Result<std::vector<Ino>> list_inos_now(Ino (*ino_of)(std::string_view object));
  Result<StoreUsage> usage_now();

  librados::Rados cluster_;
  librados::IoCtx io_;
  bool connected_ = false;
  BlockingPool* pool_ = nullptr;
  std::vector<std::shared_ptr<void>> watches_;  // librados may call them until it ends
  std::mutex mutex_;                            // guards what follows
  std::condition_variable idle_;
  size_t in_flight_ = 0;
  bool closed_ = false;
};

}  // namespace graftfs::rados
