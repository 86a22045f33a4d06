#include "cli/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mounts.h"

namespace graftfs::cli {
namespace {

using ::testing::HasSubstr;

std::string config_error(std::string_view text) {
  Settings settings;
  auto applied = apply_config(text, "v/graftfs.toml", settings);
  return applied ? "" : applied.error().message;
}

TEST(Settings, SizesAndTimes) {
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("512M"), 512u << 20);
  EXPECT_EQ(*parse_size("1.5GiB"), 3u << 29);
  EXPECT_EQ(*parse_size("10 kB"), 10240u);
  for (const char* bad : {"", "x", "-1", "1Q", "1GiBs", "1e3", "nan", "99999999999T"})
    EXPECT_FALSE(parse_size(bad)) << bad;
  EXPECT_EQ(*parse_duration("2"), 2 * kSecond);
  EXPECT_EQ(*parse_duration("200ms"), 200 * kMillisecond);
  EXPECT_EQ(*parse_duration("1.5 h"), 5400 * kSecond);
  for (const char* bad : {"", "s", "1y", "-2s"}) EXPECT_FALSE(parse_duration(bad)) << bad;
}

TEST(Settings, AConfigFileSetsWhatFlagsSet) {
  Settings s;
  auto applied = apply_config(
      "durability = \"strict\"\nmemory = \"2GiB\"\nread-only = true\nrecovery-target = 0.5\n"
      "trace = \"full\"\natime = false\n",
      "c", s);
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_EQ(s.durability, Durability::strict);
  EXPECT_EQ(s.memory, uint64_t{2} << 30);
  EXPECT_TRUE(s.read_only);
  EXPECT_EQ(s.recovery_target, kSecond / 2);
  EXPECT_EQ(s.trace, TracePolicy::full);
  EXPECT_FALSE(s.atime);
}

TEST(Settings, ErrorsNameFileAndLine) {
  EXPECT_THAT(config_error("memory = \"1GiB\"\ndurabilty = 1\n"),
              HasSubstr("v/graftfs.toml, line 2: there is no setting 'durabilty'; there are "));
  EXPECT_THAT(config_error("\n\nmemory = \"1KiB\"\n"),
              HasSubstr("v/graftfs.toml, line 3: memory: it must lie between"));
  EXPECT_THAT(config_error("memory = [1, 2]\n"), HasSubstr("line 1: 'memory' needs a single"));
  EXPECT_THAT(config_error("memory = \n"), HasSubstr("v/graftfs.toml, line 1: "));
  EXPECT_THAT(config_error("[mount]\nmemory = 1\n"), HasSubstr("there is no setting 'mount'"));
  EXPECT_EQ(config_error(""), "");
}

TEST(Settings, EveryBitOfAConfigFileMayFlip) {
  std::string good = "durability = \"strict\"\nmemory = \"2GiB\"\nread-only = true\n";
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string text = good;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << (bit % 8)));
    Settings s;
    auto applied = apply_config(text, "c", s);
    if (applied) continue;
    EXPECT_THAT(applied.error().message, HasSubstr("c, line ")) << bit;
  }
}

TEST(Mounts, TheTopmostEntryOfAPointCounts) {
  const char* text =
      "22 1 0:21 / /a\\040b rw - fuse.graftfs /v rw\n"
      "23 1 0:22 / /mnt rw,relatime shared:1 master:2 - ext4 /dev/x rw\n"
      "24 23 0:23 / /mnt rw - fuse.graftfs /w rw\n"
      "short line\n";
  EXPECT_EQ(find_mount_in(text, "/mnt")->source, "/w");
  EXPECT_EQ(find_mount_in(text, "/a b")->type, "fuse.graftfs");
  EXPECT_EQ(find_mount_in(text, "/a b")->device, "0:21");
  EXPECT_FALSE(find_mount_in(text, "/nowhere"));
}

}  // namespace
}  // namespace graftfs::cli
