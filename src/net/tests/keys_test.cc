#include "net/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace graftfs::net {
namespace {

TEST(Keys, AKeySaysWhatItAllowsAndCannotBeMadeUp) {
  std::string volume = random_bytes(kSecretSize);
  KeyLimits limits{true, true, "/home/a", "a's laptop"};
  ClientKey key = issue_key(volume, limits);
  EXPECT_EQ(limits_of(key.id).value(), limits);
  EXPECT_EQ(secret_of(volume, key.id), key.secret);
  // Another volume's, or with another limit, is another secret.
  EXPECT_NE(secret_of(random_bytes(kSecretSize), key.id), key.secret);
  std::string wider = key.id;
  wider[8] = 0;
  EXPECT_FALSE(limits_of(wider).value().read_only);
  EXPECT_NE(secret_of(volume, wider), key.secret);
  EXPECT_NE(issue_key(volume, limits).id, key.id);
  EXPECT_EQ(name_of_key(key.id).size(), 16u);
}

TEST(Keys, TheVolumesOwnAllowsEverything) {
  EXPECT_EQ(limits_of("").value(), KeyLimits{});
  EXPECT_EQ(secret_of("secret", ""), "secret");
}

TEST(Keys, TextForPeople) {
  ClientKey key = issue_key(random_bytes(kSecretSize), {});
  std::string text = show_key(key);
  auto back = parse_key(text + "\n");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->id, key.id);
  EXPECT_EQ(back->secret, key.secret);
  for (std::string bad :
       {std::string(), std::string("graftfs-key:"), text.substr(1), text.substr(0, text.size() - 2),
        text + "00", text + "x", std::string("graftfs-key:00:") + text.substr(text.rfind(':') + 1)})
    EXPECT_EQ(parse_key(bad).error().code, EINVAL) << bad;
}

TEST(Keys, IdsThatMakeNoSense) {
  std::string good = issue_key("v", {}).id;
  EXPECT_FALSE(limits_of(good + "x"));
  EXPECT_FALSE(limits_of(good.substr(0, good.size() - 1)));
  std::string flags = good;
  flags[8] = 4;
  EXPECT_FALSE(limits_of(flags));
  KeyLimits relative;
  relative.path = "home";
  EXPECT_FALSE(limits_of(issue_key("v", relative).id));
}

// RFC 4231, test case 2.
TEST(Keys, HmacIsTheStandards) {
  std::string hex;
  for (unsigned char c : hmac("Jefe", "what do ya want for nothing?"))
    hex += fmt::format("{:02x}", c);
  EXPECT_EQ(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Address, WhatPeopleWrite) {
  Address unix_one = parse_address("unix:/run/graftfs/a").value();
  EXPECT_EQ(unix_one.kind, Address::unix_socket);
  EXPECT_EQ(unix_one.text, "/run/graftfs/a");
  Address four = parse_address("tcp:127.0.0.1:4000").value();
  EXPECT_EQ(four.text, "127.0.0.1");
  EXPECT_EQ(four.port, 4000);
  Address six = parse_address("tcp:[::1]:65535").value();
  EXPECT_EQ(six.text, "::1");
  EXPECT_EQ(six.port, 65535);
  for (const char* text :
       {"unix:/run/graftfs/a", "tcp:127.0.0.1:4000", "tcp:[::1]:65535", "local:x"})
    EXPECT_EQ(show(parse_address(text).value()), text);
}

TEST(Address, WhatIsNone) {
  for (std::string text : {"", "unix", "unix:", "tcp:", "tcp:1.2.3.4", "tcp:1.2.3.4:", "tcp::1",
                           "tcp:1.2.3.4:65536", "tcp:1.2.3.4:1x", "udp:1.2.3.4:5"}) {
    auto address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, EINVAL);
    EXPECT_THAT(address.error().message, testing::HasSubstr("use unix:PATH or tcp:ADDRESS:PORT"));
  }
  EXPECT_FALSE(parse_address("unix:/" + std::string(107, 'a')));
}

}  // namespace
}  // namespace graftfs::net
