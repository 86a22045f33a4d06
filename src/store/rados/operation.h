#pragma once
// Compound operations on one object, as values: whoever carries them out (librados, or a model of a
// cluster) looks at their steps. Named as in librados.

#include <rados/buffer.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace graftfs::rados {

using bufferlist = ceph::buffer::list;

inline bufferlist to_buffer(std::string_view bytes) {
  bufferlist out;
  out.append(bytes.data(), static_cast<unsigned>(bytes.size()));
  return out;
}
inline std::string to_text(const bufferlist& buffer) { return buffer.to_str(); }

enum class Compare : uint8_t { equal, less, greater, greater_or_equal };

namespace step {

struct Create {
  bool exclusive;
};
struct AssertExists {};
// ECANCELED unless `value` HOW what is there (nothing: 0).
struct CompareAttribute {
  std::string name;
  Compare how;
  uint64_t value;
};
struct SetAttribute {
  std::string name;
  bufferlist value;
};
// ECANCELED unless what is there (nothing: empty) HOW the value, for each key; only equal and less.
struct CompareKeys {
  std::map<std::string, std::pair<bufferlist, Compare>> keys;
};
struct SetHeader {
  bufferlist header;
};
struct SetKeys {
  std::map<std::string, bufferlist> keys;
};
struct RemoveKeys {
  std::set<std::string> keys;
};
struct Write {
  uint64_t offset;
  bufferlist bytes;
};
struct WriteSame {  // the bytes again and again
  uint64_t offset, length;
  bufferlist bytes;
};
struct Truncate {
  uint64_t size;
};
struct Zero {
  uint64_t offset, length;
};
struct Remove {};
struct AllocationHint {  // written from front to back, and removed soon
  uint64_t bytes;
};
using OfWrite =
    std::variant<Create, AssertExists, CompareAttribute, SetAttribute, CompareKeys, SetHeader,
                 SetKeys, RemoveKeys, Write, WriteSame, Truncate, Zero, Remove, AllocationHint>;

struct GetHeader {
  bufferlist* header;
};
struct GetKeys {
  std::set<std::string> keys;
  std::map<std::string, bufferlist>* found;
};
// Keys behind `after` that begin with `prefix`; whoever answers may give fewer than `most`.
struct ListKeys {
  std::string after, prefix;
  uint64_t most;
  std::map<std::string, bufferlist>* found;
  bool* more;
};
struct Read {
  uint64_t offset, length;
  bufferlist* bytes;
};
struct GetSize {
  uint64_t* size;
};
struct ListWatchers {
  std::vector<uint64_t>* clients;
};
using OfRead = std::variant<GetHeader, GetKeys, ListKeys, Read, GetSize, ListWatchers>;

}  // namespace step

// Takes effect as a whole or not at all: the first step that fails is the answer.
class WriteOp {
 public:
  void create(bool exclusive) { add(step::Create{exclusive}); }
  void assert_exists() { add(step::AssertExists{}); }
  void cmpxattr(std::string name, Compare how, uint64_t value) {
    add(step::CompareAttribute{std::move(name), how, value});
  }
  void setxattr(std::string name, bufferlist value) {
    add(step::SetAttribute{std::move(name), std::move(value)});
  }
  void omap_cmp(std::map<std::string, std::pair<bufferlist, Compare>> keys) {
    add(step::CompareKeys{std::move(keys)});
  }
  void omap_set_header(bufferlist header) { add(step::SetHeader{std::move(header)}); }
  void omap_set(std::map<std::string, bufferlist> keys) { add(step::SetKeys{std::move(keys)}); }
  void omap_rm_keys(std::set<std::string> keys) { add(step::RemoveKeys{std::move(keys)}); }
  void write(uint64_t offset, bufferlist bytes) { add(step::Write{offset, std::move(bytes)}); }
  void writesame(uint64_t offset, uint64_t length, bufferlist bytes) {
    add(step::WriteSame{offset, length, std::move(bytes)});
  }
  void truncate(uint64_t size) { add(step::Truncate{size}); }
  void zero(uint64_t offset, uint64_t length) { add(step::Zero{offset, length}); }
  void remove() { add(step::Remove{}); }
  void set_alloc_hint(uint64_t bytes) { add(step::AllocationHint{bytes}); }

  const std::vector<step::OfWrite>& steps() const { return steps_; }
  std::vector<step::OfWrite>& steps() { return steps_; }

 private:
  void add(step::OfWrite s) { steps_.push_back(std::move(s)); }
  std::vector<step::OfWrite> steps_;
};

// Puts what it reads where its steps say, which must be there until it has completed.
class ReadOp {
 public:
  void omap_get_header(bufferlist* header) { add(step::GetHeader{header}); }
  void omap_get_vals_by_keys(std::set<std::string> keys, std::map<std::string, bufferlist>* found) {
    add(step::GetKeys{std::move(keys), found});
  }
  void omap_get_vals2(std::string after, std::string prefix, uint64_t most,
                      std::map<std::string, bufferlist>* found, bool* more) {
    add(step::ListKeys{std::move(after), std::move(prefix), most, found, more});
  }
  void read(uint64_t offset, uint64_t length, bufferlist* bytes) {
    add(step::Read{offset, length, bytes});
  }
  void stat(uint64_t* size) { add(step::GetSize{size}); }
  void list_watchers(std::vector<uint64_t>* clients) { add(step::ListWatchers{clients}); }

  const std::vector<step::OfRead>& steps() const { return steps_; }
  std::vector<step::OfRead>& steps() { return steps_; }

 private:
  void add(step::OfRead s) { steps_.push_back(std::move(s)); }
  std::vector<step::OfRead> steps_;
};

}  // namespace graftfs::rados
