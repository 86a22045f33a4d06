#pragma once
// Everything that clients, ranks and nodes say to each other after the handshake
// (docs/protocols/). One struct a message; no I/O.
//
// A message names the rank that says it and the rank that it is for; where one side is a client,
// its rank is 0 and the connection says which session it is.

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "types/request.h"

namespace graftfs {

// Names a migration, or an operation on several authorities: who began it, in which epoch, and its
// number there. Never used twice.
struct ProtocolId {
  RankId rank;
  Epoch epoch;
  uint64_t number = 0;
  friend auto operator<=>(const ProtocolId&, const ProtocolId&) = default;
};

struct HoldCount {
  Ino ino;
  uint32_t count = 0;  // 0: not opened; the session was told that its last name is gone
  friend bool operator==(const HoldCount&, const HoldCount&) = default;
};

namespace msg {

// -- a client to a rank -------------------------------------------------------------------------

// Opens the session at this rank, or claims it again after the rank or the connection was lost.
struct Attach {
  Epoch known;  // of the rank, when the session was last attached; 0: new
  std::vector<HoldCount> holds;
  std::vector<LockRange> locks;
};
struct Call {
  uint64_t number = 0;  // of the connection; the answer has it, too
  bool resent = false;
  Request request;  // its session is the connection's
};
struct Resent {};  // what was to be sent again has been
struct Beat {
  uint64_t number = 0;
};
struct Detach {};  // the session ends
struct Recalled {
  uint64_t number = 0;
};
struct RightsReturned {  // to write to these files: the oldest of very many
  std::vector<Ino> inos;
};
struct HoldAnswer {
  uint64_t number = 0;
  std::vector<Ino> held;
};

// -- a rank to a client -------------------------------------------------------------------------

enum class AttachOutcome : uint8_t { fresh, kept, evicted };
struct Attached {
  Epoch epoch;
  AttachOutcome outcome = AttachOutcome::fresh;
  Lsn kept;  // the newest event that survived: what the client was told of above it is to be resent
  uint32_t lease_ms = 0;
  bool window = false;  // resent requests are waited for, then Resent
};
struct Answer {
  uint64_t number = 0;
  Lsn durable;
  Reply reply;
};
struct BeatAnswer {
  uint64_t number = 0;
  Lsn durable;
};
struct Recall {
  uint64_t number = 0;
  uint64_t order = 0;  // among the rank's answers
  Ino dir;
  bool self = false;  // its own attributes
  bool all = false;   // and everything, and the lease itself
  std::vector<std::string> names;
  std::vector<Ino> inos;
};
struct DataRecall {
  uint64_t order = 0;  // among the rank's answers
  Ino ino;
};
struct HoldQuery {
  uint64_t number = 0;
  std::vector<Ino> inos;
};
// Root 0: this rank is about to end; who has nothing under way here says Detach.
struct SessionMoved {
  uint64_t order = 0;  // among the rank's answers
  Ino root;
  RankId to;
  std::vector<HoldCount> holds;  // of the session, that went along
};
struct Evicted {};

// -- both: who is the authority for an inode? ----------------------------------------------------

struct Find {
  uint64_t number = 0;
  Ino ino;
};
struct Found {
  uint64_t number = 0;
  RankId home = kNobody;
};

// -- between ranks: subtrees ---------------------------------------------------------------------

struct Hail {
  Epoch epoch;
};  // the first message of a rank to another one
struct BoundMoved {
  Ino root;
  RankId rank;
  uint32_t moves = 0;
};
struct BoundMovedDone {
  Ino root;
  uint32_t moves = 0;
};
struct PathChanged {
  Ino root;
  std::string path;
};
struct Ancestry {
  uint64_t number = 0;
  Ino ino;
};
// `chain`: from the ino up to the root of the import that holds it; `above`: where that hangs.
struct AncestryIs {
  uint64_t number = 0;
  bool known = false;
  std::vector<Ino> chain;
  Ino above;
  RankId rank = kNobody;  // that may know `above`
};
struct StatAsk {
  uint64_t number = 0;
  Ino ino;
};
struct StatIs {
  uint64_t number = 0;
  int32_t err = 0;
  RankId home = kNobody;
  Stat stat;
};

// -- between ranks: migration --------------------------------------------------------------------

struct BoundItem {
  Ino ino;
  Ino parent;
  RankId rank;
  uint32_t moves = 0;
};
struct MigrateOffer {
  ProtocolId id;
  Ino root;
  Ino parent;
  std::string path;
  uint32_t moves = 0;
  uint64_t dirs = 0, bytes = 0;
  std::vector<BoundItem> bounds;
};
struct MigrateAccept {
  ProtocolId id;
};
struct MigrateRefuse {
  ProtocolId id;
  std::string why;
};
struct PartEntry {
  bool dirty = false;
  std::string name;
  EntryValue value;
};
struct PartDir {
  bool dirty = false;
  DirHeader header;
  NameHash known_from = 0, known_to = 0;  // of these hashes every name is known
  std::vector<PartEntry> entries;
};
struct MigratePart {
  ProtocolId id;
  uint32_t number = 0;
  std::vector<PartDir> dirs;
};
struct MigratePartDone {
  ProtocolId id;
  uint32_t number = 0;
};
struct SessionItem {
  SessionId session;
  std::vector<HoldCount> holds;
  std::vector<LockRange> locks;
};
struct MigrateFinal {
  ProtocolId id;
  uint32_t parts = 0;
  Ino root;
  Ino parent;
  std::string path;
  uint32_t moves = 0;
  std::vector<Ino> above;  // the inos above the root, up to /
  std::vector<BoundItem> bounds;
  std::vector<SessionItem> sessions;
};
struct MigrateImported {
  ProtocolId id;
};
struct MigrateFinish {
  ProtocolId id;
};
struct MigrateFinished {
  ProtocolId id;
};
struct MigrateAbort {
  ProtocolId id;
  std::string why;
};
struct MigrateAsk {
  ProtocolId id;
};
enum class MigrateFate : uint8_t { not_exported, exported, undecided };
struct MigrateTell {
  ProtocolId id;
  MigrateFate fate = MigrateFate::undecided;
};

// -- between ranks: operations on several authorities
// ----------------------------------------------

enum class IntentKind : uint8_t {
  token,
  take_name,
  swap_name,
  add_link,
  drop_link,
  drop_dir,
  hang
};
struct Intent {
  IntentKind kind = IntentKind::token;
  Ino ino;  // add_link, drop_link, drop_dir, hang; take_name: what must be there (0: anything)
  Ino dir;  // take_name, swap_name: the directory; hang: the new parent
  std::string name;     // in `dir`
  EntryValue value;     // swap_name: a link, of which kind, ino and type count
  bool as_dir = false;  // take_name: the caller's rules are rmdir's, not unlink's
  friend bool operator==(const Intent& a, const Intent& b) {
    return a.kind == b.kind && a.ino == b.ino && a.dir == b.dir && a.name == b.name &&
           a.value.kind == b.value.kind && a.value.ino == b.value.ino &&
           a.value.type == b.value.type;
  }
};
// What an intent found: for names the entry that is taken away, and the attributes of its inode
// where they are there.
struct IntentValue {
  EntryValue value;
  Stat stat;
};
struct Prepare {
  ProtocolId op;
  SessionId session;
  Credentials cred;
  Timespec now;
  bool again = false;  // a client had been answered, and its rank has lost it
  std::vector<Intent> intents;
};
struct Prepared {
  ProtocolId op;
  std::vector<IntentValue> values;
};
enum class Refusal : uint8_t { busy, ask_rank, error };
struct Refused {
  ProtocolId op;
  Refusal why = Refusal::busy;
  uint32_t phase = 0;  // error: of the checks; the lowest one is the operation's answer
  int32_t err = 0;
  RankId home = kNobody;  // ask_rank
};
struct Decide {
  ProtocolId op;
  bool commit = false;
};
struct Done {
  ProtocolId op;
  bool orphaned = false;
  Stat stat;
};
struct AskOp {
  ProtocolId op;
};
enum class OpFate : uint8_t { aborted, committed, undecided };
struct TellOp {
  ProtocolId op;
  OpFate fate = OpFate::undecided;
};

// -- a command to a node, and its answer: JSON texts
// ------------------------------------------------

struct Control {
  uint64_t number = 0;
  std::string request;
};
struct ControlAnswer {
  uint64_t number = 0;
  int32_t err = 0;
  std::string answer;
};

}  // namespace msg

// The index in this list is the type on the wire: new ones go to the end.
using Body =
    std::variant<msg::Attach, msg::Call, msg::Resent, msg::Beat, msg::Detach, msg::Recalled,
                 msg::RightsReturned, msg::HoldAnswer, msg::Attached, msg::Answer, msg::BeatAnswer,
                 msg::Recall, msg::DataRecall, msg::HoldQuery, msg::SessionMoved, msg::Evicted,
                 msg::Find, msg::Found, msg::Hail, msg::BoundMoved, msg::BoundMovedDone,
                 msg::PathChanged, msg::Ancestry, msg::AncestryIs, msg::StatAsk, msg::StatIs,
                 msg::MigrateOffer, msg::MigrateAccept, msg::MigrateRefuse, msg::MigratePart,
                 msg::MigratePartDone, msg::MigrateFinal, msg::MigrateImported, msg::MigrateFinish,
                 msg::MigrateFinished, msg::MigrateAbort, msg::MigrateAsk, msg::MigrateTell,
                 msg::Prepare, msg::Prepared, msg::Refused, msg::Decide, msg::Done, msg::AskOp,
                 msg::TellOp, msg::Control, msg::ControlAnswer>;

struct Message {
  RankId from, to;
  Body body;
};

// Who sends: each kind may say only its own.
enum class Sender : uint8_t { client, node_to_client, node_to_node, control, node_to_control };

inline constexpr size_t kMaxMessage = 1 << 20;  // bytes, encoded

const char* message_name(const Body& body);
// Appends the message; its length is the frame's business.
void encode_message(const Message& message, std::string& out);
// EBADMSG and what is wrong: bytes that make no sense, a type that there is not, or one that this
// sender may not send.
Result<Message> decode_message(std::string_view bytes, Sender sender);

}  // namespace graftfs
