// Applying events: any number of times, from whatever bytes.

#include "event_bench.h"
#include "events/migration.h"
#include "events/two_party.h"

namespace graftfs::testing {
namespace {

class Random64 {
 public:
  explicit Random64(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t below(uint64_t n) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % n;
  }

 private:
  uint64_t state_;
};

// A random history of one rank: its import, creates, changes, renames, unlinks, releases.
class History {
 public:
  History(uint64_t seed, TracePolicy policy, bool removes_dirs)
      : bench(policy), random_(seed), removes_dirs_(removes_dirs) {
    start();
  }

  void run(int events) {
    for (int i = 0; i < events; ++i) step();
  }

  EventBench bench;
  // The payload of each segment start, by the number of events before it.
  std::map<size_t, std::string> segment_starts;

 private:
  static constexpr Ino kOrphans = orphans_dir_ino(RankId{0});

  void start() {
    for (Ino ino : {kRootIno, kOrphans}) {
      DirHeader h;
      h.version = Version{1};
      h.inode.ino = ino;
      h.inode.mode = S_IFDIR | 0755;
      h.inode.nlink = 2;
      std::string payload;
      ByteWriter w(payload);
      encode_import(w, Import{ino, ino == kRootIno ? "/" : "~orphans", {}}, {h});
      bench.log_raw(EventType::import, payload);
    }
    std::string inos, session;
    ByteWriter w(inos), s(session);
    encode_ino_alloc(w, kFirstFreeIno, kFirstFreeIno + (1 << 20));
    bench.log_raw(EventType::ino_alloc, inos);
    encode_session(s, SessionId{9}, true);
    bench.log_raw(EventType::session, session);
    dirs_.push_back(kRootIno);
  }

