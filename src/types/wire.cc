#include "types/wire.h"

#include <fmt/format.h>

#include <array>

#include "types/wire_fields.h"

namespace graftfs {

// Found by the archives through their arguments' namespaces.
#define FIELDS(Type, ...)      \
  template <class A>           \
  void fields(A& a, Type& v) { \
    a(__VA_ARGS__);            \
  }
#define EMPTY(Type)  \
  template <class A> \
  void fields(A&, Type&) {}

// -- requests: their fields are limited by what an operation accepts; here only by the message ----

FIELDS(LookupArgs, v.dir, v.name)
FIELDS(LookupParentArgs, v.dir)
FIELDS(GetattrArgs, v.ino)
FIELDS(SetattrArgs, v.ino, v.valid, v.mode, v.uid, v.gid, v.size, v.blocks, v.atime, v.mtime,
       v.ctime, v.by_handle)
FIELDS(MknodArgs, v.dir, v.name, v.mode, v.umask, v.rdev)
FIELDS(MkdirArgs, v.dir, v.name, v.mode, v.umask)
FIELDS(CreateArgs, v.dir, v.name, v.mode, v.umask, v.exclusive, v.flags)
FIELDS(SymlinkArgs, v.dir, v.name, v.target)
FIELDS(ReadlinkArgs, v.ino)
FIELDS(LinkArgs, v.ino, v.dir, v.name)
FIELDS(UnlinkArgs, v.dir, v.name)
FIELDS(RmdirArgs, v.dir, v.name)
FIELDS(RenameArgs, v.dir, v.name, v.new_dir, v.new_name, v.flags)
FIELDS(OpenArgs, v.ino, v.flags)
FIELDS(ReleaseArgs, v.ino, v.count)
FIELDS(WroteArgs, v.ino, v.end, v.blocks, v.kill_suidgid, v.only_blocks)
FIELDS(ReadArgs, v.ino)
FIELDS(ReaddirArgs, v.dir, v.cookie, v.max, v.plus)
FIELDS(GetxattrArgs, v.ino, v.name)
FIELDS(ListxattrArgs, v.ino)
FIELDS(SetxattrArgs, v.ino, v.name, v.value, v.flags)
FIELDS(RemovexattrArgs, v.ino, v.name)
FIELDS(AccessArgs, v.ino, v.mask)
EMPTY(StatfsArgs)
FIELDS(LockRange, v.ino, v.owner, v.start, v.end, v.exclusive, v.kind, v.pid)
FIELDS(LockArgs, v.op, v.range, v.number)
EMPTY(SyncArgs)
FIELDS(Redo, v.ino, v.when)

FIELDS(ListedEntry, v.name, v.cookie, v.ino, v.type, v.stat, v.here)
FIELDS(StatfsReply, v.block_size, v.blocks, v.blocks_free, v.blocks_available, v.files,
       v.files_free)

namespace {

template <class Variant, size_t... I>
bool emplace(Variant& v, size_t index, std::index_sequence<I...>) {
  return ((index == I && (v.template emplace<I>(), true)) || ...);
}
template <class Variant>
bool emplace(Variant& v, size_t index) {
  return emplace(v, index, std::make_index_sequence<std::variant_size_v<Variant>>{});
}

void put_variant(wire::Put& a, ByteWriter& w, const Args& args) {
  w.varint(args.index());
  std::visit([&](const auto& v) { a(v); }, args);
}

// What most answers do not have costs one bit each.
enum ReplyHas : uint32_t {
  kStat = 1,
  kData = 2,
  kEntries = 4,
  kEnd = 8,
  kCreated = 16,
  kOrphaned = 32,
  kStatfs = 64,
  kHome = 128,
  kPartial = 256,
  kLeased = 512,
  kLsn = 1024,
  kNamed = 2048,
  kOrder = 4096,
  kLock = 8192,
  kDir = 16384,
  kMayWrite = 32768,
  kAll = 65535,
};

void put_reply(wire::Put& a, ByteWriter& w, const Reply& r) {
  uint32_t has = 0;
  if (r.stat != Stat{}) has |= kStat;
  if (!r.data.empty()) has |= kData;
  if (!r.entries.empty()) has |= kEntries;
  if (r.end) has |= kEnd;
  if (r.created) has |= kCreated;
  if (r.orphaned) has |= kOrphaned;
  if (r.statfs) has |= kStatfs;
  if (r.home != RankId{}) has |= kHome;
  if (r.partial) has |= kPartial;
  if (r.leased) has |= kLeased;
  if (r.lsn) has |= kLsn;
  if (r.named) has |= kNamed;
  if (r.order) has |= kOrder;
  if (r.lock) has |= kLock;
  if (r.dir) has |= kDir;
  if (r.may_write) has |= kMayWrite;
  w.varint(static_cast<uint32_t>(r.err));
  w.varint(has);
  if (has & kStat) a(r.stat);
  if (has & kData) a(r.data);
  if (has & kEntries) a(r.entries);
  if (has & kStatfs) a(*r.statfs);
  if (has & kHome) a(r.home);
  if (has & kLeased) a(r.leased);
  if (has & kLsn) a(r.lsn);
  if (has & kOrder) a(r.order);
  if (has & kLock) a(*r.lock);
  if (has & kDir) a(*r.dir);
}

void get_reply(wire::Get& a, ByteReader& r, Reply& v) {
  uint32_t err = 0, has = 0;
  a(err, has);
  if (err > INT32_MAX || has & ~uint32_t{kAll}) return r.fail();
  v.err = static_cast<int>(err);
  if (has & kStat) a(v.stat);
  if (has & kData) a(v.data);
  if (has & kEntries) a(v.entries);
  if (has & kStatfs) a(v.statfs.emplace());
  if (has & kHome) a(v.home);
  if (has & kLeased) a(v.leased);
  if (has & kLsn) a(v.lsn);
  if (has & kOrder) a(v.order);
  if (has & kLock) a(v.lock.emplace());
  if (has & kDir) a(v.dir.emplace());
  v.end = has & kEnd;
  v.created = has & kCreated;
  v.orphaned = has & kOrphaned;
  v.partial = has & kPartial;
  v.named = has & kNamed;
  v.may_write = has & kMayWrite;
}

}  // namespace

// -- messages -----------------------------------------------------------------------------------

FIELDS(ProtocolId, v.rank, v.epoch, v.number)
FIELDS(HoldCount, v.ino, v.count)

namespace msg {

FIELDS(Attach, v.known, v.holds, v.locks)
EMPTY(Resent)
FIELDS(Beat, v.number)
EMPTY(Detach)
FIELDS(Recalled, v.number)
FIELDS(RightsReturned, v.inos)
FIELDS(HoldAnswer, v.number, v.held)
FIELDS(Attached, v.epoch, v.outcome, v.kept, v.lease_ms, v.window)
FIELDS(BeatAnswer, v.number, v.durable)
FIELDS(Recall, v.number, v.order, v.dir, v.self, v.all, v.names, v.inos)
FIELDS(DataRecall, v.order, v.ino)
FIELDS(HoldQuery, v.number, v.inos)
FIELDS(SessionMoved, v.order, v.root, v.to, v.holds)
EMPTY(Evicted)
FIELDS(Find, v.number, v.ino)
FIELDS(Found, v.number, v.home)
FIELDS(Hail, v.epoch)
FIELDS(BoundMoved, v.root, v.rank, v.moves)
FIELDS(BoundMovedDone, v.root, v.moves)
FIELDS(PathChanged, v.root, v.path)
FIELDS(Ancestry, v.number, v.ino)
FIELDS(AncestryIs, v.number, v.known, v.chain, v.above, v.rank)
FIELDS(StatAsk, v.number, v.ino)
FIELDS(StatIs, v.number, v.err, v.home, v.stat)
FIELDS(BoundItem, v.ino, v.parent, v.rank, v.moves)
FIELDS(MigrateOffer, v.id, v.root, v.parent, v.path, v.moves, v.dirs, v.bytes, v.bounds)
FIELDS(MigrateAccept, v.id)
FIELDS(MigrateRefuse, v.id, v.why)
FIELDS(PartEntry, v.dirty, v.name, v.value)
FIELDS(PartDir, v.dirty, v.header, v.known_from, v.known_to, v.entries)
FIELDS(MigratePart, v.id, v.number, v.dirs)
FIELDS(MigratePartDone, v.id, v.number)
FIELDS(SessionItem, v.session, v.holds, v.locks)
FIELDS(MigrateFinal, v.id, v.parts, v.root, v.parent, v.path, v.moves, v.above, v.bounds,
       v.sessions)
FIELDS(MigrateImported, v.id)
FIELDS(MigrateFinish, v.id)
FIELDS(MigrateFinished, v.id)
FIELDS(MigrateAbort, v.id, v.why)
FIELDS(MigrateAsk, v.id)
FIELDS(MigrateTell, v.id, v.fate)
FIELDS(Intent, v.kind, v.ino, v.dir, v.name, v.value, v.as_dir)
FIELDS(IntentValue, v.value, v.stat)
FIELDS(Prepare, v.op, v.session, v.cred, v.now, v.again, v.intents)
FIELDS(Prepared, v.op, v.values)
FIELDS(Refused, v.op, v.why, v.phase, v.err, v.home)
FIELDS(Decide, v.op, v.commit)
FIELDS(Done, v.op, v.orphaned, v.stat)
FIELDS(AskOp, v.op)
FIELDS(TellOp, v.op, v.fate)
FIELDS(Control, v.number, v.request)
FIELDS(ControlAnswer, v.number, v.err, v.answer)

}  // namespace msg

namespace {

struct Encoder {
  ByteWriter& w;
  wire::Put a;

