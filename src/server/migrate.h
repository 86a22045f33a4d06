#pragma once
// Drives the state machines of migration (docs/protocols/migration.md) with messages, journal,
// cache and time: migrate.cc has what both sides share, migrate_export.cc the one that gives,
// migrate_import.cc the one that takes, migrate_pins.cc what wants to be somewhere.

#include <deque>
#include <map>
#include <memory>
#include <set>

#include "migration/copy.h"
#include "migration/exporter.h"
#include "migration/importer.h"
#include "server/heat.h"
#include "server/rank_core.h"

namespace graftfs {

using MoveFn = std::move_only_function<void(Result<void>)>;

// The extended attribute of a directory that says at which rank it is to be; its value is the
// rank's number.
inline const std::string kPinName = "graftfs.pin";
std::optional<RankId> parse_pin(std::string_view text);
std::optional<RankId> pin_of(const Inode& inode);

// How much a move would take along, as far as it is cached.
struct MovePlan {
  uint64_t dirs = 0, entries = 0;
  uint64_t dirty = 0;  // items that would go into the other rank's journal
};

// One for a rank, in its thread. A crash leaves what the journal says; recovered() takes that up.
class Migrations {
 public:
  explicit Migrations(RankCore& core);
  ~Migrations();

  // Messages about migrations. Those that belong to nothing known are answered as the protocol
  // says, or dropped.
  void receive(RankId from, Message message);
  // Exports the subtree; `done` is called once, when everybody knows or nothing has come of it.
  // Errors: EINVAL, ENOTDIR, ENOENT, EBUSY, EHOSTDOWN, EREMOTE (not this rank's), ECANCELED; with a
  // sentence. `hidden`: also a rank's hidden directory (when it retires).
  void start(Ino root, RankId to, MoveFn done, bool hidden = false);
  // nullopt: it is not this rank's, or not cached.
  std::optional<MovePlan> plan(Ino root) const;
  // Whether start() would begin, and what would go along; nothing is changed. Errors: start()'s.
  void weigh(Ino root, RankId to, std::move_only_function<void(Result<MovePlan>)> done);
  // Whether requests that touch this directory have to wait; for what. `decided`: what was promised
  // to another rank, for which an export itself waits before it is final.
  std::optional<Need> parks(const Dir& dir, bool decided = false) const;
  // The directory is being copied to another rank: nobody may keep what is told of it.
  bool gives_away(const Dir& dir) const;
  // The subtree is on its way here.
  bool takes(Ino root) const;
  bool is_frozen(const Dir& dir) const { return parks(dir).has_value(); }
  Heat& heat() { return heat_; }
  // When subtrees came to this rank that did so since its start.
  const std::map<Ino, Nanos>& arrivals() const { return arrivals_; }
  bool is_leaving() const { return leaving_ || stopping_; }
  // The directory may have a pin: if it is to be elsewhere it is moved there, as soon as it can be.
  void pinned(Ino dir);
  void peer_up(RankId rank);
  void peer_down(RankId rank);
  // The rank serves again: what the journal has left open goes on.
  void recovered();
  // The rank is to go: it takes nothing any more.
  void leave() { leaving_ = true; }
  // What it gives away next; 0: nothing is here, or all is on its way here.
  Ino next_to_leave() const;
  // The rank ends: what is not committed is given up. Takes nothing on any more.
  void stop();
  bool idle() const { return exports_.empty() && imports_.empty(); }

