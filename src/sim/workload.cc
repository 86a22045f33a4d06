#include "sim/workload.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>

namespace graftfs::sim {
namespace {

constexpr uint64_t kLargestFile = 6000;

// One worker's random operations. Names and inodes collide: there are few of them.
class RandomWorker {
 public:
  RandomWorker(SimClient& client, uint64_t seed) : c_(client), r_(seed) {}

  Task<void> one();

 private:
  Ino any_ino();
  Ino any_dir();
  Ino own_file();
  std::string any_name();
  std::string some_bytes();
  Task<void> long_event();
  Task<void> names(uint64_t pick);
  Task<void> attributes(uint64_t pick);
  Task<void> data(uint64_t pick);
  Task<void> look(uint64_t pick);

  SimClient& c_;
  SimRandom r_;
};

const ModelNode* pick_node(const Model& model, SimRandom& r, bool (*fits)(const ModelNode&)) {
  std::vector<const ModelNode*> found;
  for (const auto& [ino, node] : model.nodes())
    if (fits(node)) found.push_back(&node);
  return found.empty() ? nullptr : found[r.below(found.size())];
}

Ino RandomWorker::any_ino() {
  if (r_.chance(2)) return Ino{kFirstFreeIno + r_.below(400)};  // perhaps one that is gone
  auto* n = pick_node(c_.world.oracle().model(), r_, [](const ModelNode&) { return true; });
  return n->stat.ino;
}

Ino RandomWorker::any_dir() {
  if (c_.world.config().deep && r_.chance(60)) {
    Ino newest = kRootIno;
    for (const auto& [ino, node] : c_.world.oracle().model().nodes())
      if (node.stat.is_dir() && node.stat.nlink > 0) newest = std::max(newest, ino);
    return newest;
  }
  if (r_.chance(35)) return kRootIno;
  if (r_.chance(3)) return any_ino();
  auto* n =
      pick_node(c_.world.oracle().model(), r_, [](const ModelNode& m) { return m.stat.is_dir(); });
  return n->stat.ino;
}

// A file whose data this client may change: sizes are only coherent within one client.
Ino RandomWorker::own_file() {
  std::vector<Ino> found;
  for (const auto& [ino, count] : c_.holds) {
    const ModelNode* n = c_.world.oracle().model().find(ino);
    if (n && n->stat.is_regular() &&
        ino.v % static_cast<uint64_t>(c_.world.config().clients) == static_cast<uint64_t>(c_.index))
      found.push_back(ino);
  }
  return found.empty() ? Ino{} : found[r_.below(found.size())];
}

std::string RandomWorker::any_name() {
  if (r_.chance(1)) return std::string(255, 'x');
  if (r_.chance(1)) return std::string(256, 'x');
  return fmt::format("n{}", r_.below(7));
}

std::string RandomWorker::some_bytes() {
  std::string bytes(1 + r_.below(r_.chance(20) ? 2500 : 300), '\0');
  for (char& b : bytes) b = static_cast<char>('a' + r_.below(26));
  return bytes;
}

Task<void> RandomWorker::one() {
  if (c_.world.config().bulky && r_.chance(40)) {
    co_await long_event();
    co_return;
  }
  uint64_t pick = r_.below(100);
  if (pick < 45) {
    co_await names(r_.below(100));
  } else if (pick < 58) {
    co_await attributes(r_.below(100));
  } else if (pick < 78) {
    co_await data(r_.below(100));
  } else {
    co_await look(r_.below(100));
  }
}

// An inode goes into every event that names it whole, so this makes others long, too.
Task<void> RandomWorker::long_event() {
  const char* names[] = {"user.a", "user.b", "trusted.c", "security.d"};
  std::string value(500 + r_.below(1000), 'l');
  Args args = SetxattrArgs{any_ino(), names[r_.below(4)], value, 0};
  Reply reply = co_await ask(c_, args);
}

Task<void> RandomWorker::names(uint64_t pick) {
  Ino dir = any_dir();
  std::string name = any_name();
  Args args;
  if (c_.world.config().deep && r_.chance(30)) pick = 25;  // mkdir
  if (pick < 25) {
    args = CreateArgs{dir, name, 0644, 022, r_.chance(30), O_RDWR};
  } else if (pick < 40) {
    args = MkdirArgs{dir, name, 0755, 022};
  } else if (pick < 45) {
    args = SymlinkArgs{dir, name, fmt::format("../{}", any_name())};
  } else if (pick < 50) {
    const uint32_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    args = MknodArgs{dir, name, types[r_.below(5)] | 0640, 0, 0x0103};
  } else if (pick < 60) {
    args = LinkArgs{any_ino(), dir, name};
  } else if (pick < 74) {
    args = UnlinkArgs{dir, name};
  } else if (pick < 80) {
    args = RmdirArgs{dir, name};
  } else {
    uint32_t flags = r_.chance(20) ? 1 : r_.chance(25) ? 2 : 0;
    args = RenameArgs{dir, name, r_.chance(40) ? dir : any_dir(), any_name(), flags};
  }
  Reply reply = co_await ask(c_, args);
}

Task<void> RandomWorker::attributes(uint64_t pick) {
  Ino ino = any_ino();
  Args args;
  if (pick < 50) {
    SetattrArgs a;
    a.ino = ino;
    switch (r_.below(4)) {
      case 0:
        a.valid = kSetMode;
        a.mode = 07777 & static_cast<uint32_t>(r_.next());
        break;
      case 1:
        a.valid = kSetUid | kSetGid;
        a.uid = static_cast<uint32_t>(r_.below(3));
        a.gid = static_cast<uint32_t>(r_.below(3));
        break;
      case 2:
        a.valid = kSetAtime | kSetMtime;
        a.atime = {static_cast<int64_t>(r_.below(1000)), 5};
        a.mtime = {static_cast<int64_t>(r_.below(1000)), 6};
        break;
      default:
        a.valid = kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow;
    }
    args = a;
  } else if (pick < 85) {
    const char* names[] = {"user.a", "user.b", "trusted.c", "security.d"};
    std::string value(r_.below(r_.chance(10) ? 3000 : 20), 'v');
    args = SetxattrArgs{ino, names[r_.below(4)], value, static_cast<uint32_t>(r_.below(3))};
  } else {
    args = RemovexattrArgs{ino, r_.chance(50) ? "user.a" : "trusted.c"};
  }
  Reply reply = co_await ask(c_, args);
}

Task<void> RandomWorker::data(uint64_t pick) {
  if (pick < 15) {
    Args args = OpenArgs{any_ino(), static_cast<uint32_t>(r_.chance(50) ? O_RDWR : O_RDONLY)};
    Reply reply = co_await ask(c_, args);
    co_return;
  }
  if (pick < 25 && !c_.holds.empty()) {
    auto it = c_.holds.begin();
    std::advance(it, r_.below(c_.holds.size()));
    co_await release(c_, it->first);
    co_return;
  }
  Ino ino = own_file();
  if (!ino) co_return;
  uint64_t offset = r_.below(kLargestFile);
  if (pick < 65) {
    WriteOptions options;
    options.append = r_.chance(25);
    options.durable = r_.chance(10);
    std::string bytes = some_bytes();
    co_await write_file(c_, ino, offset, std::move(bytes), options);
  } else if (pick < 75) {
    SetattrArgs a;
    a.ino = ino;
    a.valid = kSetSize;
    a.size = offset;
    Args args = a;
    Reply reply = co_await ask(c_, args);
  } else if (pick < 83) {
    const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         FALLOC_FL_ZERO_RANGE};
    Promised<int> done(c_.executor);
    c_.client->allocate(Credentials{}, ino, modes[r_.below(4)], offset, 1 + r_.below(2000),
                        [done](Result<uint64_t>) { done.set(0); });
    co_await done;
  } else if (pick < 88) {
    Ino to = own_file();
    Promised<int> done(c_.executor);
    CopyRange range{ino, r_.below(500), to, offset, r_.below(1500)};
    c_.client->copy(Credentials{}, range, [done](Result<uint64_t>) { done.set(0); });
    co_await done;
  } else {
    Promised<int> done(c_.executor);
    auto finished = [done](Result<uint64_t>) { done.set(0); };
    if (r_.chance(50))
      c_.client->sync(Credentials{}, ino, finished);
    else
      c_.client->sync_all(Credentials{}, finished);
    co_await done;
  }
}

Task<void> RandomWorker::look(uint64_t pick) {
  Args args;
  if (pick < 25) {
    args = LookupArgs{any_dir(), any_name()};
  } else if (pick < 40) {
    args = GetattrArgs{any_ino()};
  } else if (pick < 55) {
    args = ReaddirArgs{any_dir(), r_.chance(60) ? 0 : r_.next() >> 1,
                       static_cast<uint32_t>(1 + r_.below(8)), r_.chance(50)};
  } else if (pick < 62) {
    args = ReadlinkArgs{any_ino()};
  } else if (pick < 70) {
    args = GetxattrArgs{any_ino(), r_.chance(50) ? "user.a" : "trusted.c"};
  } else if (pick < 75) {
    args = ListxattrArgs{any_ino()};
  } else if (pick < 80) {
    args = LookupParentArgs{any_dir()};
  } else if (pick < 83) {
    args = AccessArgs{any_ino(), static_cast<uint32_t>(r_.below(8))};
  } else if (pick < 85) {
    args = StatfsArgs{};
  } else {
    if (c_.holds.empty()) co_return;
    auto it = c_.holds.begin();
    std::advance(it, r_.below(c_.holds.size()));
    co_await read_file(c_, it->first, r_.below(1000), kLargestFile);
    co_return;
  }
  Reply reply = co_await ask(c_, args);
}

Task<void> random_work(SimClient& c, int worker, uint64_t seed) {
  RandomWorker random(c, seed);
  while (c.world.take_operation()) co_await random.one();
  c.world.worker_done(c.index, worker);
}

Task<void> scripted_work(SimClient& c, int worker) {
  co_await run_script(c);
  c.world.worker_done(c.index, worker);
}

}  // namespace