  uint32_t touch(TreeEvent& e, Ino dir, bool full = false) {
    for (uint32_t i = 0; i < e.dirs.size(); ++i)
      if (e.dirs[i].header.inode.ino == dir) {
        e.dirs[i].full |= full;
        return i;
      }
    DirItem item{.dirty = true, .full = full, .header = bench.cache.find_dir(dir)->header};
    item.header.version = item.header.version.next();
    item.header.inode.mtime = item.header.inode.ctime = now();
    e.dirs.push_back(std::move(item));
    return static_cast<uint32_t>(e.dirs.size() - 1);
  }
  void put(TreeEvent& e, Ino dir, std::string name, EntryValue value) {
    uint32_t at = touch(e, dir);
    value.version = e.dirs[at].header.version;
    e.entries.push_back({.dirty = true, .dir = at, .name = std::move(name), .value = value});
  }
  Timespec now() { return {static_cast<int64_t>(1'700'000'000 + bench.lsn.v), 5}; }
  EntryValue new_file() {
    EntryValue v;
    v.kind = EntryKind::primary;
    v.ino = v.inode.ino = Ino{bench.state.inos.at(0).next};
    v.type = S_IFREG;
    v.inode.mode = S_IFREG | 0644;
    v.inode.nlink = 1;
    v.inode.mtime = v.inode.atime = v.inode.ctime = v.inode.btime = now();
    return v;
  }
  static EntryValue value_of(const Dentry& e) {
    return {e.kind, e.version, e.ino, e.type, e.inode};
  }

  Ino any_dir() { return dirs_[random_.below(dirs_.size())]; }
  // Some entry that is there, or null.
  Dentry* any_entry(Ino dir) {
    std::vector<Dentry*> found;
    for (auto& [hash, e] : bench.cache.find_dir(dir)->entries)
      if (e->kind == EntryKind::primary) found.push_back(e);
    return found.empty() ? nullptr : found[random_.below(found.size())];
  }

  void step() {
    if (bench.logged.size() % 40 == 0 && !segment_starts.contains(bench.logged.size())) {
      std::string& payload = segment_starts[bench.logged.size()];
      encode_segment_payload(nullptr, payload);
      bench.encoder.begin_segment(SegmentId{bench.logged.size()}, 1 << 16, payload);
    }
    TreeEvent e;
    e.session = SessionId{9};
    e.seq = ++seq_;
    e.oldest = seq_ > 3 ? seq_ - 3 : 1;
    Ino dir = any_dir();
    switch (random_.below(8)) {
      case 0:
        make_dir(e, dir);
        break;
      case 1:
        change_dir(e, dir);
        break;
      case 2:
        change_file(e, dir);
        break;
      case 3:
        rename(e, dir, any_dir());
        break;
      case 4:
        unlink(e, dir);
        break;
      case 5:
        release(e);
        break;
      default:
        e.type = EventType::link;
        put(e, dir, fmt::format("f{}", random_.below(30)), new_file());
    }
    if (!e.dirs.empty()) bench.log(e);
  }
  void make_dir(TreeEvent& e, Ino parent) {
    if (dirs_.size() > 12) return;
    e.type = EventType::link;
    EntryValue link;
    link.kind = EntryKind::dir_link;
    link.ino = Ino{bench.state.inos.at(0).next};
    link.type = S_IFDIR;
    std::string name = fmt::format("d{}", link.ino.v);
    put(e, parent, name, link);
    DirItem item{.dirty = true, .full = true, .header = {}};
    item.header.version = Version{1};
    item.header.at = {parent, name};
    item.header.inode.ino = link.ino;
    item.header.inode.mode = S_IFDIR | 0755;
    item.header.inode.nlink = 2;
    item.header.inode.mtime = item.header.inode.atime = now();
    e.dirs.push_back(item);
    dirs_.push_back(link.ino);
  }
  void change_dir(TreeEvent& e, Ino dir) {
    e.type = EventType::inode;
    uint32_t at = touch(e, dir, true);
    e.dirs[at].header.inode.mode = S_IFDIR | static_cast<uint32_t>(random_.below(0777));
  }
  void change_file(TreeEvent& e, Ino dir) {
    Dentry* d = any_entry(dir);
    if (!d) return;
    e.type = EventType::inode;
    EntryValue v = value_of(*d);
    v.inode.size = random_.below(1 << 20);
    v.inode.set_extra({.symlink = "", .xattrs = {{"user.n", std::to_string(seq_)}}});
    put(e, dir, d->name, v);
  }
  void rename(TreeEvent& e, Ino from, Ino to) {
    Dentry* d = any_entry(from);
    if (!d) return;
    std::string name = fmt::format("f{}", random_.below(30));
    if (from == to && name == d->name) return;
    e.type = EventType::rename;
    put(e, to, name, value_of(*d));
    put(e, from, d->name, EntryValue{});
  }
  void unlink(TreeEvent& e, Ino dir) {
    if (removes_dirs_ && dir != kRootIno && random_.below(3) == 0) {
      e.type = EventType::unlink;
      Dir* d = bench.cache.find_dir(dir);
      EntryValue link;
      link.kind = EntryKind::dir_link;
      link.ino = dir;
      link.type = S_IFDIR;
      put(e, kOrphans, hidden_name(dir), link);
      put(e, d->header.at.parent, d->header.at.name, EntryValue{});
      uint32_t at = touch(e, dir, true);
      e.dirs[at].header.inode.nlink = 0;
      e.dirs[at].header.at = {kOrphans, hidden_name(dir)};
      // Its children stay where they are: an event says nothing of them.
      for (Ino other : dirs_) {
        if (other == dir || !Cache::is_below(bench.cache.find_dir(other), d)) continue;
        e.clear();
        return;
      }
      std::erase(dirs_, dir);
      return;
    }
    Dentry* d = any_entry(dir);
    if (!d) return;
    e.type = EventType::unlink;
    EntryValue orphan = value_of(*d);
    orphan.inode.nlink = 0;
    put(e, dir, d->name, EntryValue{});
    put(e, kOrphans, hidden_name(orphan.inode.ino), orphan);
    e.result = orphan.inode.ino;
    e.result_flags = kResultOrphaned;
  }
  void release(TreeEvent& e) {
    e.session = {};
    e.seq = e.oldest = 0;
    std::vector<std::string> names;
    for (auto& [hash, d] : bench.cache.find_dir(kOrphans)->entries)
      if (d->kind != EntryKind::null) names.push_back(d->name);
    if (names.empty()) return;
    e.type = EventType::ino_release;
    for (size_t i = 0; i < names.size() && i < 5; ++i) put(e, kOrphans, names[i], EntryValue{});
  }

  Random64 random_;
  bool removes_dirs_;
  std::vector<Ino> dirs_;
  uint64_t seq_ = 0;
};

// Replays a history, with its segment starts, `times` over.
void replay_all(const History& h, ReplayContext& context, int times) {
  for (int round = 0; round < times; ++round) {
    for (size_t i = 0; i < h.bench.logged.size(); ++i) {
      auto start = h.segment_starts.find(i);
      if (start != h.segment_starts.end()) {
        ASSERT_TRUE(replay_segment_payload(context, false, false, Lsn{i + 1}, start->second));
      }
      ASSERT_TRUE(replay_one(context, Lsn{i + 1}, h.bench.logged[i])) << "event " << i + 1;
    }
  }
}

class Apply : public ::testing::TestWithParam<TracePolicy> {};
INSTANTIATE_TEST_SUITE_P(Traces, Apply, ::testing::Values(TracePolicy::full, TracePolicy::chunked),
                         [](const auto& info) {
                           return info.param == TracePolicy::full ? "Full" : "Chunked";
                         });

TEST_P(Apply, ReplayMakesWhatWasThereAndReplayingAgainChangesNothing) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    History h(seed, GetParam(), true);
    h.run(400);
    for (int times : {1, 2, 3}) {
      Cache cache;
      RankState state;
      ReplayContext context{cache, state, {}};
      replay_all(h, context, times);
      EXPECT_EQ(contents(cache), contents(h.bench.cache)) << "seed " << seed;
      EXPECT_EQ(state_bytes(state), state_bytes(h.bench.state)) << "seed " << seed;
    }
  }
}

TEST_P(Apply, EachEventTwiceIsOnce) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    History h(seed, GetParam(), true);
    h.run(300);
    Cache cache;
    RankState state;
    ReplayContext context{cache, state, {}};
    for (size_t i = 0; i < h.bench.logged.size(); ++i) {
      auto start = h.segment_starts.find(i);
      if (start != h.segment_starts.end()) {
        ASSERT_TRUE(replay_segment_payload(context, false, false, Lsn{i + 1}, start->second));
      }
      for (int k = 0; k < 2; ++k) ASSERT_TRUE(replay_one(context, Lsn{i + 1}, h.bench.logged[i]));
    }
    EXPECT_EQ(contents(cache), contents(h.bench.cache)) << "seed " << seed;
    EXPECT_EQ(state_bytes(state), state_bytes(h.bench.state)) << "seed " << seed;
  }
}

// With whole traces each event stands alone, so versions alone decide, not the order: whichever
// event comes first, the newest state of every item is left.
TEST(ApplyOrder, InAnyRotationTheNewestVersionsAreLeft) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    History h(seed, TracePolicy::full, false);
    h.run(120);
    const auto want = contents(h.bench.cache);
    const size_t n = h.bench.logged.size();
    for (size_t from = 0; from < n; ++from) {
      Cache cache;
      RankState state;
      ReplayContext context{cache, state, {}};
      for (size_t k = 0; k < n; ++k) {
        const size_t i = (from + k) % n;
        ASSERT_TRUE(replay_one(context, Lsn{i + 1}, h.bench.logged[i]));
      }
      ASSERT_EQ(contents(cache), want) << "seed " << seed << ", rotated by " << from;
    }
  }
}

