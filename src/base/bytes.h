#pragma once
// Building and taking apart byte strings. Fixed-width numbers are little endian; varints are
// LEB128 (7 bits a byte, low bits first, at most 10 bytes).

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace graftfs {

static_assert(std::endian::native == std::endian::little, "the formats are little endian");

// Appends to a string that the caller owns.
class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}

  void u8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void u16(uint16_t v) { fixed(v); }
  void u32(uint32_t v) { fixed(v); }
  void u64(uint64_t v) { fixed(v); }
  void varint(uint64_t v) {
    char buffer[10];
    int n = 0;
    while (v >= 0x80) {
      buffer[n++] = static_cast<char>(v | 0x80);
      v >>= 7;
    }
    buffer[n++] = static_cast<char>(v);
    out_.append(buffer, n);
  }
  // Small negative numbers stay small (zigzag).
  void svarint(int64_t v) {
    varint((static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63));
  }
  // Length as a varint, then the bytes.
  void string(std::string_view s) {
    varint(s.size());
    out_.append(s);
  }
  void raw(std::string_view s) { out_.append(s); }
  size_t size() const { return out_.size(); }
  std::string& buffer() { return out_; }

 private:
  template <class T>
  void fixed(T v) {
    char buffer[sizeof v];
    std::memcpy(buffer, &v, sizeof v);
    out_.append(buffer, sizeof v);
  }
  std::string& out_;
};

// Reads from bytes that the caller keeps alive. Reading past the end, or a malformed varint,
// makes ok() false for good and yields zeros: callers check ok() once, at the end, and bound
// every count they read by remaining().
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : p_(bytes.data()), end_(p_ + bytes.size()) {}

  uint8_t u8() { return fixed<uint8_t>(); }
  uint16_t u16() { return fixed<uint16_t>(); }
  uint32_t u32() { return fixed<uint32_t>(); }
  uint64_t u64() { return fixed<uint64_t>(); }
  uint64_t varint() {
    if (p_ < end_ && !(*p_ & 0x80)) [[likely]]
      return static_cast<uint8_t>(*p_++);
    return varint_slow();
  }
  int64_t svarint() {
    uint64_t v = varint();
    return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
  }
  std::string_view string() { return raw(varint()); }
  std::string_view raw(uint64_t n) {
    if (n > remaining()) {
      fail();
      return {};
    }
    std::string_view s(p_, n);
    p_ += n;
    return s;
  }
  size_t remaining() const { return static_cast<size_t>(end_ - p_); }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && p_ == end_; }
  void fail() {
    ok_ = false;
    p_ = end_;
  }

 private:
  template <class T>
  T fixed() {
    T v{};
    if (remaining() < sizeof v) {
      fail();
      return v;
    }
    std::memcpy(&v, p_, sizeof v);
    p_ += sizeof v;
    return v;
  }
  uint64_t varint_slow() {
    uint64_t v = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (p_ == end_) break;
      uint8_t byte = static_cast<uint8_t>(*p_++);
      if (shift == 63 && byte > 1) break;
      v |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (!(byte & 0x80)) return v;
    }
    fail();
    return 0;
  }

  const char* p_;
  const char* end_;
  bool ok_ = true;
};

}  // namespace graftfs
