#pragma once
// Authenticated encryption of a stream of bytes, in records: length, AES-256-GCM, tag.

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_cipher_ctx_st;

namespace graftfs::net {

inline constexpr size_t kMaxRecord = 64 << 10;  // bytes sealed at once
inline constexpr size_t kSealHead = 4;
inline constexpr size_t kSealTag = 16;

struct CipherFree {
  void operator()(evp_cipher_ctx_st* context) const;
};
using Cipher = std::unique_ptr<evp_cipher_ctx_st, CipherFree>;

// One direction of one connection: records are numbered, and a number is never used twice.
class Sealer {
 public:
  explicit Sealer(std::string_view key);  // 32 bytes
  // Appends records that hold `plain`.
  void seal(std::string_view plain, std::string& out);

 private:
  void seal_record(std::string_view plain, std::string& out);
  Cipher cipher_;
  uint64_t number_ = 0;
};

class Opener {
 public:
  explicit Opener(std::string_view key);
  // Appends to `plain` what the whole records at the start of `bytes` hold; returns how many bytes
  // they take. EBADMSG: somebody has changed them, or has no key.
  Result<size_t> open(std::string_view bytes, std::string& plain);

 private:
  Cipher cipher_;
  uint64_t number_ = 0;
};

}  // namespace graftfs::net