// The note's question "is this data real, or was it exported later?": an Export takes back what
// the journal said before it, and nothing that it says after it.
TEST(ApplyExport, DropsWhatTheJournalSaidOfTheDirectoriesItLists) {
  EventBench bench(TracePolicy::full);
  const Ino root{0x100010};
  DirHeader h;
  h.version = Version{4};
  h.at = {kRootIno, "sub"};
  h.inode.ino = root;
  h.inode.mode = S_IFDIR | 0755;
  auto import = [&](uint64_t version) {
    h.version = Version{version};
    std::string payload;
    ByteWriter w(payload);
    encode_import(w, Import{root, "/sub", {}, 0, {{Ino{0x100020}, {}}}}, {h});
    bench.log_raw(EventType::import, payload);
  };
  auto change = [&](const char* name, uint64_t version) {
    TreeEvent e;
    e.type = EventType::link;
    e.dirs.push_back({.dirty = true, .full = false, .header = h});
    e.dirs[0].header.version = Version{version};
    EntryValue v;
    v.kind = EntryKind::remote_link;
    v.version = Version{version};
    v.ino = Ino{0x100030};
    v.type = S_IFREG;
    e.entries.push_back({.dirty = true, .dir = 0, .name = name, .value = v});
    bench.log(e);
  };
  import(4);
  change("exported", 5);
  EXPECT_TRUE(bench.state.imports.at(root).bounds.contains(Ino{0x100020}));
  std::string moved;
  ByteWriter m(moved);
  encode_import_path(m, root, "/elsewhere");
  bench.log_raw(EventType::import_path, moved);
  EXPECT_EQ(bench.state.imports.at(root).path, "/elsewhere");
  std::string exported;
  ByteWriter w(exported);
  encode_export(w, {root, {root}});
  bench.log_raw(EventType::export_, exported);
  EXPECT_TRUE(bench.state.imports.empty());
  EXPECT_EQ(bench.cache.find_dir(root), nullptr);
  EXPECT_EQ(bench.cache.dirty_count(), 0u);
  import(9);
  change("back", 10);
  ASSERT_NE(bench.cache.find_dir(root), nullptr);
  EXPECT_EQ(bench.cache.find_entry(*bench.cache.find_dir(root), "exported"), nullptr);
  EXPECT_NE(bench.cache.find_entry(*bench.cache.find_dir(root), "back"), nullptr);
}

