#include "client/session.h"

#include "base/check.h"
#include "base/fault.h"

namespace graftfs {

bool is_remembered(const Args& args) {
  struct Visitor {
    bool operator()(const LookupArgs&) const { return false; }
    bool operator()(const LookupParentArgs&) const { return false; }
    bool operator()(const GetattrArgs&) const { return false; }
    bool operator()(const ReadlinkArgs&) const { return false; }
    bool operator()(const ReaddirArgs&) const { return false; }
    bool operator()(const GetxattrArgs&) const { return false; }
    bool operator()(const ListxattrArgs&) const { return false; }
    bool operator()(const AccessArgs&) const { return false; }
    bool operator()(const StatfsArgs&) const { return false; }
    bool operator()(const SyncArgs&) const { return false; }
    bool operator()(const LockArgs&) const { return false; }
    bool operator()(const ReadArgs&) const { return false; }  // the same again does no harm
    bool operator()(const SetattrArgs&) const { return true; }
    bool operator()(const MknodArgs&) const { return true; }
    bool operator()(const MkdirArgs&) const { return true; }
    bool operator()(const CreateArgs&) const { return true; }
    bool operator()(const SymlinkArgs&) const { return true; }
    bool operator()(const LinkArgs&) const { return true; }
    bool operator()(const UnlinkArgs&) const { return true; }
    bool operator()(const RmdirArgs&) const { return true; }
    bool operator()(const RenameArgs&) const { return true; }
    bool operator()(const OpenArgs&) const { return true; }
    bool operator()(const ReleaseArgs&) const { return true; }
    bool operator()(const WroteArgs&) const { return true; }
    bool operator()(const SetxattrArgs&) const { return true; }
    bool operator()(const RemovexattrArgs&) const { return true; }
  };
  return std::visit(Visitor{}, args);
}

Session::Session(SessionId id, MetadataService& service) : id_(id), service_(&service) {
  ring_.resize(64);
}

Session::Ref Session::open(SessionId id, MetadataService& service) {
  Ref ref(new Session(id, service));
  service.open_session(id);
  return ref;
}

void Session::grow() {
  std::vector<Slot> bigger(ring_.size() * 2);
  for (uint64_t i = begin_; i != end_; ++i) bigger[i & (bigger.size() - 1)] = std::move(slot(i));
  ring_ = std::move(bigger);
}

void Session::call(Credentials cred, Args args, ReplyFn done) {
  if (closed_) return;
  if (end_ - begin_ == ring_.size()) grow();
  uint64_t index = end_++;
  Slot& s = slot(index);
  s.request.session = id_;
  s.request.seq = is_remembered(args) ? ++last_seq_ : 0;
  s.request.cred = std::move(cred);
  s.request.args = std::move(args);
  s.done = std::move(done);
  s.waiting = true;
  ++waiting_;
  if (!resending_) send(index);
}

void Session::send(uint64_t index) {
  Slot& s = slot(index);
  s.request.oldest = oldest_;
  Request copy = s.request;
  uint64_t key = index << 16 | generation_;
  // The slot may move or be reused inside submit().
  service_->submit(std::move(copy), [self = Ref(this), key](Reply&& reply) {
    self->answered(key, std::move(reply));
  });
}

void Session::answered(uint64_t key, Reply&& reply) {
  uint64_t index = key >> 16;
  if (closed_ || static_cast<uint16_t>(key) != generation_ || index < begin_) {
    MARK("client.late_answer");
    return;
  }
  Slot& s = slot(index);
  CHECK(s.waiting, "request {} was answered twice", index);
  ReplyFn done = std::move(s.done);
  s.waiting = false;
  s.request.args.emplace<StatfsArgs>();  // long names and values are freed now
  --waiting_;
  while (begin_ != end_ && !slot(begin_).waiting) {
    if (slot(begin_).request.seq) oldest_ = slot(begin_).request.seq + 1;
    ++begin_;
  }
  if (done) done(std::move(reply));
}

void Session::reconnect(MetadataService& service) {
  Ref self(this);
  service_ = &service;
  ++generation_;
  service_->open_session(id_);
  resending_ = true;
  uint16_t generation = generation_;
  for (uint64_t i = begin_; i < end_ && generation == generation_ && !closed_; ++i) {
    if (i < begin_ || !slot(i).waiting) continue;
    MARK("client.resent");
    send(i);
  }
  if (generation == generation_) resending_ = false;
}

void Session::close() {
  if (closed_) return;
  closed_ = true;
  service_->close_session(id_);
  // Callbacks may own what calls back into here; they go when nothing refers to them.
  std::vector<Slot> dropped = std::move(ring_);
  ring_.clear();
  begin_ = end_ = waiting_ = 0;
}

}  // namespace graftfs