  template <class T>
  void operator()(const T& m) {
    a(m);
  }
  void operator()(const msg::Call& m) {
    a(m.number, m.resent, m.request.seq, m.request.oldest, m.request.cred, m.request.redo);
    put_variant(a, w, m.request.args);
  }
  void operator()(const msg::Answer& m) {
    a(m.number, m.durable);
    put_reply(a, w, m.reply);
  }
};

struct Decoder {
  ByteReader& r;
  wire::Get a;

  template <class T>
  void operator()(T& m) {
    a(m);
  }
  void operator()(msg::Call& m) {
    a(m.number, m.resent, m.request.seq, m.request.oldest, m.request.cred, m.request.redo);
    uint64_t kind = r.varint();
    if (!r.ok() || !emplace(m.request.args, kind)) return r.fail();
    std::visit([&](auto& v) { a(v); }, m.request.args);
  }
  void operator()(msg::Answer& m) {
    a(m.number, m.durable);
    get_reply(a, r, m.reply);
  }
};

enum By : uint8_t {
  kClient = 1 << static_cast<int>(Sender::client),
  kToClient = 1 << static_cast<int>(Sender::node_to_client),
  kNode = 1 << static_cast<int>(Sender::node_to_node),
  kControl = 1 << static_cast<int>(Sender::control),
  kToControl = 1 << static_cast<int>(Sender::node_to_control),
};
struct Kind {
  const char* name;
  uint8_t by;
};
constexpr Kind kKinds[] = {
    {"Attach", kClient},
    {"Call", kClient},
    {"Resent", kClient},
    {"Beat", kClient},
    {"Detach", kClient},
    {"Recalled", kClient},
    {"RightsReturned", kClient},
    {"HoldAnswer", kClient},
    {"Attached", kToClient},
    {"Answer", kToClient},
    {"BeatAnswer", kToClient},
    {"Recall", kToClient},
    {"DataRecall", kToClient},
    {"HoldQuery", kToClient},
    {"SessionMoved", kToClient},
    {"Evicted", kToClient},
    {"Find", kClient | kNode},
    {"Found", kToClient | kNode},
    {"Hail", kNode},
    {"BoundMoved", kNode},
    {"BoundMovedDone", kNode},
    {"PathChanged", kNode},
    {"Ancestry", kNode},
    {"AncestryIs", kNode},
    {"StatAsk", kNode},
    {"StatIs", kNode},
    {"MigrateOffer", kNode},
    {"MigrateAccept", kNode},
    {"MigrateRefuse", kNode},
    {"MigratePart", kNode},
    {"MigratePartDone", kNode},
    {"MigrateFinal", kNode},
    {"MigrateImported", kNode},
    {"MigrateFinish", kNode},
    {"MigrateFinished", kNode},
    {"MigrateAbort", kNode},
    {"MigrateAsk", kNode},
    {"MigrateTell", kNode},
    {"Prepare", kNode},
    {"Prepared", kNode},
    {"Refused", kNode},
    {"Decide", kNode},
    {"Done", kNode},
    {"AskOp", kNode},
    {"TellOp", kNode},
    {"Control", kControl},
    {"ControlAnswer", kToControl},
};
static_assert(std::size(kKinds) == std::variant_size_v<Body>);

const char* sender_name(Sender sender) {
  static constexpr const char* names[] = {"a client", "a node", "a node", "a control connection",
                                          "a node"};
  return names[static_cast<int>(sender)];
}

}  // namespace

const char* message_name(const Body& body) { return kKinds[body.index()].name; }

void encode_message(const Message& message, std::string& out) {
  ByteWriter w(out);
  w.u8(static_cast<uint8_t>(message.body.index()));
  w.varint(message.from.v);
  w.varint(message.to.v);
  Encoder encoder{w, wire::Put(w)};
  std::visit(encoder, message.body);
}

Result<Message> decode_message(std::string_view bytes, Sender sender) {
  ByteReader r(bytes);
  wire::Get get(r);
  uint8_t type = r.u8();
  if (!r.ok()) return fail(EBADMSG, "an empty message");
  if (type >= std::size(kKinds))
    return fail(EBADMSG,
                fmt::format("a message of type {}, which this version does not know", type));
  if (!(kKinds[type].by & 1 << static_cast<int>(sender)))
    return fail(EBADMSG,
                fmt::format("{}, which {} may not send", kKinds[type].name, sender_name(sender)));
  Message message;
  get(message.from, message.to);
  emplace(message.body, type);
  Decoder decoder{r, wire::Get(r)};
  std::visit(decoder, message.body);
  if (!r.done()) return fail(EBADMSG, fmt::format("a malformed {}", kKinds[type].name));
  return message;
}

}  // namespace graftfs
