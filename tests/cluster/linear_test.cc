// The checker itself: histories that it must accept, and such as it must refuse.
#include "linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace graftfs {
namespace {

using ::testing::HasSubstr;

Op op(Op::Kind kind, int64_t called, int64_t answered, Op more = {}) {
  more.kind = kind;
  more.called = called;
  more.answered = answered;
  return more;
}

TEST(Linear, WhatHappensOneAfterTheOtherIsChecked) {
  std::vector<Op> history = {
      op(Op::make_file, 0, 1, {.slot = 0}),
      op(Op::look, 2, 3, {.slot = 0, .ino = 100}),
      op(Op::link, 4, 5, {.slot = 1, .ino = 100}),
      op(Op::links, 6, 7, {.ino = 100, .nlink = 2}),
      op(Op::rename, 8, 9, {.slot = 0, .to = 2}),
      op(Op::list, 10, 11, {.among = 0b111, .found = 0b110}),
      op(Op::look, 12, 13, {.slot = 0, .err = ENOENT}),
      op(Op::unlink, 14, 15, {.slot = 1}),
      op(Op::make_dir, 16, 17, {.slot = 1}),
      op(Op::unlink, 18, 19, {.slot = 1, .err = EISDIR}),
      op(Op::make_file, 20, 21, {.slot = 8}),
      op(Op::replace, 22, 23, {.slot = 8, .to = 1, .err = EISDIR}),
      op(Op::replace, 24, 25, {.slot = 8, .to = 2}),
      op(Op::links, 26, 27, {.ino = 100, .nlink = 0}),
      op(Op::rmdir, 28, 29, {.slot = 1}),
      op(Op::look, 30, 31, {.slot = 2, .ino = 101}),
  };
  EXPECT_EQ(why_not_linearizable(history), "");
  // Each answer says something: with any of them otherwise nothing explains the rest.
  auto otherwise = [&](size_t at, auto change) {
    std::vector<Op> other = history;
    change(other[at]);
    return why_not_linearizable(other);
  };
  EXPECT_NE(otherwise(0, [](Op& o) { o.err = EEXIST; }), "");
  EXPECT_NE(otherwise(3, [](Op& o) { o.nlink = 1; }), "");
  EXPECT_NE(otherwise(4, [](Op& o) { o.err = ENOENT; }), "");
  EXPECT_NE(otherwise(5, [](Op& o) { o.found = 0b011; }), "");
  EXPECT_NE(otherwise(6, [](Op& o) { o.err = 0, o.ino = 100; }), "");
  EXPECT_NE(otherwise(7, [](Op& o) { o.err = ENOENT; }), "");
  EXPECT_NE(otherwise(9, [](Op& o) { o.err = 0; }), "");
  EXPECT_NE(otherwise(12, [](Op& o) { o.err = EISDIR; }), "");
  EXPECT_NE(otherwise(13, [](Op& o) { o.nlink = 1; }), "");
  EXPECT_NE(otherwise(14, [](Op& o) { o.err = ENOTDIR; }), "");
  EXPECT_NE(otherwise(15, [](Op& o) { o.ino = 100; }), "") << "a number that was used before";
}

TEST(Linear, WhatWasAcknowledgedMustBeSeenByEverybodyAfterwards) {
  const std::string why = why_not_linearizable({
      op(Op::make_file, 0, 10, {.caller = 0, .slot = 0}),
      op(Op::look, 11, 12, {.caller = 1, .slot = 0, .err = ENOENT}),
  });
  EXPECT_THAT(why, HasSubstr("unexplained caller 1: look"));
  EXPECT_EQ(why_not_linearizable({
                op(Op::make_file, 0, 10, {.caller = 0, .slot = 0}),
                op(Op::look, 9, 12, {.caller = 1, .slot = 0, .err = ENOENT}),
            }),
            "")
      << "they were under way at the same time";
}

TEST(Linear, OnlyOneCanHaveMadeIt) {
  EXPECT_NE(why_not_linearizable({
                op(Op::make_file, 0, 10, {.caller = 0, .slot = 0}),
                op(Op::make_file, 0, 10, {.caller = 1, .slot = 0}),
            }),
            "");
  EXPECT_EQ(why_not_linearizable({
                op(Op::make_file, 0, 10, {.caller = 0, .slot = 0}),
                op(Op::make_file, 0, 10, {.caller = 1, .slot = 0}),
                op(Op::unlink, 0, 10, {.caller = 2, .slot = 0}),
            }),
            "");
}

// What one has seen of a call under way nobody sees undone.
TEST(Linear, WhatWasSeenStaysSeen) {
  std::vector<Op> history = {
      op(Op::make_file, 0, 100, {.caller = 0, .slot = 0}),
      op(Op::look, 10, 20, {.caller = 1, .slot = 0, .ino = 100}),
      op(Op::look, 30, 40, {.caller = 2, .slot = 0, .err = ENOENT}),
  };
  EXPECT_NE(why_not_linearizable(history), "");
  history[2].called = 15;
  EXPECT_EQ(why_not_linearizable(history), "");
}

TEST(Linear, WhatHasNoAnswerMayHaveHappenedOrNot) {
  std::vector<Op> history = {
      op(Op::make_file, 0, kNever, {.caller = 0, .slot = 0, .err = EIO}),
      op(Op::look, 10, 20, {.caller = 1, .slot = 0, .err = ENOENT}),
  };
  EXPECT_EQ(why_not_linearizable(history), "");
  history.push_back(op(Op::look, 30, 40, {.caller = 1, .slot = 0, .ino = 100}));
  EXPECT_EQ(why_not_linearizable(history), "") << "it may take its time";
  history.push_back(op(Op::look, 50, 60, {.caller = 1, .slot = 0, .err = ENOENT}));
  EXPECT_NE(why_not_linearizable(history), "") << "it happens once";
}

// A rename is one step: nobody sees both names, or neither.
TEST(Linear, ARenameIsOneStep) {
  auto listed = [](uint32_t found) {
    return why_not_linearizable({
        op(Op::make_file, 0, 1, {.slot = 0}),
        op(Op::rename, 2, 100, {.slot = 0, .to = 5}),
        op(Op::list, 10, 20, {.caller = 1, .among = 0b100001, .found = found}),
    });
  };
  EXPECT_EQ(listed(0b000001), "");
  EXPECT_EQ(listed(0b100000), "");
  EXPECT_NE(listed(0b100001), "");
  EXPECT_NE(listed(0), "");
}

// Many calls at once, none of which can be explained: it does not try all orders of them.
TEST(Linear, ALongHistoryIsRefusedSoon) {
  std::vector<Op> history;
  for (int round = 0; round < 24; ++round)
    for (int caller = 0; caller < 5; ++caller)
      history.push_back(
          op(caller % 2 ? Op::unlink : Op::make_file, 100 * round, 100 * round + 99,
             {.caller = caller, .slot = caller / 2, .err = caller == 4 ? EEXIST : 0}));
  for (Op& o : history)
    if (o.caller == 4) o.slot = 1;
  EXPECT_EQ(why_not_linearizable(history), "");
  history.push_back(op(Op::look, 5000, 5001, {.slot = 0, .ino = 7}));
  EXPECT_NE(why_not_linearizable(history), "");
}

}  // namespace
}  // namespace graftfs
