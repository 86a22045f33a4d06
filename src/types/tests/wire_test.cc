// What is said arrives as it was said; what makes no sense is refused with a sentence.
#include "types/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace graftfs {
namespace {

using testing::HasSubstr;

class Groups final : public GroupLookup {
 public:
  bool is_member(int32_t, uint32_t gid) const override { return gid == 44; }
  std::vector<uint32_t> groups_of(int32_t) const override { return {44, 55}; }
};

Stat a_stat() {
  Stat s;
  s.ino = Ino{0x100007};
  s.mode = S_IFREG | 0640;
  s.uid = 1000;
  s.nlink = 2;
  s.size = 1ull << 40;
  s.mtime = {1'700'000'000, 999'999'999};
  s.atime = {-5, 1};
  return s;
}

std::string bytes_of(Body body) {
  std::string out;
  encode_message({RankId{3}, RankId{4}, std::move(body)}, out);
  return out;
}

template <class T>
T through(T m, Sender sender) {
  auto message = decode_message(bytes_of(std::move(m)), sender);
  EXPECT_TRUE(message) << (message ? "" : message.error().message);
  if (!message) return T{};
  EXPECT_EQ(message->from, RankId{3});
  EXPECT_EQ(message->to, RankId{4});
  return std::get<T>(std::move(message->body));
}

TEST(Wire, ARequestArrivesWithItsCallersGroups) {
  Groups groups;
  msg::Call call;
  call.number = 300;
  call.resent = true;
  call.request.seq = 9;
  call.request.oldest = 4;
  call.request.cred.uid = 7;
  call.request.cred.lookup = &groups;
  call.request.redo = Redo{Ino{5}, {1, 2}};
  call.request.args = RenameArgs{Ino{1}, "a", Ino{2}, std::string("b\0c", 3), 1};
  msg::Call got = through(call, Sender::client);
  EXPECT_EQ(got.number, 300u);
  EXPECT_TRUE(got.resent);
  EXPECT_EQ(got.request.seq, 9u);
  EXPECT_EQ(got.request.oldest, 4u);
  EXPECT_EQ(got.request.cred.groups, (std::vector<uint32_t>{44, 55}));
  EXPECT_EQ(got.request.cred.lookup, nullptr);
  EXPECT_EQ(got.request.redo, call.request.redo);
  const auto& args = std::get<RenameArgs>(got.request.args);
  EXPECT_EQ(args.new_dir, Ino{2});
  EXPECT_EQ(args.new_name, std::string("b\0c", 3));
  EXPECT_EQ(args.flags, 1u);
}

TEST(Wire, EveryKindOfRequestArrives) {
  SetattrArgs setattr{Ino{5}, kSetMode | kSetSize, 0644, 1, 2, 3, 4, {5, 6}, {7, 8}, {-9, 10},
                      true};
  std::vector<Args> all = {LookupArgs{Ino{1}, "x"},
                           LookupParentArgs{Ino{2}},
                           GetattrArgs{Ino{3}},
                           setattr,
                           MknodArgs{Ino{1}, "n", S_IFCHR | 0600, 022, 77},
                           MkdirArgs{Ino{1}, "d", 0700, 022},
                           CreateArgs{Ino{1}, "c", 0600, 022, true, 3},
                           SymlinkArgs{Ino{1}, "s", "/target"},
                           ReadlinkArgs{Ino{4}},
                           LinkArgs{Ino{5}, Ino{1}, "l"},
                           UnlinkArgs{Ino{1}, "u"},
                           RmdirArgs{Ino{1}, "r"},
                           RenameArgs{Ino{1}, "a", Ino{2}, "b", 2},
                           OpenArgs{Ino{5}, 2},
                           ReleaseArgs{Ino{5}, 3},
                           WroteArgs{Ino{5}, 4096, 8, true},
                           ReadArgs{Ino{5}},
                           ReaddirArgs{Ino{1}, 1ull << 62, 100, true},
                           GetxattrArgs{Ino{5}, "user.a"},
                           ListxattrArgs{Ino{5}},
                           SetxattrArgs{Ino{5}, "user.a", std::string(1000, 'v'), 1},
                           RemovexattrArgs{Ino{5}, "user.a"},
                           AccessArgs{Ino{5}, 4},
                           StatfsArgs{},
                           SyncArgs{},
                           LockArgs{LockOp::wait, {Ino{5}, 1, 2, 3, true, LockKind::flock, 4}, 7}};
  ASSERT_EQ(all.size(), std::variant_size_v<Args>);
  for (size_t k = 0; k < all.size(); ++k) {
    ASSERT_EQ(all[k].index(), k) << "in the order of the variant";
    msg::Call call;
    call.request.args = all[k];
    msg::Call got = through(call, Sender::client);
    EXPECT_EQ(got.request.args.index(), k);
    EXPECT_EQ(bytes_of(got), bytes_of(call)) << op_name(all[k]);
  }
  msg::Call call;
  call.request.args = setattr;
  msg::Call back = through(call, Sender::client);
  auto got = std::get<SetattrArgs>(back.request.args);
  EXPECT_EQ(got.blocks, 4u);
  EXPECT_EQ(got.ctime, (Timespec{-9, 10}));
  EXPECT_TRUE(got.by_handle);
}

TEST(Wire, AnAnswerArrivesAsItWasGiven) {
  msg::Answer answer;
  answer.number = 1;
  answer.durable = Lsn{77};
  Reply& r = answer.reply;
  r.err = ENOENT;
  r.stat = a_stat();
  r.data = std::string("a\0b\0", 4);
  r.entries = {{"one", 17, Ino{9}, S_IFREG, a_stat()}, {"two", 18, Ino{10}, S_IFDIR, std::nullopt}};
  r.end = r.created = r.orphaned = r.partial = true;
  r.statfs = StatfsReply{1, 2, 3, 4, 5, 6};
  r.home = RankId{12};
  r.entries[0].here = true;
  r.leased = Ino{1};
  r.named = true;
  r.order = 1234567;
  r.lsn = Lsn{76};
  r.dir = a_stat();
  r.lock = LockRange{.ino = Ino{5}, .owner = 8, .start = 1, .end = 2, .exclusive = true};
  Reply got = through(answer, Sender::node_to_client).reply;
  EXPECT_EQ(got.err, ENOENT);
  EXPECT_EQ(got.stat, r.stat);
  EXPECT_EQ(got.data, r.data);
  ASSERT_EQ(got.entries.size(), 2u);
  EXPECT_EQ(got.entries[0].stat, r.stat);
  EXPECT_EQ(got.entries[1].stat, std::nullopt);
  EXPECT_EQ(got.entries[1].cookie, 18u);
  EXPECT_TRUE(got.end && got.created && got.orphaned && got.partial);
  EXPECT_EQ(got.statfs, r.statfs);
  EXPECT_EQ(got.home, RankId{12});
  EXPECT_TRUE(got.entries[0].here && !got.entries[1].here);
  EXPECT_EQ(got.leased, Ino{1});
  EXPECT_TRUE(got.named);
  EXPECT_EQ(got.order, 1234567u);
  EXPECT_EQ(got.lock, r.lock);
  EXPECT_EQ(got.dir, r.dir);
  EXPECT_EQ(got.lsn, Lsn{76});
}

TEST(Wire, AShortAnswerIsShort) {
  msg::Answer answer;
  answer.number = 5;
  answer.durable = Lsn{100};
  answer.reply.lsn = Lsn{100};
  EXPECT_LE(bytes_of(answer).size(), 10u);
}

TEST(Wire, APartOfASubtreeArrives) {
  msg::MigratePart part;
  part.id = {RankId{1}, Epoch{2}, 3};
  part.number = 7;
  msg::PartDir dir;
  dir.dirty = true;
  dir.header.version = Version{9};
  dir.header.at = {Ino{1}, "dir"};
  dir.header.inode.ino = Ino{0x100001};
  dir.header.inode.mode = S_IFDIR | 0755;
  dir.known_to = 1ull << 63;
  msg::PartEntry entry;
  entry.name = "file";
  entry.value.kind = EntryKind::primary;
  entry.value.version = Version{8};
  static_cast<Stat&>(entry.value.inode) = a_stat();
  InodeExtra extra;
  extra.xattrs["user.x"] = "y";
  entry.value.inode.set_extra(extra);
  dir.entries.push_back(entry);
  part.dirs.push_back(dir);
  msg::MigratePart got = through(part, Sender::node_to_node);
  EXPECT_EQ(got.id, part.id);
  ASSERT_EQ(got.dirs.size(), 1u);
  EXPECT_EQ(got.dirs[0].header.at, dir.header.at);
  EXPECT_EQ(got.dirs[0].known_to, 1ull << 63);
  ASSERT_EQ(got.dirs[0].entries.size(), 1u);
  EXPECT_EQ(got.dirs[0].entries[0].value.inode, entry.value.inode);
}

TEST(Wire, APrepareArrives) {
  msg::Prepare prepare;
  prepare.op = {RankId{1}, Epoch{2}, 3};
  prepare.session = SessionId{~0ull};
  prepare.cred.groups = {1, 2};
  prepare.now = {10, 20};
  prepare.intents.resize(2);
  prepare.intents[0].kind = msg::IntentKind::swap_name;
  prepare.intents[0].name = "n";
  prepare.intents[0].value.kind = EntryKind::dir_link;
  prepare.intents[0].value.ino = Ino{6};
  prepare.intents[0].value.type = S_IFDIR;
  prepare.intents[1].kind = msg::IntentKind::hang;
  msg::Prepare got = through(prepare, Sender::node_to_node);
  EXPECT_EQ(got.intents, prepare.intents);
  EXPECT_EQ(got.intents[0].value.ino, Ino{6});
  EXPECT_EQ(got.session, SessionId{~0ull});
  EXPECT_EQ(got.now, (Timespec{10, 20}));
}

// Each message cut off anywhere, and with a byte too many.
TEST(Wire, WhatIsCutOffIsRefused) {
  msg::Call call;
  call.request.args = CreateArgs{Ino{1}, "name", 0600, 022, true, 3};
  call.request.cred.groups = {1};
  std::string whole = bytes_of(call);
  for (size_t n = 0; n < whole.size(); ++n) {
    auto message = decode_message(std::string_view(whole).substr(0, n), Sender::client);
    ASSERT_FALSE(message) << n;
    EXPECT_EQ(message.error().code, EBADMSG);
    EXPECT_FALSE(message.error().message.empty());
  }
  EXPECT_THAT(decode_message(whole + "x", Sender::client).error().message,
              HasSubstr("malformed Call"));
}

TEST(Wire, ACountThatIsALieTakesNoMemory) {
  std::string bytes = bytes_of(msg::HoldAnswer{1, {}});
  bytes.pop_back();
  ByteWriter w(bytes);
  w.varint(1ull << 40);
  EXPECT_THAT(decode_message(bytes, Sender::client).error().message, HasSubstr("malformed"));
}

TEST(Wire, NumbersOutOfRangeAreRefused) {
  std::string bytes;
  ByteWriter w(bytes);
  w.u8(static_cast<uint8_t>(Body(msg::Beat{}).index()));
  w.varint(65536);  // a rank
  w.varint(0);
  w.varint(0);
  EXPECT_FALSE(decode_message(bytes, Sender::client));
}

TEST(Wire, EachKindOfPeerMaySayOnlyItsOwn) {
  const std::map<Sender, Body> own = {{Sender::client, msg::Detach{}},
                                      {Sender::node_to_client, msg::Evicted{}},
                                      {Sender::node_to_node, msg::Hail{}},
                                      {Sender::control, msg::Control{}},
                                      {Sender::node_to_control, msg::ControlAnswer{}}};
  for (const auto& [sender, ignored] : own) {
    for (const auto& [owner, body] : own) {
      auto message = decode_message(bytes_of(body), sender);
      EXPECT_EQ(message.has_value(), sender == owner) << message_name(body);
      if (sender == owner) continue;
      EXPECT_THAT(message.error().message, HasSubstr("may not send"));
    }
  }
}

}  // namespace
}  // namespace graftfs