TEST(ApplyInoRelease, DropsTheDirectoryThatWasPurged) {
  History h(3, TracePolicy::full, true);
  h.run(2000);
  size_t dirs = 0;
  h.bench.cache.for_each_dir([&](Dir& d) {
    ++dirs;
    EXPECT_TRUE(d.parent || d.header.at.parent == Ino{}) << "directory " << d.ino().v;
  });
  EXPECT_LE(dirs, 20u);
}

TEST(ApplySession, RemembersResultsUntilTheyWereReceived) {
  RankState state;
  state.sessions[SessionId{1}];
  TreeEvent e;
  e.session = SessionId{1};
  auto carried_out = [&](uint64_t seq, uint64_t oldest) {
    e.seq = seq;
    e.oldest = oldest;
    e.result = Ino{seq * 10};
    state.note_request(e);
  };
  const SessionState& s = state.sessions.at(SessionId{1});
  carried_out(3, 1);
  carried_out(5, 1);
  carried_out(4, 1);
  carried_out(4, 1);
  EXPECT_EQ(s.completed.size(), 3u);
  EXPECT_EQ(s.find(4)->result, Ino{40});
  EXPECT_EQ(s.find(2), nullptr);
  EXPECT_EQ(s.find(6), nullptr);
  carried_out(6, 5);
  EXPECT_EQ(s.find(4), nullptr);
  EXPECT_EQ(s.find(5)->result, Ino{50});
  EXPECT_EQ(s.completed.size(), 2u);
  e.session = SessionId{2};  // of a session that is closed: nobody will ask
  carried_out(1, 1);
  EXPECT_EQ(state.sessions.size(), 1u);
}

