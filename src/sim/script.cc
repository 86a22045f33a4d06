// The fixed script. A client that died begins it again; then many answers are errors, which the
// oracle knows.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>

#include "sim/workload.h"

namespace graftfs::sim {
namespace {

Args set_size(Ino ino, uint64_t size) {
  SetattrArgs a;
  a.ino = ino;
  a.valid = kSetSize;
  a.size = size;
  return a;
}

Task<Ino> make_dir(SimClient& c, Ino dir, std::string name) {
  Args mkdir = MkdirArgs{dir, name, 0755, 022};
  Reply reply = co_await ask(c, mkdir);
  if (reply.err == EEXIST) {
    Args lookup = LookupArgs{dir, name};
    reply = co_await ask(c, lookup);
  }
  co_return reply.err ? kRootIno : reply.stat.ino;
}

Task<Ino> make_file(SimClient& c, Ino dir, std::string name, size_t bytes) {
  Args create = CreateArgs{dir, name, 0644, 022, false, O_RDWR};
  Reply reply = co_await ask(c, create);
  if (reply.err) co_return Ino{};
  Ino ino = reply.stat.ino;
  std::string content(bytes, name.back());
  WriteOptions plain;
  if (bytes > 0) co_await write_file(c, ino, 0, std::move(content), plain);
  co_return ino;
}

Task<void> do_all(SimClient& c, std::vector<Args> list) {
  for (Args& args : list) {
    Reply reply = co_await ask(c, args);
  }
}

Task<void> sync_all(SimClient& c) {
  Promised<int> done(c.executor);
  c.client->sync_all(Credentials{}, [done](Result<uint64_t>) { done.set(0); });
  co_await done;
}

Task<void> script_names(SimClient& c, Ino a, Ino b) {
  Ino f = co_await make_file(c, a, "f", 700);
  Ino g = co_await make_file(c, b, "g", 0);
  std::vector<Args> list1 = {LinkArgs{f, b, "f2"},
                             LinkArgs{f, a, "f3"},
                             LookupArgs{b, "f2"},
                             SymlinkArgs{a, "s", "../b/f2"},
                             LookupArgs{a, "s"},
                             MknodArgs{a, "fifo", S_IFIFO | 0600, 0, 0},
                             MknodArgs{a, "null", S_IFCHR | 0666, 0, 0x103}};
  co_await do_all(c, std::move(list1));
  std::vector<Args> list2 = {RenameArgs{a, "f", b, "f", 0},    RenameArgs{b, "f2", b, "f", 0},
                             RenameArgs{b, "g", a, "g", 1},    RenameArgs{a, "g", b, "f", 2},
                             RenameArgs{a, "s", a, "fifo", 0}, RenameArgs{a, "fifo", b, "t", 0}};
  co_await do_all(c, std::move(list2));
  Ino d = co_await make_dir(c, a, "d");
  Ino e = co_await make_dir(c, d, "e");
  Ino other = co_await make_dir(c, b, "other");
  std::vector<Args> list3 = {RenameArgs{a, "d", b, "other", 0},
                             RenameArgs{b, "other", b, "e", 0},
                             RenameArgs{b, "e", e, "loop", 0},
                             RmdirArgs{d, "e"},
                             RmdirArgs{b, "e"},
                             LookupParentArgs{other},
                             RenameArgs{kRootIno, "a", b, "a", 2},
                             UnlinkArgs{a, "f3"},
                             UnlinkArgs{b, "f"},
                             GetattrArgs{f}};
  co_await do_all(c, std::move(list3));
  co_await read_file(c, f, 0, 1000);
  if (g) co_await release(c, g);
}

Task<void> script_data(SimClient& c, Ino dir) {
  Ino f = co_await make_file(c, dir, "data", 1500);
  if (!f) co_return;
  std::string tail(900, 'T'), middle(600, 'M'), durable(300, 'D');
  WriteOptions append, synced, plain;
  append.append = true;
  synced.durable = true;
  co_await write_file(c, f, 0, std::move(tail), append);
  co_await write_file(c, f, 400, std::move(middle), plain);
  std::vector<Args> list4 = {set_size(f, 800), set_size(f, 3000)};
  co_await do_all(c, std::move(list4));
  co_await read_file(c, f, 0, 4000);
  co_await write_file(c, f, 2500, std::move(durable), synced);
  Promised<int> done(c.executor);
  auto finished = [done](Result<uint64_t>) { done.set(0); };
  c.client->allocate(Credentials{}, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 900,
                     finished);
  co_await done;
  Ino copy = co_await make_file(c, dir, "copy", 10);
  if (copy) {
    Promised<int> copied(c.executor);
    CopyRange range{f, 0, copy, 5, 1200};
    c.client->copy(Credentials{}, range, [copied](Result<uint64_t>) { copied.set(0); });
    co_await copied;
    co_await read_file(c, copy, 0, 2000);
    co_await release(c, copy);
  }
  Promised<int> seek(c.executor);
  c.client->seek(Credentials{}, f, 0, false, [seek](Result<uint64_t>) { seek.set(0); });
  co_await seek;
  // Unlinked, and still read and written.
  std::vector<Args> list5 = {UnlinkArgs{dir, "data"}, OpenArgs{f, O_RDWR}};
  co_await do_all(c, std::move(list5));
  std::string late(100, 'L');
  co_await write_file(c, f, 50, std::move(late), plain);
  co_await read_file(c, f, 0, 4000);
  while (c.holds.contains(f)) co_await release(c, f);
}

Task<void> script_attributes(SimClient& c, Ino dir) {
  Ino f = co_await make_file(c, dir, "attr", 10);
  if (!f) co_return;
  SetattrArgs mode, owner, times, now;
  mode.ino = owner.ino = times.ino = now.ino = f;
  mode.valid = kSetMode;
  mode.mode = 06755;
  owner.valid = kSetUid | kSetGid;
  owner.uid = owner.gid = 7;
  times.valid = kSetAtime | kSetMtime;
  times.atime = {100, 1};
  times.mtime = {200, 2};
  now.valid = kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow;
  std::string long_value(2000, 'x');
  std::vector<Args> list6 = {mode,
                             owner,
                             times,
                             SetxattrArgs{f, "user.a", "1", 0},
                             SetxattrArgs{f, "user.a", "2", 1},
                             SetxattrArgs{f, "user.b", long_value, 0},
                             SetxattrArgs{dir, "trusted.c", "3", 0},
                             GetxattrArgs{f, "user.b"},
                             ListxattrArgs{f},
                             RemovexattrArgs{f, "user.a"},
                             now,
                             AccessArgs{f, 4},
                             StatfsArgs{},
                             OpenArgs{f, O_RDONLY}};
  co_await do_all(c, std::move(list6));
  co_await read_file(c, f, 0, 10);
  while (c.holds.contains(f)) co_await release(c, f);
}

Task<void> script_listing(SimClient& c, Ino dir) {
  for (int i = 0; i < 30; ++i) {
    Args make = MknodArgs{dir, fmt::format("entry-{:02}", i), S_IFREG | 0600, 0, 0};
    Reply made = co_await ask(c, make);
  }
  uint64_t cookie = 0;
  for (int page = 0; page < 12; ++page) {
    Args list = ReaddirArgs{dir, cookie, 4, page % 2 == 0};
    Reply reply = co_await ask(c, list);
    if (reply.err || reply.entries.empty()) break;
    cookie = reply.entries.back().cookie;
    Args remove = UnlinkArgs{dir, reply.entries.front().name};
    Reply removed = co_await ask(c, remove);
    if (removed.err == 0 && removed.orphaned) co_await release(c, removed.stat.ino);
    if (reply.end) break;
  }
}

}  // namespace

Task<void> run_script(SimClient& c) {
  if (c.index > 0) {
    // Another client looks on.
    for (int i = 0; i < 40; ++i) {
      Args list = ReaddirArgs{kRootIno, 0, 3, true};
      Reply reply = co_await ask(c, list);
      co_await sleep_for(c.executor, 2 * kMillisecond);
    }
    co_return;
  }
  Ino a = co_await make_dir(c, kRootIno, "a");
  Ino b = co_await make_dir(c, kRootIno, "b");
  co_await script_names(c, a, b);
  co_await sync_all(c);
  co_await script_data(c, b);
  co_await script_attributes(c, b);
  Ino big = co_await make_dir(c, kRootIno, "big");
  co_await script_listing(c, big);
  co_await sync_all(c);
}

}  // namespace graftfs::sim