void start_workers(SimClient& c) {
  for (int w = 0; w < c.world.config().workers; ++w) {
    if (c.world.worker_is_done(c.index, w)) continue;
    if (c.world.config().script_once && c.world.crashes() > 0) {
      c.world.worker_done(c.index, w);
      continue;
    }
    if (c.world.config().workload == Workload::scripted)
      c.tasks.spawn(scripted_work(c, w));
    else
      c.tasks.spawn(random_work(c, w, c.world.random().next()));
  }
}

Task<Reply> ask(SimClient& c, Args args) {
  Promised<Reply> answer(c.executor);
  bool opens = std::holds_alternative<CreateArgs>(args) || std::holds_alternative<OpenArgs>(args);
  c.client->call(Credentials{}, std::move(args),
                 [answer](Reply reply) { answer.set(std::move(reply)); });
  Reply reply = co_await answer;
  if (reply.err == 0 && (opens || reply.orphaned)) {
    Ino ino = reply.stat.ino;
    c.hold(ino);
    // What cannot be opened is let go at once, as a mount does.
    if (reply.orphaned && !reply.stat.is_regular() && !reply.stat.is_dir())
      co_await release(c, ino);
  }
  co_return reply;
}

Task<void> release(SimClient& c, Ino ino) {
  c.unhold(ino);
  ++c.releasing[ino];
  Args args = ReleaseArgs{ino, 1};
  Promised<Reply> answer(c.executor);
  c.client->call(Credentials{}, std::move(args),
                 [answer](Reply reply) { answer.set(std::move(reply)); });
  co_await answer;
  if (--c.releasing[ino] == 0) c.releasing.erase(ino);
}

