// The table, and what nodes say of themselves.

#include "cluster/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace graftfs::cluster {
namespace {

using ::testing::HasSubstr;
constexpr RankId kZero{0}, kOne{1}, kTwo{2};

Table three_ranks() {
  Table table;
  for (uint32_t i = 0; i < 3; ++i) {
    RankId rank = *table.add();
    table.take(rank, Epoch{i + 1}, 0x10 + i);
  }
  return table;
}

TEST(Table, IsWrittenAndReadBack) {
  Table table = three_ranks();
  table.root = kTwo;
  ASSERT_TRUE(table.leave(kOne));
  table.give_up(kZero, 0x10);
  EXPECT_EQ(encode(table),
            "root = 2\nrank = 0 1 0000000000000000 vacant\nrank = 1 2 0000000000000011 leaving\n"
            "rank = 2 3 0000000000000012 serving\n");
  EXPECT_EQ(*decode_table(encode(table)), table);
  EXPECT_EQ(decode_table("")->ranks.size(), 0u);
}

TEST(Table, EveryDamageIsSaid) {
  std::string good = encode(three_ranks());
  for (const char* bad : {"x", "root = \n", "root = 1 2\n", "rank = 0 1 0 serving\n",
                          "root = 0\nrank = 0 1 0 sleeping\n", "root = 0\nrank = 0 1 0\n",
                          "root = 0\nrank = 70000 1 0 serving\n", "root = 0\nfoo = 1\n",
                          "root = 0\nrank = 0 1 0 serving\nrank = 0 1 0 serving\n",
                          "root = 0\ngone = 1\n", "root = 0\ngone = 1 0\ngone = 1 2\n"}) {
    auto table = decode_table(bad);
    ASSERT_FALSE(table) << bad;
    EXPECT_EQ(table.error().code, EUCLEAN);
    EXPECT_THAT(table.error().message, HasSubstr("backup"));
  }
  for (size_t n = 1; n < good.size(); ++n) {
    auto cut = decode_table(good.substr(0, n));
    EXPECT_TRUE(!cut || cut->ranks.size() <= 3u);
  }
}

TEST(Table, ANewerEpochTakesAndAnOlderOneDoesNot) {
  Table table = three_ranks();
  EXPECT_FALSE(table.take(kZero, Epoch{1}, 0x99));
  EXPECT_TRUE(table.take(kZero, Epoch{5}, 0x99));
  EXPECT_EQ(table.find(kZero)->node, 0x99u);
  EXPECT_FALSE(table.give_up(kZero, 0x10)) << "the one before";
  EXPECT_TRUE(table.give_up(kZero, 0x99));
  EXPECT_EQ(table.find(kZero)->state, RankState::vacant);
  EXPECT_TRUE(table.take(kZero, Epoch{6}, 0x10));
  EXPECT_EQ(table.find(kZero)->state, RankState::serving);
}

TEST(Table, ARankThatLeavesGoesOnToLeaveWhoeverTakesIt) {
  Table table = three_ranks();
  EXPECT_FALSE(table.remove(kOne, kZero));
  ASSERT_TRUE(table.leave(kOne));
  EXPECT_TRUE(table.take(kOne, Epoch{9}, 0x99));
  EXPECT_EQ(table.find(kOne)->state, RankState::leaving);
  EXPECT_TRUE(table.remove(kOne, kTwo));
  EXPECT_FALSE(table.take(kOne, Epoch{10}, 0x99)) << "it is gone";
  EXPECT_EQ(table.find(kOne), nullptr);
  EXPECT_EQ(table.heir_of(kOne), kTwo);
  EXPECT_EQ(table.heir_of(kZero), kZero);
  EXPECT_EQ(*table.add(), RankId{3}) << "what was called after rank 1 still is";
  EXPECT_EQ(*decode_table(encode(table)), table);
  // What it has inherited it leaves with its own.
  ASSERT_TRUE(table.leave(kTwo));
  EXPECT_TRUE(table.remove(kTwo, kZero));
  EXPECT_EQ(table.heir_of(kOne), kZero);
}

TEST(Table, TheLastRankStays) {
  Table table = three_ranks();
  EXPECT_EQ(table.leave(RankId{7}).error().code, ENOENT);
  ASSERT_TRUE(table.leave(kOne));
  ASSERT_TRUE(table.leave(kZero));
  auto last = table.leave(kTwo);
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, EINVAL);
  EXPECT_THAT(last.error().message, HasSubstr("graftfs rank add"));
  EXPECT_EQ(table.find(kTwo)->state, RankState::serving);
}

TEST(Table, CountsAreBounded) {
  Table table;
  for (int i = 0; i < kMaxRanks; ++i) ASSERT_TRUE(table.add());
  EXPECT_FALSE(table.add());
}

TEST(NodeRecord, IsWrittenAndReadBack) {
  NodeRecord record;
  record.id = 0xfeed;
  record.beat = 17;
  record.lease_ms = 2000;
  record.standby = true;
  record.machine = "5b2d-boot";
  record.pid = 4711;
  record.started = 123456;
  record.addresses[kOne] = {"unix:/run/g.1", "tcp:10.0.0.1:4001"};
  record.addresses[kTwo] = {};
  auto read = decode_node(node_key(record.id), encode(record));
  ASSERT_TRUE(read) << describe(read.error());
  EXPECT_EQ(*read, record);
  EXPECT_EQ(node_key(0xfeed), "cluster/node-000000000000feed");
  EXPECT_FALSE(decode_node(node_key(1), ""));
  EXPECT_FALSE(decode_node("cluster/node-xyz", encode(record)));
  EXPECT_FALSE(decode_node(node_key(1), encode(record) + "more\n"));
  EXPECT_FALSE(decode_node(node_key(1), encode(record) + "rank-x = a\n"));
}

}  // namespace
}  // namespace graftfs::cluster
