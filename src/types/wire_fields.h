#pragma once
// One description of each struct's fields serves both directions: fields(archive, value) names them
// in order, and the archive writes or reads each.

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "types/wire.h"

namespace graftfs {

constexpr LockKind last_of(LockKind) { return LockKind::data; }
constexpr LockOp last_of(LockOp) { return LockOp::cancel; }
namespace msg {
// The highest value of each enumeration, for reading it.
constexpr AttachOutcome last_of(AttachOutcome) { return AttachOutcome::evicted; }
constexpr MigrateFate last_of(MigrateFate) { return MigrateFate::undecided; }
constexpr IntentKind last_of(IntentKind) { return IntentKind::hang; }
constexpr Refusal last_of(Refusal) { return Refusal::error; }
constexpr OpFate last_of(OpFate) { return OpFate::undecided; }
}  // namespace msg

namespace wire {

template <class T>
struct IsStrongId : std::false_type {};
template <class Tag, class Rep>
struct IsStrongId<StrongId<Tag, Rep>> : std::true_type {
  using rep = Rep;
};

// Writes. What it is given is not changed.
class Put {
 public:
  explicit Put(ByteWriter& w) : w_(w) {}
  template <class... T>
  void operator()(const T&... values) {
    (one(values), ...);
  }

 private:
  template <class T>
  void one(const T& v) {
    if constexpr (std::is_same_v<T, bool>) {
      w_.u8(v);
    } else if constexpr (std::is_enum_v<T>) {
      w_.varint(static_cast<uint64_t>(v));
    } else if constexpr (std::is_signed_v<T>) {
      w_.svarint(v);
    } else if constexpr (std::is_integral_v<T>) {
      w_.varint(v);
    } else if constexpr (IsStrongId<T>::value) {
      w_.varint(v.v);
    } else {
      fields(*this, const_cast<T&>(v));
    }
  }
  void one(const std::string& v) { w_.string(v); }
  void one(const Timespec& v) { encode_time(w_, v); }
  void one(const EntryValue& v) { encode_entry_body(w_, v); }
  void one(const DirHeader& v) { encode_header_body(w_, v); }
  void one(const Stat& v) {
    Inode inode;
    static_cast<Stat&>(inode) = v;
    encode_inode(w_, inode);
  }
  // Supplementary groups that were not looked up yet are, now that the request leaves.
  void one(const Credentials& v) {
    Credentials settled = v;
    settled.settle();
    (*this)(settled.uid, settled.gid, settled.groups, settled.pid);
  }
  template <class T>
  void one(const std::optional<T>& v) {
    w_.u8(v.has_value());
    if (v) one(*v);
  }
  template <class T>
  void one(const std::vector<T>& v) {
    w_.varint(v.size());
    for (const T& item : v) one(item);
  }

  ByteWriter& w_;
};

// Reads. After bytes that make no sense the reader is not ok(), and the value is anything.
class Get {
 public:
  explicit Get(ByteReader& r) : r_(r) {}
  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }

 private:
  template <class T>
  void one(T& v) {
    if constexpr (std::is_same_v<T, bool>) {
      v = flag();
    } else if constexpr (std::is_enum_v<T>) {
      uint64_t n = r_.varint();
      if (n > static_cast<uint64_t>(last_of(v))) return r_.fail();
      v = static_cast<T>(n);
    } else if constexpr (std::is_signed_v<T>) {
      int64_t n = r_.svarint();
      v = static_cast<T>(n);
      if (v != n) r_.fail();
    } else if constexpr (std::is_integral_v<T>) {
      v = number<T>();
    } else if constexpr (IsStrongId<T>::value) {
      v = T{number<typename IsStrongId<T>::rep>()};
    } else {
      fields(*this, v);
    }
  }
  template <class T>
  T number() {
    uint64_t n = r_.varint();
    auto v = static_cast<T>(n);
    if (v != n) r_.fail();
    return v;
  }
  bool flag() {
    uint8_t v = r_.u8();
    if (v > 1) r_.fail();
    return v;
  }
  void one(std::string& v) { v = r_.string(); }
  void one(Timespec& v) { v = decode_time(r_); }
  void one(EntryValue& v) { decode_entry_body(r_, v); }
  void one(DirHeader& v) { decode_header_body(r_, v); }
  void one(Stat& v) {
    Inode inode;
    decode_inode(r_, inode);
    if (inode.extra) r_.fail();
    v = inode;
  }
  void one(Credentials& v) { (*this)(v.uid, v.gid, v.groups, v.pid); }
  template <class T>
  void one(std::optional<T>& v) {
    if (flag()) one(v.emplace());
  }
  template <class T>
  void one(std::vector<T>& v) {
    uint64_t n = r_.varint();
    // Nothing takes less than a byte. Memory is taken as the items come, not as it is claimed.
    if (n > r_.remaining()) return r_.fail();
    for (uint64_t k = 0; k < n && r_.ok(); ++k) one(v.emplace_back());
  }

  ByteReader& r_;
};

}  // namespace wire
}  // namespace graftfs
