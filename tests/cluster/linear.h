#pragma once
// Whether what several callers were answered can be explained by one order of their calls, in which
// each took effect at one moment between its call and its answer (linearizability).

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace graftfs {

// Where an entry may be: some names in some directories, numbered by whoever records.
inline constexpr int kMostSlots = 32;
inline constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// One call and what it was answered. Times are of one clock; an answer that leaves open whether
// it was done (EIO) has none: `answered` is kNever, and it may have had its effect or not.
struct Op {
  enum Kind : uint8_t {
    make_file,
    make_dir,
    unlink,
    rmdir,
    look,     // slot leads to ino
    links,    // ino has so many
    link,     // ino gets slot
    rename,   // slot to `to`, where nothing may be
    replace,  // a file at slot, to `to`, whatever file is there
    list,     // the slots of a directory
  };
  Kind kind = look;
  int caller = 0;
  int64_t called = 0, answered = kNever;
  int slot = -1, to = -1;
  int err = 0;
  uint64_t ino = 0;
  bool is_dir = false;
  uint32_t nlink = 0;
  uint32_t among = 0, found = 0;  // of a list: the slots of the directory, and those it names
};
std::string describe(const Op& op);

// The names of a small tree, and what they lead to.
class Names {
 public:
  // Whether `op` can be answered so now; then it has had its effect. Of an op without an answer:
  // whether it can have an effect now.
  bool apply(const Op& op);
  // The same for two states that nobody can tell apart by what was answered so far.
  std::string key() const;

 private:
  struct Node {
    bool is_dir = false;
    uint32_t nlink = 1;
    uint64_t ino = 0;  // 0: nobody was told
  };
  Node* at(int slot) { return slots_[slot] < 0 ? nullptr : &nodes_[slots_[slot]]; }
  Node* known(uint64_t ino);
  bool put(int slot, bool is_dir);
  bool drop(int slot);
  bool learn(Node& node, uint64_t ino);

  std::array<int8_t, kMostSlots> slots_ = make_empty();
  std::vector<Node> nodes_;
  static constexpr std::array<int8_t, kMostSlots> make_empty() {
    std::array<int8_t, kMostSlots> all{};
    all.fill(-1);
    return all;
  }
};

// Looks for such an order (Wing and Gong's search, with Lowe's memory of where it has been), from a
// tree in which nothing is. Empty: there is one; else the history, and how far the best order
// came. At most kMostOps.
inline constexpr size_t kMostOps = 256;
std::string why_not_linearizable(std::vector<Op> history);

}  // namespace graftfs
