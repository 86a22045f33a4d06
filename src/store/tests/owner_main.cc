// Another process on a volume, for tests: owns a rank's journal and does what it is told, a line
// each, until the end of its input. Answers "ok", or "error CODE".
//
//   own if_free|take [EPOCH]
//   create N | write N TEXT | sync N | remove N | commit INO TEXT | erase_data INO | fill INO

#include <iostream>
#include <sstream>

#include "base/fault.h"
#include "store/rados/rados_store.h"
#include "store/tests/store_test_util.h"

namespace graftfs {
namespace {

template <class T>
std::string answer(const Result<T>& result) {
  if (result) return "ok";
  std::cerr << describe(result.error()) << std::endl;
  return fmt::format("error {}", result.error().code);
}

class Owner {
 public:
  explicit Owner(const std::string& volume) {
    if (rados::is_rados(volume)) {
      open_on_cluster(volume);
      return;
    }
    LocalOptions options;
    options.journal.segment_capacity = 64 << 10;
    options.dirs_map_size = 1 << 26;
    auto opened = LocalStore::open(loop_, pool_, volume, options);
    if (opened)
      store_ = std::move(*opened);
    else
      std::cerr << describe(opened.error()) << std::endl;
  }

  void open_on_cluster(const std::string& name) {
    RadosOptions options;
    options.segment_capacity = 64 << 10;
    auto volume = RadosVolume::open(name, options);
    auto opened =
        volume ? RadosStore::on(loop_, pool_, *volume) : std::unexpected(std::move(volume).error());
    if (opened)
      store_ = std::move(*opened);
    else
      std::cerr << describe(opened.error()) << std::endl;
  }

  std::string obey(const std::string& line) {
    if (!store_) return "error 0";
    std::istringstream in(line);
    std::string verb, text;
    uint64_t number = 0;
    in >> verb;
    if (verb == "own") {
      OwnOptions options;
      in >> text;
      if (text == "take") options.mode = OwnMode::take;
      if (in >> number) options.from = Epoch{static_cast<uint32_t>(number)};
      auto owned = run(loop_, store_->own_journal(RankId{0}, options));
      if (owned) journal_ = *owned;
      return answer(owned);
    }
    in >> number >> text;
    SegmentId segment{number};
    Ino ino{number};
    if (verb == "create") return answer(run(loop_, journal_->create(segment)));
    if (verb == "write") return answer(run(loop_, journal_->write(segment, 0, text)));
    if (verb == "sync") return answer(run(loop_, journal_->sync(segment)));
    if (verb == "remove") return answer(run(loop_, journal_->remove(segment)));
    if (verb == "erase_data") return answer(run(loop_, store_->data().remove(ino)));
    if (verb == "fill") return answer(run(loop_, store_->data().write(ino, 0, "bytes", 0)));
    if (verb == "commit") {
      DirUpdate update;
      update.dir = ino;
      update.put.emplace_back("k", text);
      std::vector<DirUpdate> updates{update};
      return answer(run(loop_, store_->dirs().commit(updates)));
    }
    return "what?";
  }

 private:
  EventLoop loop_;
  BlockingPool pool_{"owner", 2};
  std::unique_ptr<Store> store_;
  JournalDevice* journal_ = nullptr;
};

}  // namespace
}  // namespace graftfs

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  graftfs::fault::arm_from_environment();
  graftfs::Owner owner(argv[1]);
  std::string line;
  while (std::getline(std::cin, line)) std::cout << owner.obey(line) << std::endl;
  return 0;
}
