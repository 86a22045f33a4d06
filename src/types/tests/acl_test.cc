#include "types/acl.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>

namespace graftfs {
namespace {

const AclEntry kOwner6{kAclUserObj, 6}, kGroup4{kAclGroupObj, 4}, kOther0{kAclOther, 0};
const AclEntry kUser7{kAclUser, 7, 1001}, kMask5{kAclMask, 5}, kGroup3{kAclGroup, 3, 50};

TEST(Acl, BytesAreTheKernels) {
  // What `setfacl -m u:1001:7` passes to setxattr(2) for a file of mode 0640, mask 5.
  std::string bytes = encode_acl({kOwner6, kUser7, kGroup4, kMask5, kOther0});
  const unsigned char expected[] = {
      2,    0, 0, 0,                          // version
      0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,  // user::rw-
      0x02, 0, 7, 0, 0xe9, 0x03, 0,    0,     // user:1001:rwx
      0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,  // group::r--
      0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,  // mask::r-x
      0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,  // other::---
  };
  EXPECT_EQ(bytes, std::string(reinterpret_cast<const char*>(expected), sizeof expected));
  Acl back;
  EXPECT_EQ(decode_acl(bytes, back), 0);
  EXPECT_EQ(back, (Acl{kOwner6, kUser7, kGroup4, kMask5, kOther0}));
}

TEST(Acl, MalformedBytesAreRefused) {
  Acl acl;
  std::string good = encode_acl({kOwner6, kGroup4, kOther0});
  EXPECT_EQ(decode_acl("", acl), 0);
  EXPECT_EQ(decode_acl(good.substr(0, 4), acl), 0);
  EXPECT_TRUE(acl.empty());
  EXPECT_EQ(decode_acl(good.substr(0, 3), acl), EINVAL);
  EXPECT_EQ(decode_acl(good.substr(0, 11), acl), EINVAL);
  std::string version = good;
  version[0] = 1;
  EXPECT_EQ(decode_acl(version, acl), EOPNOTSUPP);
  std::string tag = good;
  tag[4] = 3;
  EXPECT_EQ(decode_acl(tag, acl), EINVAL);
  tag[4] = 0x40;
  EXPECT_EQ(decode_acl(tag, acl), EINVAL);
  EXPECT_EQ(
      decode_acl(encode_acl({kOwner6, {kAclUser, 7, kAclNoId}, kGroup4, kMask5, kOther0}), acl),
      EINVAL);
}

TEST(Acl, ValidityIsTheKernels) {
  EXPECT_TRUE(is_valid_acl({kOwner6, kGroup4, kOther0}));
  EXPECT_TRUE(is_valid_acl({kOwner6, kGroup4, kMask5, kOther0}));
  EXPECT_TRUE(is_valid_acl({kOwner6, kUser7, kUser7, kGroup4, kGroup3, kMask5, kOther0}));
  EXPECT_FALSE(is_valid_acl({}));
  EXPECT_FALSE(is_valid_acl({kGroup4, kOther0}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kOther0}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kGroup4}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kGroup4, kOther0, kOther0}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kOwner6, kGroup4, kOther0}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kGroup4, kMask5, kMask5, kOther0}));
  EXPECT_FALSE(is_valid_acl({kOwner6, kUser7, kGroup4, kOther0})) << "a named user needs a mask";
  EXPECT_FALSE(is_valid_acl({kOwner6, kGroup4, kGroup3, kOther0})) << "a named group does, too";
  EXPECT_FALSE(is_valid_acl({kGroup4, kOwner6, kOther0})) << "out of order";
  EXPECT_FALSE(is_valid_acl({{kAclUserObj, 8}, kGroup4, kOther0}));
}

TEST(Acl, TheModeStandsForOwnerMaskAndOthers) {
  uint32_t mode = S_IFREG | S_ISUID | 0777;
  EXPECT_TRUE(acl_to_mode({kOwner6, kGroup4, kOther0}, mode));
  EXPECT_EQ(mode, S_IFREG | S_ISUID | 0640u);
  EXPECT_FALSE(acl_to_mode({kOwner6, kGroup4, kMask5, {kAclOther, 1}}, mode));
  EXPECT_EQ(mode, S_IFREG | S_ISUID | 0651u);
  EXPECT_FALSE(acl_to_mode({kOwner6, kUser7, kGroup4, kMask5, kOther0}, mode));
  EXPECT_EQ(mode, S_IFREG | S_ISUID | 0650u);
}

TEST(Acl, ChmodMovesTheMaskAndLeavesTheGroup) {
  Acl acl{kOwner6, kUser7, kGroup4, kMask5, kOther0};
  acl_chmod(acl, 0712);
  EXPECT_EQ(acl, (Acl{{kAclUserObj, 7}, kUser7, kGroup4, {kAclMask, 1}, {kAclOther, 2}}));
  Acl small{kOwner6, kGroup4, kOther0};
  acl_chmod(small, 0123);
  EXPECT_EQ(small, (Acl{{kAclUserObj, 1}, {kAclGroupObj, 2}, {kAclOther, 3}}));
}

TEST(Acl, InheritingTakesWhatBothAllow) {
  Acl acl{{kAclUserObj, 7}, kUser7, {kAclGroupObj, 7}, {kAclMask, 6}, {kAclOther, 5}};
  uint32_t mode = S_IFREG | 0666;
  EXPECT_FALSE(acl_inherit(acl, mode));
  EXPECT_EQ(mode, S_IFREG | 0664u);
  EXPECT_EQ(acl, (Acl{{kAclUserObj, 6}, kUser7, {kAclGroupObj, 7}, {kAclMask, 6}, {kAclOther, 4}}));

  Acl plain{{kAclUserObj, 7}, {kAclGroupObj, 5}, {kAclOther, 0}};
  mode = S_IFDIR | S_ISGID | 0777;
  EXPECT_TRUE(acl_inherit(plain, mode));
  EXPECT_EQ(mode, S_IFDIR | S_ISGID | 0750u);
}

}  // namespace
}  // namespace graftfs
