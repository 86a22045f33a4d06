// The frozen bytes of entries, directory headers, events and segment starts, which every later
// version must read: tests/formats/events-v1.txt, a line each: name, bytes in hex.
//
// GRAFTFS_WRITE_FORMATS=1 events_test --gtest_filter='Frozen.*' writes them anew; that is for a new
// format only, under a new name.

#include <cstdlib>
#include <fstream>
#include <functional>

#include "event_bench.h"
#include "events/migration.h"
#include "events/two_party.h"
#include "journal/format.h"

namespace graftfs::testing {
namespace {

const std::string kFrozen = std::string(GRAFTFS_FORMATS_DIR) + "/events-v1.txt";

// Numbers that are on disk.
static_assert(kFirstHash == 16);
static_assert(kRootIno.v == 1 && kHiddenInoBase == 0x1000 && kFirstFreeIno == 0x100000);
static_assert(linked_dir_ino(RankId{3}).v == 0x1006 && orphans_dir_ino(RankId{3}).v == 0x1007);
static_assert(static_cast<int>(EntryKind::null) == 0 && static_cast<int>(EntryKind::primary) == 1);
static_assert(static_cast<int>(EntryKind::dir_link) == 2 &&
              static_cast<int>(EntryKind::remote_link) == 3);
static_assert(
    static_cast<int>(EventType::import_path) == 16 && static_cast<int>(EventType::import) == 17 &&
    static_cast<int>(EventType::export_) == 18 && static_cast<int>(EventType::ino_alloc) == 19 &&
    static_cast<int>(EventType::ino_release) == 20 && static_cast<int>(EventType::inode) == 21 &&
    static_cast<int>(EventType::link) == 22 && static_cast<int>(EventType::unlink) == 23 &&
    static_cast<int>(EventType::rename) == 24 && static_cast<int>(EventType::session) == 25 &&
    static_cast<int>(EventType::prepare) == 26 && static_cast<int>(EventType::commit) == 27 &&
    static_cast<int>(EventType::abort) == 28 && static_cast<int>(EventType::close) == 29 &&
    static_cast<int>(EventType::import_part) == 30 &&
    static_cast<int>(EventType::import_end) == 31 && static_cast<int>(EventType::export_end) == 32);
static_assert(static_cast<int>(msg::IntentKind::token) == 0 &&
              static_cast<int>(msg::IntentKind::hang) == 6);
static_assert(kResultCreated == 1 && kResultOrphaned == 2);
static_assert(static_cast<int>(journal::kFirstPayloadType) == 16);

constexpr Ino kDir{0x100001}, kFile{0x100002};

Inode plain_inode() {
  Inode i;
  i.ino = kFile;
  i.mode = S_IFREG | 0644;
  i.nlink = 1;
  i.mtime = i.atime = i.ctime = i.btime = {1'700'000'000, 123'456'789};
  return i;
}

Inode full_inode() {
  Inode i;
  i.ino = kFile;
  i.mode = S_IFLNK | 0777;
  i.uid = 1000;
  i.gid = 100;
  i.nlink = 2;
  i.size = 1ull << 40;
  i.blocks = 8;
  i.rdev = 0x801;
  i.atime = {1, 2};
  i.mtime = {-5, 999'999'999};
  i.ctime = {1'700'000'001, 0};
  i.btime = {0, 1};
  i.set_extra({.symlink = "target", .xattrs = {{"user.a", "b"}, {"user.empty", ""}}});
  return i;
}

DirHeader header(Ino ino, uint64_t version) {
  DirHeader h;
  h.version = Version{version};
  if (ino != kRootIno) h.at = {kRootIno, "dir"};
  h.inode = plain_inode();
  h.inode.ino = ino;
  h.inode.mode = S_IFDIR | 0755;
  h.inode.nlink = 3;
  h.inode.size = 7;
  return h;
}

EntryValue value(EntryKind kind, Inode inode = {}) {
  EntryValue v;
  v.kind = kind;
  v.version = Version{300};
  if (kind == EntryKind::primary) {
    v.ino = inode.ino;
    v.type = inode.mode & S_IFMT;
    v.inode = std::move(inode);
  } else if (kind != EntryKind::null) {
    v.ino = kDir;
    v.type = kind == EntryKind::dir_link ? S_IFDIR : S_IFREG;
  }
  return v;
}

void expect_equal(const EntryValue& a, const EntryValue& b, const std::string& what) {
  EXPECT_EQ(a.kind, b.kind) << what;
  EXPECT_EQ(a.version, b.version) << what;
  EXPECT_EQ(a.ino, b.ino) << what;
  EXPECT_EQ(a.type, b.type) << what;
  EXPECT_EQ(a.inode, b.inode) << what;
}

void expect_equal(const DirHeader& a, const DirHeader& b, const std::string& what) {
  EXPECT_EQ(a.version, b.version) << what;
  EXPECT_EQ(a.at, b.at) << what;
  EXPECT_EQ(a.inode, b.inode) << what;
}

TreeEvent tree_event(EventType type) {
  TreeEvent e;
  e.type = type;
  e.session = SessionId{0xfedcba9876543210};
  e.seq = 1000;
  e.oldest = 990;
  e.result = kFile;
  e.result_flags = kResultCreated | kResultOrphaned;
  DirItem touch{.dirty = true, .full = false, .header = header(kDir, 300)};
  touch.header.inode.ctime = {1'700'000'002, 3};
  e.dirs.push_back(touch);
  e.dirs.push_back({.dirty = true, .full = true, .header = header(Ino{0x100009}, 1)});
  e.dirs.push_back({.dirty = false, .full = false, .header = header(kRootIno, 12)});
  e.entries.push_back({true, 0, "new", value(EntryKind::primary, full_inode())});
  e.entries.push_back({true, 0, "old", value(EntryKind::null)});
  e.entries.push_back({true, 1, "child", value(EntryKind::dir_link)});
  e.entries.push_back({false, 1, "second name", value(EntryKind::remote_link)});
  return e;
}

std::string tree_payload(EventType type) {
  std::string out;
  ByteWriter w(out);
  w.varint(2);
  encode_header_body(w, header(kRootIno, 11));
  encode_header_body(w, header(kDir, 299));
  encode_tree_event(w, tree_event(type));
  return out;
}

void check_tree(EventType type, std::string_view bytes) {
  const std::string what = fmt::format("event type {}", static_cast<int>(type));
  ByteReader r(bytes);
  std::vector<DirHeader> traces;
  ASSERT_TRUE(decode_traces(r, [&](const DirHeader& h) { traces.push_back(h); })) << what;
  ASSERT_EQ(traces.size(), 2u) << what;
  expect_equal(traces[0], header(kRootIno, 11), what);
  expect_equal(traces[1], header(kDir, 299), what);
  TreeEvent got;
  got.type = type;
  ASSERT_TRUE(decode_tree_event(r, got)) << what;
  const TreeEvent want = tree_event(type);
  EXPECT_EQ(got.session, want.session) << what;
  EXPECT_EQ(got.seq, want.seq) << what;
  EXPECT_EQ(got.oldest, want.oldest) << what;
  EXPECT_EQ(got.result, want.result) << what;
  EXPECT_EQ(got.result_flags, want.result_flags) << what;
  ASSERT_EQ(got.dirs.size(), want.dirs.size()) << what;
  for (size_t i = 0; i < want.dirs.size(); ++i) {
    const DirItem &a = got.dirs[i], &b = want.dirs[i];
    EXPECT_EQ(a.dirty, b.dirty) << what;
    EXPECT_EQ(a.full, b.full) << what;
    if (b.full) {
      expect_equal(a.header, b.header, what);
      continue;
    }
    EXPECT_EQ(a.header.version, b.header.version) << what;
    EXPECT_EQ(a.header.inode.ino, b.header.inode.ino) << what;
    EXPECT_EQ(a.header.inode.mtime, b.header.inode.mtime) << what;
    EXPECT_EQ(a.header.inode.ctime, b.header.inode.ctime) << what;
    EXPECT_EQ(a.header.inode.nlink, b.header.inode.nlink) << what;
    EXPECT_EQ(a.header.inode.size, b.header.inode.size) << what;
  }
  ASSERT_EQ(got.entries.size(), want.entries.size()) << what;
  for (size_t i = 0; i < want.entries.size(); ++i) {
    EXPECT_EQ(got.entries[i].dirty, want.entries[i].dirty) << what;
    EXPECT_EQ(got.entries[i].dir, want.entries[i].dir) << what;
    EXPECT_EQ(got.entries[i].name, want.entries[i].name) << what;
    expect_equal(got.entries[i].value, want.entries[i].value, what);
  }
}

Import import_of_one_rank(Ino root, std::string path) {
  Import import;
  import.root = root;
  import.path = std::move(path);
  return import;
}

const ProtocolId kId{RankId{2}, Epoch{3}, 1000};

Import nested_import() {
  Import import = import_of_one_rank(kDir, "/a/dir");
  import.parent = Ino{0x100005};
  import.moves = 7;
  import.bounds[Ino{0x100010}] = {Ino{0x100009}, RankId{300}, 2};
  import.from = kId;
  import.settled = false;
  import.above = {Ino{0x100005}, kRootIno};
  return import;
}

std::vector<msg::Intent> example_intents() {
  msg::Intent take{.kind = msg::IntentKind::take_name, .ino = kFile, .dir = kDir, .name = "old"};
  msg::Intent swap{.kind = msg::IntentKind::swap_name, .dir = kDir, .name = "name"};
  swap.value = value(EntryKind::primary, full_inode());
  swap.as_dir = true;
  return {take, swap};
}

// With all that several ranks need.
RankState state_of_many() {
  RankState s;
  s.imports[kDir] = nested_import();
  s.forwards[Ino{0x100077}] = {RankId{4}, 9, kId};
  s.prepared[kId] = {SessionId{77}, {1'700'000'000, 5}, example_intents()};
  s.committed[{RankId{1}, Epoch{2}, 3}].participants[RankId{5}] = example_intents();
  return s;
}

RankState example_state() {
  RankState s;
  s.imports[kRootIno] = import_of_one_rank(kRootIno, "/");
  s.imports[kRootIno].bounds = {{Ino{0x100010}, {}}, {Ino{0x100020}, {}}};
  s.imports[Ino{0x1000}] = import_of_one_rank(Ino{0x1000}, "~linked");
  s.inos.push_back({0x100003, 0x200000});
  SessionState& session = s.sessions[SessionId{77}];
  session.oldest = 5;
  session.completed.push_back({5, kFile, kResultCreated});
  session.completed.push_back({9, Ino{}, 0});
  return s;
}

// An example: how it is made now, and what a reader must find in it.
struct Example {
  std::string name;
  std::string bytes;
  std::function<void(std::string_view)> check;
};

template <class F>
std::string payload(F&& encode) {
  std::string out;
  ByteWriter w(out);
  encode(w);
  return out;
}

bool replay_raw(EventType type, std::string_view bytes, Cache& cache, RankState& state) {
  ReplayContext context{cache, state, {}};
  return find_event(static_cast<uint8_t>(type))->replay(context, Lsn{1}, bytes);
}

void add_values(std::vector<Example>& out) {
  auto add = [&](std::string name, EntryValue v) {
    std::string key = entry_key("name");
    out.push_back({"entry." + name, encode_entry_value(kDir, key, v), [=](std::string_view bytes) {
                     auto got = decode_entry_value(kDir, key, bytes);
                     ASSERT_TRUE(got.has_value()) << name;
                     expect_equal(*got, v, name);
                   }});
  };
  add("plain", value(EntryKind::primary, plain_inode()));
  add("full", value(EntryKind::primary, full_inode()));
  add("dir_link", value(EntryKind::dir_link));
  add("remote_link", value(EntryKind::remote_link));
  out.push_back({"header", encode_dir_header(kDir, header(kDir, 300)), [](std::string_view bytes) {
                   auto got = decode_dir_header(kDir, bytes);
                   ASSERT_TRUE(got.has_value());
                   expect_equal(*got, header(kDir, 300), "header");
                 }});
}

void add_raw_events(std::vector<Example>& out) {
  Import import = import_of_one_rank(kDir, "/a/dir");
  import.bounds = {{Ino{0x100010}, {}}, {Ino{0x100020}, {}}};
  out.push_back({"event.import_path",
                 payload([](ByteWriter& w) { encode_import_path(w, kDir, "/b/dir"); }),
                 [import](std::string_view bytes) {
                   Cache cache;
                   RankState state;
                   state.imports[kDir] = import;
                   ASSERT_TRUE(replay_raw(EventType::import_path, bytes, cache, state));
                   EXPECT_EQ(state.imports.at(kDir).path, "/b/dir");
                 }});
  out.push_back({"event.import",
                 payload([&](ByteWriter& w) { encode_import(w, import, {header(kDir, 4)}); }),
                 [import](std::string_view bytes) {
                   Cache cache;
                   RankState state;
                   ASSERT_TRUE(replay_raw(EventType::import, bytes, cache, state));
                   ASSERT_TRUE(state.is_root(kDir));
                   EXPECT_EQ(state.imports.at(kDir).path, import.path);
                   EXPECT_EQ(state.imports.at(kDir).bounds, import.bounds);
                   ASSERT_NE(cache.find_dir(kDir), nullptr);
                   expect_equal(cache.find_dir(kDir)->header, header(kDir, 4), "import");
                 }});
  out.push_back({"event.export",
                 payload([](ByteWriter& w) { encode_export(w, {kDir, {kDir, Ino{0x100009}}}); }),
                 [import](std::string_view bytes) {
                   Cache cache;
                   RankState state;
                   state.imports[kDir] = import;
                   cache.apply_header(Lsn{1}, true, header(kDir, 4));
                   cache.apply_header(Lsn{1}, true, header(Ino{0x100009}, 4));
                   ASSERT_TRUE(replay_raw(EventType::export_, bytes, cache, state));
                   EXPECT_TRUE(state.imports.empty());
                   EXPECT_EQ(cache.usage().dirs, 0u);
                 }});
  out.push_back({"event.ino_alloc",
                 payload([](ByteWriter& w) { encode_ino_alloc(w, 0x200000, 0x300000); }),
                 [](std::string_view bytes) {
                   Cache cache;
                   RankState state;
                   ASSERT_TRUE(replay_raw(EventType::ino_alloc, bytes, cache, state));
                   ASSERT_EQ(state.inos.size(), 1u);
                   EXPECT_EQ(state.inos[0].next, 0x200000u);
                   EXPECT_EQ(state.inos[0].end, 0x300000u);
                 }});
  for (bool open : {true, false})
    out.push_back({open ? "event.session.open" : "event.session.close",
                   payload([&](ByteWriter& w) { encode_session(w, SessionId{77}, open); }),
                   [open](std::string_view bytes) {
                     Cache cache;
                     RankState state;
                     if (!open) state.sessions[SessionId{77}];
                     ASSERT_TRUE(replay_raw(EventType::session, bytes, cache, state));
                     EXPECT_EQ(state.sessions.contains(SessionId{77}), open);
                   }});
}

// Of an event: replayed on a state (behind the payload of an ImportPart, where there is one), what
// is there then.
void add_many(std::vector<Example>& out, const char* name, EventType type, std::string bytes,
              RankState before, std::function<void(const RankState&, Cache&)> check,
              std::string part = "") {
  out.push_back({fmt::format("event.{}", name), std::move(bytes),
                 [=, before = std::move(before)](std::string_view b) {
                   Cache cache;
                   RankState state = before;
                   ASSERT_TRUE(part.empty() ||
                               replay_raw(EventType::import_part, part, cache, state));
                   ASSERT_TRUE(replay_raw(type, b, cache, state)) << name;
                   check(state, cache);
                 }});
}

void add_events_of_many(std::vector<Example>& out) {
  add_many(out, "import.nested", EventType::import,
           payload([](ByteWriter& w) { encode_import(w, nested_import(), {}); }), {},
           [](const RankState& s, Cache&) { EXPECT_EQ(s.imports.at(kDir), nested_import()); });
  RankState whole;
  whole.imports[kRootIno] = import_of_one_rank(kRootIno, "/");
  whole.imports[kRootIno].bounds[Ino{0x100010}] = {kDir, RankId{1}, 1};
  const Export exported{kDir, {kDir}, kId, RankId{4}, 8, kRootIno, kRootIno, {Ino{0x100010}}};
  add_many(out, "export.nested", EventType::export_,
           payload([&](ByteWriter& w) { encode_export(w, exported); }), whole,
           [](const RankState& s, Cache&) {
             EXPECT_EQ(s.forwards.at(kDir), (Forward{RankId{4}, 8, kId}));
             const auto& bounds = s.imports.at(kRootIno).bounds;
             ASSERT_EQ(bounds.size(), 1u);
             EXPECT_EQ(bounds.at(kDir), (Bound{kRootIno, RankId{4}, 8}));
           });
  std::string part =
      payload([](ByteWriter& w) { encode_import_part(w, kId, tree_payload(EventType::inode)); });
  add_many(out, "import_part", EventType::import_part, part, {},
           [](const RankState& s, Cache& cache) {
             const Staged& staged = s.staged.at(kId);
             EXPECT_TRUE(staged.first && staged.first == staged.last);
             EXPECT_GT(staged.cache->dirty_count(), 0u);
             EXPECT_EQ(cache.usage().dirs, 0u) << "nobody may see it yet";
           });
  RankState importing;
  importing.imports[kRootIno] = import_of_one_rank(kRootIno, "/");
  importing.imports[kRootIno].bounds[kDir] = {kRootIno, RankId{2}, 6};
  importing.imports[kDir] = nested_import();
  add_many(
      out, "import_end", EventType::import_end,
      payload([](ByteWriter& w) { encode_import_end(w, kId, true); }), importing,
      [](const RankState& s, Cache& cache) {
        EXPECT_TRUE(s.staged.empty());
        ASSERT_EQ(s.imports.size(), 1u) << "it is a part of the one around it";
        EXPECT_EQ(s.imports.at(kRootIno).bounds, nested_import().bounds);
        EXPECT_GT(cache.dirty_count(), 0u);
      },
      part);
  add_many(
      out, "import_end.dropped", EventType::import_end,
      payload([](ByteWriter& w) { encode_import_end(w, kId, false); }), importing,
      [](const RankState& s, Cache& cache) {
        EXPECT_TRUE(s.staged.empty());
        EXPECT_FALSE(s.is_root(kDir));
        EXPECT_TRUE(s.imports.at(kRootIno).bounds.contains(kDir));
        EXPECT_EQ(cache.usage().dirs, 0u);
      },
      part);
  add_many(out, "export_end", EventType::export_end,
           payload([](ByteWriter& w) { encode_export_end(w, kId); }), state_of_many(),
           [](const RankState& s, Cache&) { EXPECT_TRUE(s.forwards.empty()); });
  const RankState many = state_of_many();
  add_many(out, "prepare", EventType::prepare, payload([&](ByteWriter& w) {
             encode_prepare(w, kId, many.prepared.at(kId), {header(kDir, 300)});
           }),
           {}, [many](const RankState& s, Cache& cache) {
             EXPECT_EQ(s.prepared.at(kId), many.prepared.at(kId));
             EXPECT_NE(cache.find_dir(kDir), nullptr);
           });
  Commit commit{.op = kId};
  commit.participants[RankId{5}] = example_intents();
  commit.map.push_back({.kind = MapChange::bound_add,
                        .root = Ino{0x100040},
                        .within = kDir,
                        .bound = {kDir, RankId{6}, 1}});
  commit.map.push_back({.kind = MapChange::bound_remove, .root = Ino{0x100010}, .within = kDir});
  add_many(out, "commit", EventType::commit, payload([&](ByteWriter& w) {
             encode_commit(w, commit, tree_payload(EventType::commit));
           }),
           many, [](const RankState& s, Cache& cache) {
             EXPECT_TRUE(s.prepared.empty());
             EXPECT_EQ(s.committed.at(kId).participants.at(RankId{5}), example_intents());
             const std::map<Ino, Bound> bounds{{Ino{0x100040}, {kDir, RankId{6}, 1}}};
             EXPECT_EQ(s.imports.at(kDir).bounds, bounds);
             EXPECT_GT(cache.dirty_count(), 0u);
           });
  add_many(out, "abort", EventType::abort, payload([](ByteWriter& w) { encode_abort(w, kId); }),
           many, [](const RankState& s, Cache&) { EXPECT_TRUE(s.prepared.empty()); });
  RankState committed;
  committed.committed[kId].participants[RankId{5}];
  add_many(out, "close", EventType::close, payload([](ByteWriter& w) { encode_close(w, kId); }),
           committed, [](const RankState& s, Cache&) { EXPECT_TRUE(s.committed.empty()); });
  std::string major;
  encode_segment_payload(&many, major);
  ByteWriter(major).varint(0);
  out.push_back({"segment.many", major, [many](std::string_view b) {
                   Cache cache;
                   RankState got;
                   ReplayContext context{cache, got, {}};
                   ASSERT_TRUE(replay_segment_payload(context, true, true, Lsn{1}, b));
                   EXPECT_EQ(got.imports, many.imports);
                   EXPECT_EQ(got.forwards, many.forwards);
                   EXPECT_EQ(got.prepared, many.prepared);
                   EXPECT_EQ(got.committed, many.committed);
                 }});
}

std::vector<Example> examples() {
  std::vector<Example> out;
  add_values(out);
  add_raw_events(out);
  add_events_of_many(out);
  const std::pair<const char*, EventType> trees[] = {{"ino_release", EventType::ino_release},
                                                     {"inode", EventType::inode},
                                                     {"link", EventType::link},
                                                     {"unlink", EventType::unlink},
                                                     {"rename", EventType::rename}};
  for (auto [name, type] : trees)
    out.push_back({fmt::format("event.{}", name), tree_payload(type),
                   [type = type](std::string_view bytes) { check_tree(type, bytes); }});
  for (bool major : {true, false}) {
    std::string bytes;
    const RankState state = example_state();
    encode_segment_payload(major ? &state : nullptr, bytes);
    ByteWriter w(bytes);
    w.varint(1);
    encode_header_body(w, header(kDir, 300));
    out.push_back({major ? "segment.major" : "segment.minor", bytes, [=](std::string_view b) {
                     Cache cache;
                     RankState got;
                     ReplayContext context{cache, got, {}};
                     ASSERT_TRUE(replay_segment_payload(context, major, true, Lsn{1}, b));
                     EXPECT_EQ(state_bytes(got), state_bytes(major ? state : RankState{}));
                     ASSERT_NE(cache.find_dir(kDir), nullptr);
                     expect_equal(cache.find_dir(kDir)->header, header(kDir, 300), "summary");
                     EXPECT_EQ(cache.dirty_count(), 0u);
                   }});
  }
  return out;
}

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (char c : bytes) out += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return out;
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return out;
}

TEST(Frozen, BytesOfFormat1AreReadAndWritten) {
  const std::vector<Example> all = examples();
  if (std::getenv("GRAFTFS_WRITE_FORMATS")) {
    std::ofstream out(kFrozen);
    for (const Example& e : all) out << e.name << ' ' << to_hex(e.bytes) << '\n';
    ASSERT_TRUE(out.good()) << kFrozen;
  }
  std::ifstream in(kFrozen);
  ASSERT_TRUE(in.good()) << kFrozen;
  std::map<std::string, std::string> frozen;
  for (std::string name, hex; in >> name >> hex;) frozen[name] = hex;
  EXPECT_EQ(frozen.size(), all.size());
  for (const Example& e : all) {
    ASSERT_TRUE(frozen.contains(e.name)) << e.name;
    e.check(from_hex(frozen[e.name]));
    // This version writes format 1.
    EXPECT_EQ(to_hex(e.bytes), frozen[e.name]) << e.name;
  }
}

// What a name's place depends on, and with it every listing position and every store.
TEST(Frozen, HashesOfNames) {
  EXPECT_EQ(name_hash("a"), 0x69276278d4c6372du);
  EXPECT_EQ(to_hex(entry_key("a")), "69276278d4c6372d61");
  EXPECT_EQ(hidden_name(Ino{0x100001}), "0000000000100001");
}

}  // namespace
}  // namespace graftfs::testing
