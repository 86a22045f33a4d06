#pragma once
// One client's conversation with whoever serves the metadata.

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "types/service.h"

namespace graftfs {

// Numbers requests, keeps each until it is answered, and sends what is unanswered again, in
// order, to a service that takes over.
//
// Owner and thread: the Client, on the executor's thread. Lifetime: counted, because callbacks
// that a service still holds point here; close() ends the session's work before that. Completion:
// each `done` is called once, with the answer of the first service that gives one. After a crash
// of the service nothing is lost here: reconnect() resends. An error of the service is an answer.
class Session {
 public:
  // A counted pointer for one thread, small enough to live inside a ReplyFn.
  class Ref {
   public:
    Ref() = default;
    explicit Ref(Session* s) : s_(s) { ++s_->refs_; }
    Ref(const Ref& o) : s_(o.s_) {
      if (s_) ++s_->refs_;
    }
    Ref(Ref&& o) noexcept : s_(std::exchange(o.s_, nullptr)) {}
    Ref& operator=(Ref o) noexcept {
      std::swap(s_, o.s_);
      return *this;
    }
    ~Ref() {
      if (s_ && --s_->refs_ == 0) delete s_;
    }
    Session* operator->() const { return s_; }

   private:
    Session* s_ = nullptr;
  };

  static Ref open(SessionId id, MetadataService& service);

  void call(Credentials cred, Args args, ReplyFn done);
  // Everything unanswered goes to `service`, oldest first; late answers of the one before are
  // dropped. What is called meanwhile follows behind.
  void reconnect(MetadataService& service);
  // Tells the service; callbacks that were not called are destroyed.
  void close();

  SessionId id() const { return id_; }
  size_t unanswered() const { return waiting_; }

 private:
  struct Slot {
    Request request;
    ReplyFn done;
    bool waiting = false;
  };

  Session(SessionId id, MetadataService& service);
  Slot& slot(uint64_t index) { return ring_[index & (ring_.size() - 1)]; }
  void grow();
  void send(uint64_t index);
  void answered(uint64_t key, Reply&& reply);

  SessionId id_;
  MetadataService* service_;
  uint32_t refs_ = 0;
  bool closed_ = false;
  bool resending_ = false;
  uint16_t generation_ = 0;  // of the service, so that an old one's answers are told apart
  uint64_t last_seq_ = 0;
  uint64_t oldest_ = 1;           // every seq below it was answered
  uint64_t begin_ = 0, end_ = 0;  // indexes of the ring in use
  size_t waiting_ = 0;
  std::vector<Slot> ring_;  // a power of two
};

// Whether a request changes something, so that the rank must know it when it comes again.
bool is_remembered(const Args& args);

}  // namespace graftfs
