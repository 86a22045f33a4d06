#pragma once
// What ranks have leased to this client: names and attributes (docs/protocols/leases.md).

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/container/inlined_vector.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "types/wire.h"

namespace graftfs {

// Answers lookups and getattrs as the rank would at this moment. Entries (also of names that do not
// exist) and attributes are kept by the directory whose lease they stand on; they are used only
// while what `valid` says of its rank is true, and forgotten when that recalls them. What this
// client itself is changing is neither answered from here nor put in here until the change is
// answered; and an answer that a rank gave before its latest recall, or before a change of this
// client that was answered already, may be used by whoever asked, and is not kept.
//
// Owned by the Router, in the executor's thread. A crash or an error of a rank ends what it has
// leased: drop(). Memory: at most kMost names and as many inodes; past that everything is
// forgotten.
class LeaseCache {
 public:
  explicit LeaseCache(std::function<bool(RankId)> valid) : valid_(std::move(valid)) {}

  // Nothing: the rank has to be asked.
  std::optional<Reply> answer(const Credentials& cred, const Args& args);
  // A request is on its way. What it may change is not known until end(); 0: it changes nothing.
  uint64_t begin(const Args& args);
  // `reply`: null where it is not known.
  void end(uint64_t change, const Args& args, const Reply* reply);
  // A rank has answered.
  void told(RankId rank, const Credentials& cred, const Args& args, const Reply& reply);
  // It has carried out a change for this client.
  void changed(RankId rank, const Reply& reply) { raise(rank, reply.order); }
  void recall(RankId rank, const msg::Recall& recall);
  // The connection is another one: what the rank has leased is over.
  void drop(RankId rank);

  // The kernel (or whoever else calls) has checked permissions to search a directory.
  bool caller_checks = false;
  size_t names() const { return names_; }
  size_t inodes() const { return attrs_.size(); }
  size_t busy() const { return changes_.size(); }  // requests that change something, under way
  uint64_t hits() const { return hits_; }
  uint64_t recalls() const { return recalls_; }
  static constexpr size_t kMost = 1 << 18;

 private:
  using Name = std::pair<Ino, std::string>;
  struct Who {
    uint32_t uid, gid;
    std::vector<uint32_t> groups;
    friend bool operator==(const Who&, const Who&) = default;
  };
  struct DirLease {
    RankId rank;
    absl::flat_hash_map<std::string, Ino> names;  // Ino 0: there is none
    absl::flat_hash_set<Ino> inos;                // whose attributes stand on it
    std::vector<Who> searched;                    // who was let in
  };
  struct Attr {
    Stat stat;
    Ino home;
  };
  struct Change {
    absl::InlinedVector<Name, 2> names;
    absl::InlinedVector<Ino, 4> inos;
    bool wild = false;  // an inode that is not known loses a name
  };

  static Who who(const Credentials& cred);
  DirLease* leased(Ino dir);
  DirLease* lease_of(RankId rank, Ino dir);
  bool may_search(DirLease& lease, Ino dir, const Credentials& cred) const;
  void let_in(DirLease& lease, Ino dir, const Credentials& cred);
  const Attr* attr(Ino ino, RankId* rank);
  void keep_attr(RankId rank, Ino home, const Stat& stat);
  void keep_name(DirLease& lease, Ino dir, const std::string& name, Ino ino);
  void drop_name(Ino dir, const std::string& name);
  void drop_inode(Ino ino);
  void drop_dir(Ino dir);
  void drop_all();
  void drop_attrs();
  void victim(Change& change, Ino dir, const std::string& name);
  void make_wild(Change& change);
  void raise(RankId rank, uint64_t order);
  Change touched(const Args& args);

  std::function<bool(RankId)> valid_;
  absl::flat_hash_map<Ino, DirLease> dirs_;
  absl::flat_hash_map<Ino, Attr> attrs_;
  size_t names_ = 0;
  std::map<RankId, uint64_t> floor_;  // of the orders of answers that may be kept
  std::map<uint64_t, Change> changes_;
  uint64_t last_change_ = 0;
  absl::flat_hash_map<Ino, int> busy_inos_;
  absl::flat_hash_map<Name, int> busy_names_;
  int wild_ = 0;
  uint64_t hits_ = 0, recalls_ = 0;
};

// Whether a rank that carries it out changes something that another answer may have told of.
bool changes_what_is_kept(const Args& args);

}  // namespace graftfs