// -- bytes --------------------------------------------------------------------------------------

bool takes(const EventKind& kind, std::string_view payload) {
  Cache cache;
  RankState state;
  ReplayContext context{cache, state, {}};
  nlohmann::json out;
  bool shown = kind.describe(payload, out);
  bool taken = kind.replay(context, Lsn{1}, payload);
  EXPECT_TRUE(shown || !taken) << kind.name;
  return taken;
}

TEST(EventBytes, EveryCutAndEveryAdditionIsRefused) {
  History h(7, TracePolicy::full, true);
  h.run(150);
  std::map<EventType, int> seen;
  std::vector<Logged> events = h.bench.logged;
  std::string path, exported;
  ByteWriter p(path), x(exported);
  encode_import_path(p, Ino{0x100010}, "/a/b");
  encode_export(x, {Ino{0x100010}, {Ino{0x100010}, Ino{0x100011}}});
  events.push_back({EventType::import_path, path});
  events.push_back({EventType::export_, exported});
  const ProtocolId id{RankId{1}, Epoch{2}, 3};
  const PreparedOp prepared{SessionId{4}, {5, 6}, {msg::Intent{.dir = kRootIno, .name = "a"}}};
  const std::string tree = std::find_if(events.begin(), events.end(), [](const Logged& e) {
                             return e.type == EventType::link;
                           })->payload;
  Commit commit{.op = id};
  commit.participants[RankId{2}] = prepared.intents;
  commit.map.push_back({.kind = MapChange::import_remove, .root = Ino{0x100010}});
  auto add = [&](EventType type, auto encode) {
    Logged& logged = events.emplace_back();
    logged.type = type;
    ByteWriter w(logged.payload);
    encode(w);
  };
  add(EventType::prepare, [&](ByteWriter& w) { encode_prepare(w, id, prepared, {}); });
  add(EventType::commit, [&](ByteWriter& w) { encode_commit(w, commit, tree); });
  add(EventType::abort, [&](ByteWriter& w) { encode_abort(w, id); });
  add(EventType::close, [&](ByteWriter& w) { encode_close(w, id); });
  add(EventType::import_part, [&](ByteWriter& w) { encode_import_part(w, id, tree); });
  add(EventType::import_end, [&](ByteWriter& w) { encode_import_end(w, id, true); });
  add(EventType::export_end, [&](ByteWriter& w) { encode_export_end(w, id); });
  for (const Logged& event : events) {
    if (seen[event.type]++ > 5) continue;
    const EventKind& kind = *find_event(static_cast<uint8_t>(event.type));
    EXPECT_TRUE(takes(kind, event.payload)) << kind.name;
    for (size_t n = 0; n < event.payload.size(); ++n)
      EXPECT_FALSE(takes(kind, std::string_view(event.payload).substr(0, n)))
          << kind.name << " cut to " << n << " of " << event.payload.size();
    EXPECT_FALSE(takes(kind, event.payload + '\0')) << kind.name;
  }
  EXPECT_EQ(seen.size(), event_kinds().size());  // all of them
}