 private:
  // Where the root of an export hangs.
  struct Cut {
    bool is_import = false;
    Ino parent;                // 0: nowhere
    Ino within;                // the import that it is cut out of; 0: it is one itself
    bool tell_parent = false;  // the parent is another rank's
    friend bool operator==(const Cut&, const Cut&) = default;
  };
  struct Exporting {
    ProtocolId id;
    Ino root;
    RankId to;
    uint32_t moves = 0;  // as it will be
    Cut cut;
    migration::ExportState state;
    std::unique_ptr<migration::SubtreeCopy> copy;
    uint32_t parts = 0;
    bool frozen = false;
    bool recalled = false;
    std::vector<std::pair<Ino, SessionId>> handed_over;  // holds
    std::vector<Ino> locked;                             // inodes whose locks go along
    std::vector<SessionId> sessions;
    std::deque<migration::ExportInput> inputs;
    bool stepping = false;
    uint64_t timer = 0;
    uint64_t look = 0;  // the look that is due
    MoveFn done;
  };
  struct Importing {
    ProtocolId id;
    RankId from;
    Ino root;
    std::vector<Ino> bounds;
    migration::ImportState state;
    std::deque<msg::MigratePart> parts;  // that have come and were not looked at
    msg::MigratePart part;               // the one that is
    std::set<Ino> pins;                  // directories that have one
    std::optional<msg::MigrateFinal> final;
    bool gated = false;  // requests for it park
    std::deque<migration::ImportInput> inputs;
    bool stepping = false;
    uint64_t timer = 0;
    Lsn end;
  };

  // -- both --
  void say(RankId to, Body body);
  // Calls `then` when the journal is durable up to there, which is seen to at once.
  void when_durable(Lsn lsn, Fn then);
  void later(Nanos delay, Fn fn);
  bool overlaps(Ino root, const std::vector<msg::BoundItem>& bounds) const;
  void stray(RankId from, const Message& message, const ProtocolId& id);

  // -- migrate_export.cc --
  Task<void> start_task(Ino root, RankId to, MoveFn done, bool hidden);
  Task<void> weigh_task(Ino root, RankId to, std::move_only_function<void(Result<MovePlan>)> done);
  Result<void> may_export(Ino root, RankId to, bool hidden, const Place& place) const;
  void begin(Ino root, RankId to, MoveFn done);
  void feed(const ProtocolId& id, const migration::ExportInput& input);
  void carry_out(Exporting& e, migration::ExportStep step);
  void act(Exporting& e, const migration::ExportAction& action);
  Cut cut_of(Ino root) const;
  const Dir* parent_here(Ino root) const;
  bool is_as_begun(const Exporting& e) const;
  void look(Exporting& e);
  void look_soon(Exporting& e);
  bool is_quiet(const Exporting& e) const;
  void send_offer(Exporting& e);
  void send_part(Exporting& e);
  void send_final(Exporting& e);
  void log_export(Exporting& e);
  void drop(Exporting& e);
  Task<void> sweep();
  void thaw(Exporting& e);
  void send_bound_moved(Exporting& e);
  void end(const ProtocolId& id);
  std::vector<msg::BoundItem> bounds_of(const Exporting& e) const;
  std::string path_of(const Exporting& e) const;
  std::vector<Ino> above(const Exporting& e) const;
  std::vector<msg::SessionItem> sessions_of(Exporting& e) const;
  void resume_export(Ino root, const Forward& forward);

  // -- migrate_import.cc --
  void offered(RankId from, const msg::MigrateOffer& offer);
  void feed(const ProtocolId& id, const migration::ImportInput& input);
  void carry_out(Importing& i, migration::ImportStep step);
  void act(Importing& i, const migration::ImportAction& action);
  void keep_part(Importing& i);
  void log_part(Importing& i, uint32_t number);
  void log_import(Importing& i);
  void absorb(Importing& i);
  void log_end(Importing& i, bool settled);
  void open_gate(Importing& i);
  void resume_import(const Import& import);

  // -- migrate_pins.cc --
  void find_pins();
  void next_pin();

  RankCore& core_;
  std::map<ProtocolId, std::unique_ptr<Exporting>> exports_;
  std::map<ProtocolId, std::unique_ptr<Importing>> imports_;
  uint64_t next_number_ = 1;
  std::set<Ino> pins_;  // to be looked at
  bool pinning_ = false;
  bool leaving_ = false;
  Heat heat_;
  std::map<Ino, Nanos> arrivals_;
  bool stopping_ = false;
  std::shared_ptr<bool> alive_;
};

}  // namespace graftfs
