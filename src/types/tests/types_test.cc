#include <gtest/gtest.h>

#include "types/entry.h"
#include "types/request.h"

namespace graftfs {
namespace {

Inode full_inode() {
  Inode i;
  i.ino = Ino{0x123456};
  i.mode = S_IFLNK | 0777;
  i.uid = 1000;
  i.gid = 100;
  i.nlink = 2;
  i.size = 1ull << 40;
  i.blocks = 8;
  i.rdev = 0x801;
  i.atime = {1, 2};
  i.mtime = {-5, 999'999'999};
  i.ctime = {1'700'000'000, 0};
  i.btime = {0, 1};
  i.set_extra({.symlink = "target", .xattrs = {{"user.a", "b"}, {"user.empty", ""}}});
  return i;
}

TEST(Inode, EveryFieldComesBack) {
  std::string bytes;
  ByteWriter w(bytes);
  encode_inode(w, full_inode());
  ByteReader r(bytes);
  Inode back;
  decode_inode(r, back);
  EXPECT_TRUE(r.done());
  EXPECT_EQ(back, full_inode());
}

TEST(Inode, APlainNewFileIsSmall) {
  Inode i;
  i.ino = Ino{5'000'000};
  i.mode = S_IFREG | 0644;
  i.nlink = 1;
  i.atime = i.mtime = i.ctime = i.btime = {1'700'000'000, 123'456'789};
  std::string bytes;
  ByteWriter w(bytes);
  encode_inode(w, i);
  EXPECT_LE(bytes.size(), 20u);
}

TEST(Entry, EveryCutAndEveryFlippedBitIsRefused) {
  EntryValue value{EntryKind::primary, Version{9}, Ino{0x123456}, S_IFLNK, full_inode()};
  std::string key = entry_key("name");
  std::string bytes = encode_entry_value(Ino{7}, key, value);
  auto back = decode_entry_value(Ino{7}, key, bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->inode, value.inode);
  EXPECT_FALSE(decode_entry_value(Ino{8}, key, bytes).has_value());
  EXPECT_FALSE(decode_entry_value(Ino{7}, entry_key("nane"), bytes).has_value());
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_FALSE(decode_entry_value(Ino{7}, key, bytes.substr(0, n)).has_value());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    auto result = decode_entry_value(Ino{7}, key, flipped);
    ASSERT_FALSE(result.has_value());
    EXPECT_TRUE(result.error().is_damage());
  }
}

TEST(DirHeader, ComesBack) {
  DirHeader h;
  h.version = Version{77};
  h.at = {Ino{1}, "dir"};
  h.inode = full_inode();
  h.inode.mode = S_IFDIR | 0755;
  std::string bytes = encode_dir_header(h.inode.ino, h);
  auto back = decode_dir_header(h.inode.ino, bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->inode, h.inode);
  EXPECT_EQ(back->at, h.at);
  EXPECT_EQ(back->version, h.version);
}

TEST(EntryKey, OrdersByHashThenName) {
  std::string key = entry_key(0x0102030405060708, "abc");
  EXPECT_EQ(key, std::string("\x01\x02\x03\x04\x05\x06\x07\x08"
                             "abc"));
  auto split = split_entry_key(key);
  ASSERT_TRUE(split);
  EXPECT_EQ(split->hash, 0x0102030405060708u);
  EXPECT_EQ(split->name, "abc");
}

// The hash is part of the format: these never change.
TEST(NameHash, KnownAnswers) {
  EXPECT_EQ(name_hash("a"), 0xd24ec4f1a98c6e5bull >> 1);
  EXPECT_EQ(name_hash("abc"), 0x44bc2cf5ad770999ull >> 1);
}

TEST(CheckName, RefusesWhatIsNoName) {
  EXPECT_EQ(check_name("a"), 0);
  EXPECT_EQ(check_name(std::string(255, 'x')), 0);
  EXPECT_EQ(check_name(std::string(256, 'x')), ENAMETOOLONG);
  for (const char* bad : {"", ".", "..", "a/b"}) EXPECT_EQ(check_name(bad), EINVAL);
}

}  // namespace
}  // namespace graftfs
