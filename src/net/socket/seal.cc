#include "net/socket/seal.h"

#include <openssl/evp.h>

#include <cstring>

#include "base/check.h"
#include "base/fault.h"

namespace graftfs::net {
namespace {

constexpr size_t kNonce = 12;

const unsigned char* in(const char* p) { return reinterpret_cast<const unsigned char*>(p); }
unsigned char* out(char* p) { return reinterpret_cast<unsigned char*>(p); }

Cipher make(std::string_view key, bool encrypt) {
  CHECK(key.size() == 32, "a key of {} bytes", key.size());
  Cipher cipher(EVP_CIPHER_CTX_new());
  CHECK(cipher && EVP_CipherInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, in(key.data()),
                                    nullptr, encrypt) == 1);
  return cipher;
}

void begin(evp_cipher_ctx_st* cipher, uint64_t number, const char* head, bool encrypt) {
  char nonce[kNonce] = {};
  std::memcpy(nonce, &number, sizeof number);
  int n = 0;
  CHECK(EVP_CipherInit_ex(cipher, nullptr, nullptr, nullptr, in(nonce), encrypt) == 1);
  CHECK(EVP_CipherUpdate(cipher, nullptr, &n, in(head), kSealHead) == 1);
}

}  // namespace

void CipherFree::operator()(evp_cipher_ctx_st* context) const { EVP_CIPHER_CTX_free(context); }

Sealer::Sealer(std::string_view key) : cipher_(make(key, true)) {}

void Sealer::seal_record(std::string_view plain, std::string& result) {
  auto length = static_cast<uint32_t>(plain.size());
  size_t at = result.size();
  result.resize(at + kSealHead + plain.size() + kSealTag);
  char* head = result.data() + at;
  std::memcpy(head, &length, sizeof length);
  begin(cipher_.get(), number_++, head, true);
  char* body = head + kSealHead;
  int n = 0, rest = 0;
  CHECK(EVP_CipherUpdate(cipher_.get(), out(body), &n, in(plain.data()),
                         static_cast<int>(plain.size())) == 1);
  CHECK(EVP_CipherFinal_ex(cipher_.get(), out(body + n), &rest) == 1 && rest == 0);
  CHECK(EVP_CIPHER_CTX_ctrl(cipher_.get(), EVP_CTRL_GCM_GET_TAG, kSealTag, body + n) == 1);
}

void Sealer::seal(std::string_view plain, std::string& result) {
  while (!plain.empty()) {
    std::string_view record = plain.substr(0, kMaxRecord);
    seal_record(record, result);
    plain.remove_prefix(record.size());
  }
}

Opener::Opener(std::string_view key) : cipher_(make(key, false)) {}

Result<size_t> Opener::open(std::string_view bytes, std::string& plain) {
  size_t taken = 0;
  while (bytes.size() - taken >= kSealHead) {
    const char* head = bytes.data() + taken;
    uint32_t length;
    std::memcpy(&length, head, sizeof length);
    if (length == 0 || length > kMaxRecord) return fail(EBADMSG, "a record of impossible length");
    size_t whole = kSealHead + length + kSealTag;
    if (bytes.size() - taken < whole) break;
    begin(cipher_.get(), number_++, head, false);
    size_t at = plain.size();
    plain.resize(at + length);
    char tag[kSealTag];
    std::memcpy(tag, head + kSealHead + length, kSealTag);
    int n = 0, rest = 0;
    bool good = EVP_CipherUpdate(cipher_.get(), out(plain.data() + at), &n, in(head + kSealHead),
                                 static_cast<int>(length)) == 1 &&
                EVP_CIPHER_CTX_ctrl(cipher_.get(), EVP_CTRL_GCM_SET_TAG, kSealTag, tag) == 1 &&
                EVP_CipherFinal_ex(cipher_.get(), out(plain.data() + at + n), &rest) == 1;
    if (!good) {
      MARK("net.seal.wrong_tag");
      plain.resize(at);
      return fail(EBADMSG, "a record was changed on its way");
    }
    taken += whole;
  }
  return taken;
}

}  // namespace graftfs::net
