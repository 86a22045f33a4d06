#pragma once
// What POSIX says: a model of the file system's names and attributes, in memory, written from the
// man pages and not from the rank.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "types/request.h"

namespace graftfs::sim {

// What of an inode is shown, or was changed.
struct Part {
  enum What {
    all,
    self,  // of a directory: what its names do not move (permissions, whether it was removed)
    name,  // of a directory: whether it has this name, and what for
  };
  Ino ino;
  What what = all;
  std::string of;  // the name
  friend auto operator<=>(const Part&, const Part&) = default;

  // With a part of it the inode is another one, too.
  Part whole() const { return {ino, all, {}}; }
};

struct ModelNode {
  Stat stat;                         // blocks are not modelled
  std::map<std::string, Ino> names;  // of a directory
  Ino parent;                        // of a directory
  std::string target;                // of a symlink
  std::map<std::string, std::string> xattrs;

  // When an operation of several ranks has changed its names last. What one of them does later may
  // be done before its part of that, and bear an earlier time where clocks differ.
  Timespec late;
};

// What a request should be answered.
struct Expected {
  int err = 0;
  bool has_stat = false;
  Stat stat;
  std::string data;
  bool created = false, orphaned = false;
  bool logs = false;           // an event must have been logged
  std::vector<Part> shown;     // whose state the reply reveals
  std::vector<Part> changed;   // whose state it changed
  bool may_be_stale = false;   // the inode may be purged already: ESTALE is right, too
  bool may_be_full = false;    // ENOSPC is right, too, when the disk is small
  bool atime_skipped = false;  // atime should have moved and did not: right on a full disk only
};

// A value: copies are snapshots. All callers are root (permissions are tested elsewhere).
class Model {
 public:
  Model();

  // Executes the request at time `now`; `actual` is only used for what the rank is free to choose
  // (the ino of a new inode, how many entries are on a page, atime where there is no space).
  // `late`: several ranks carry it out, and what others did meanwhile may bear a later time.
  Expected execute(const Request& request, const Reply& actual, bool logged, Timespec now,
                   bool late = false);
  // `changed` was changed by this event of this session.
  void note_change(const Expected& expected, SessionId session, Lsn lsn);
  // The newest events that must be written, and durable, before the reply may be shown.
  Lsn reveals(const Expected& expected, SessionId session, Durability mode) const;

  const std::map<Ino, ModelNode>& nodes() const { return nodes_; }
  const ModelNode* find(Ino ino) const;
  // An orphan turned out to be purged.
  void forget(Ino ino);
  bool is_orphan(Ino ino) const;
  // How the root came into being is the rank's business.
  void set_root(const Stat& stat) { nodes_.at(kRootIno).stat = stat; }
  // What takes other ranks to check is not checked first: whether a rename makes a loop, whether
  // the inode that gets another name is there.
  void check_others_last(bool on) { others_last_ = on; }

 private:
  struct Call;
  ModelNode* node(Ino ino);
  ModelNode* dir(Call& call, Ino ino);
  ModelNode* any(Call& call, Ino ino);
  ModelNode* parent_for(Call& call, Ino ino, const std::string& name);
  static bool taken(Call& call, const ModelNode& dir, const std::string& name);
  ModelNode* named(Call& call, ModelNode& dir, const std::string& name);
  ModelNode* make(Call& call, Ino dir, const std::string& name, uint32_t mode);
  void drop(Call& call, ModelNode& victim);
  void access(Call& call, ModelNode& node);
  void open(Call& call, ModelNode& node, uint32_t flags);
  bool is_below(Ino ino, Ino ancestor) const;
  void settle_times(const Stat& actual);

  void run(Call& call, const LookupArgs& a);
  void run(Call& call, const LookupParentArgs& a);
  void run(Call& call, const GetattrArgs& a);
  void run(Call& call, const SetattrArgs& a);
  void run(Call& call, const MknodArgs& a);
  void run(Call& call, const MkdirArgs& a);
  void run(Call& call, const CreateArgs& a);
  void run(Call& call, const SymlinkArgs& a);
  void run(Call& call, const ReadlinkArgs& a);
  void run(Call& call, const LinkArgs& a);
  void run(Call& call, const UnlinkArgs& a);
  void run(Call& call, const RmdirArgs& a);
  void run(Call& call, const RenameArgs& a);
  void run(Call& call, const OpenArgs& a);
  void run(Call& call, const ReleaseArgs& a);
  void run(Call& call, const WroteArgs& a);
  void run(Call& call, const ReadArgs& a);
  void run(Call& call, const ReaddirArgs& a);
  void run(Call& call, const GetxattrArgs& a);
  void run(Call& call, const ListxattrArgs& a);
  void run(Call& call, const SetxattrArgs& a);
  void run(Call& call, const RemovexattrArgs& a);
  void run(Call& call, const AccessArgs& a);
  void run(Call&, const LockArgs&) {}  // locks are no part of the tree
  void run(Call& call, const StatfsArgs& a);
  void run(Call& call, const SyncArgs& a);

  struct Mark {  // who changed it last, to know what a reply reveals
    Lsn last, other;
    SessionId session;
  };
  std::map<Ino, ModelNode> nodes_;
  std::map<Part, Mark> marks_;
  std::set<Ino> used_;  // every ino there ever was
  bool others_last_ = false;
};

// "" where the reply is as expected, else what differs.
std::string difference(const Expected& expected, const Reply& actual, bool logged);
std::string describe_stat(const Stat& stat);

}  // namespace graftfs::sim
