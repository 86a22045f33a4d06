// The contract of store.h, in memory, on this machine, and on the model of a cluster. (On a real
// one: tests/rados.)

#include "store/fence.h"
#include "store/rados/model_cluster.h"
#include "store/rados/rados_store.h"
#include "store/tests/other_process.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

constexpr RankId kRank{0};
constexpr uint64_t kCapacity = 64 << 10;

struct MemoryBackend {
  static constexpr bool kBuffersData = true;
  std::shared_ptr<MemoryDisk> disk =
      std::make_shared<MemoryDisk>(MemoryDiskOptions{.segment_capacity = kCapacity});
  std::unique_ptr<Store> open(EventLoop& loop, BlockingPool&) {
    return std::make_unique<MemoryStore>(loop, disk, nullptr);
  }
  // Another process takes rank 0, and stays while `fn` runs.
  void take(RankId rank, const std::function<void()>& fn) {
    EventLoop loop;
    MemoryStore other(loop, disk, nullptr);
    EXPECT_CODE(graftfs::run(loop, other.own_journal(rank)), EBUSY);
    OwnOptions options;
    options.mode = OwnMode::take;
    ASSERT_OK(graftfs::run(loop, other.own_journal(rank, options)));
    fn();
  }
};

struct LocalBackend {
  static constexpr bool kBuffersData = true;
  TempDir dir;
  LocalBackend() { EXPECT_OK(LocalStore::format(dir.path)); }
  void take(RankId, const std::function<void()>& fn) {
    OtherProcess other(dir.path);
    ASSERT_EQ(other.ask("own if_free"), fmt::format("error {}", EBUSY));
    ASSERT_EQ(other.ask("own take"), "ok");
    fn();
  }
  std::unique_ptr<Store> open(EventLoop& loop, BlockingPool& pool) {
    LocalOptions options;
    options.journal.segment_capacity = kCapacity;
    options.data.max_open_files = 4;
    options.data.inline_write_bytes = 4096;
    options.dirs_map_size = 1 << 26;
    auto store = LocalStore::open(loop, pool, dir.path, options);
    EXPECT_TRUE(store.has_value()) << describe(store.error());
    return std::move(*store);
  }
};

// Few keys in an answer, so that every listing goes on.
struct ModelBackend {
  static constexpr bool kBuffersData = false;
  std::shared_ptr<rados::ModelCluster> cluster =
      std::make_shared<rados::ModelCluster>(rados::ModelOptions{.keys_in_answer = 3});
  int32_t processes = 0;
  std::unique_ptr<RadosStore> open(EventLoop& loop, const std::string& machine) {
    RadosOptions options;
    options.segment_capacity = kCapacity;
    options.big_directory = 300;
    return std::make_unique<RadosStore>(loop, cluster->connect(loop, {machine, ++processes}),
                                        options);
  }
  std::unique_ptr<Store> open(EventLoop& loop, BlockingPool&) { return open(loop, "here"); }
  void take(RankId rank, const std::function<void()>& fn) {
    EventLoop loop;
    auto other = open(loop, "elsewhere");
    EXPECT_CODE(graftfs::run(loop, other->own_journal(rank)), EBUSY);
    OwnOptions options;
    options.mode = OwnMode::take;
    ASSERT_OK(graftfs::run(loop, other->own_journal(rank, options)));
    fn();
  }
};

using Backends = ::testing::Types<MemoryBackend, LocalBackend, ModelBackend>;

}  // namespace
}  // namespace graftfs

#include "store/tests/contract.h"