Task<void> read_file(SimClient& c, Ino ino, uint64_t offset, uint64_t length) {
  std::string bytes(length, '\0');
  uint64_t began = c.world.queue().steps();
  Promised<Result<uint64_t>> done(c.executor);
  c.client->read(Credentials{}, ino, offset, bytes.data(), bytes.size(),
                 [done](Result<uint64_t> n) { done.set(std::move(n)); });
  Result<uint64_t> n = co_await done;
  if (!n) co_return;
  bytes.resize(*n);
  // Sizes are coherent within one client only (leases will change that); and the data of a file
  // that nobody holds may be on its way out.
  bool own =
      ino.v % static_cast<uint64_t>(c.world.config().clients) == static_cast<uint64_t>(c.index);
  if (!own && c.world.workers_left()) co_return;
  // From a failed sync until the rank has heard of it (and stops), what it dropped reads as before.
  if (c.world.sync_has_failed(ino)) co_return;
  if (c.holds.contains(ino) || !c.world.oracle().model().is_orphan(ino))
    c.world.oracle().data_read(ino, began, offset, bytes);
}

Task<int> write_file(SimClient& c, Ino ino, uint64_t offset, std::string bytes,
                     WriteOptions options) {
  Promised<int> done(c.executor);
  c.client->write(Credentials{}, ino, offset, bytes, options,
                  [done](Result<uint64_t> n) { done.set(n ? 0 : n.error().code); });
  int err = co_await done;
  co_return err;
}

Task<void> read_everything(SimClient& c) {
  std::vector<Ino> dirs = {kRootIno};
  while (!dirs.empty()) {
    Ino dir = dirs.back();
    dirs.pop_back();
    uint64_t cookie = 0;
    for (bool end = false; !end;) {
      Args list = ReaddirArgs{dir, cookie, 5, true};
      Reply page = co_await ask(c, list);
      if (page.err || page.entries.empty()) break;
      end = page.end;
      cookie = page.entries.back().cookie;
      for (const ListedEntry& e : page.entries) {
        Args lookup = LookupArgs{dir, e.name};
        Reply found = co_await ask(c, lookup);
        Args xattrs = ListxattrArgs{e.ino};
        Reply names = co_await ask(c, xattrs);
        if (e.type == S_IFDIR) dirs.push_back(e.ino);
        if (e.type == S_IFLNK) {
          Args read = ReadlinkArgs{e.ino};
          Reply target = co_await ask(c, read);
        }
        if (e.type == S_IFREG) co_await read_file(c, e.ino, 0, 2 * kLargestFile);
      }
    }
  }
}

}  // namespace graftfs::sim