TEST(EventBytes, FlippedBytesNeverDoMoreThanBeRefusedOrTaken) {
  History h(8, TracePolicy::full, true);
  h.run(60);
  Random64 random(1);
  int refused = 0;
  for (const Logged& event : h.bench.logged) {
    const EventKind& kind = *find_event(static_cast<uint8_t>(event.type));
    for (int i = 0; i < 100; ++i) {
      std::string payload = event.payload;
      for (uint64_t k = 0; k <= random.below(3); ++k)
        payload[random.below(payload.size())] = static_cast<char>(random.below(256));
      refused += !takes(kind, payload);
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(EventBytes, ASegmentStartIsRefusedWhenItIsCut) {
  History h(9, TracePolicy::chunked, true);
  h.run(120);
  for (bool major : {true, false}) {
    std::string payload;
    encode_segment_payload(major ? &h.bench.state : nullptr, payload);
    h.bench.encoder.begin_segment(SegmentId{99999u + major}, 1 << 16, payload);
    auto takes_start = [&](std::string_view bytes) {
      Cache cache;
      RankState state;
      ReplayContext context{cache, state, {}};
      if (!replay_segment_payload(context, major, true, Lsn{1}, bytes)) return false;
      if (major && bytes == payload) {
        EXPECT_EQ(state_bytes(state), state_bytes(h.bench.state));
      }
      return true;
    };
    EXPECT_TRUE(takes_start(payload));
    for (size_t n = 0; n < payload.size(); ++n)
      EXPECT_FALSE(takes_start(std::string_view(payload).substr(0, n))) << n;
  }
}

// A checkpoint that is not the first one read is passed over: what was replayed is newer.
TEST(EventBytes, OnlyTheCheckpointThatReplayStartsFromIsUsed) {
  RankState old;
  old.imports[kRootIno] = {kRootIno, "/old", {}};
  std::string payload;
  encode_segment_payload(&old, payload);
  payload += '\0';  // no traces
  Cache cache;
  RankState state;
  state.imports[kRootIno] = {kRootIno, "/new", {}};
  ReplayContext context{cache, state, {}};
  EXPECT_TRUE(replay_segment_payload(context, true, false, Lsn{1}, payload));
  EXPECT_EQ(state.imports.at(kRootIno).path, "/new");
  EXPECT_TRUE(replay_segment_payload(context, true, true, Lsn{1}, payload));
  EXPECT_EQ(state.imports.at(kRootIno).path, "/old");
}

// -- traces -------------------------------------------------------------------------------------

TEST(Traces, ChunkedNamesADirectoryOnceASegmentAndFullNamesItEachTime) {
  for (TracePolicy policy : {TracePolicy::full, TracePolicy::chunked}) {
    EventBench bench(policy);
    DirHeader root, child;
    root.version = child.version = Version{1};
    root.inode.ino = kRootIno;
    child.inode.ino = Ino{0x100001};
    child.at = {kRootIno, "d"};
    root.inode.mode = child.inode.mode = S_IFDIR | 0755;
    bench.cache.apply_header(Lsn{1}, false, root);
    bench.cache.apply_header(Lsn{1}, false, child);
    auto named = [&] {
      TreeEvent e;
      e.type = EventType::inode;
      e.dirs.push_back(
          {.dirty = true, .full = false, .header = bench.cache.find_dir(Ino{0x100001})->header});
      e.dirs[0].header.version = e.dirs[0].header.version.next();
      bench.log(e);
      ByteReader r(bench.logged.back().payload);
      std::vector<Ino> out;
      EXPECT_TRUE(decode_traces(r, [&](const DirHeader& h) { out.push_back(h.inode.ino); }));
      return out;
    };
    const std::vector<Ino> both{kRootIno, Ino{0x100001}};  // ancestors first
    std::string start;
    bench.encoder.begin_segment(SegmentId{1}, 1 << 16, start);
    EXPECT_EQ(start, std::string(1, '\0'));
    EXPECT_EQ(named(), both);
    EXPECT_EQ(named(), policy == TracePolicy::full ? both : std::vector<Ino>{});
    // The next segment opens with what this one used.
    start.clear();
    bench.encoder.begin_segment(SegmentId{2}, 1 << 16, start);
    EXPECT_EQ(start[0], policy == TracePolicy::full ? 0 : 2);
    EXPECT_EQ(named(), policy == TracePolicy::full ? both : std::vector<Ino>{});
  }
}

}  // namespace
}  // namespace graftfs::testing
