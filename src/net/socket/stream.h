#pragma once
// One socket: bytes in and out, in frames, plain or sealed.

#include <optional>

#include "base/event_loop.h"
#include "net/handshake.h"
#include "net/net.h"
#include "net/socket/seal.h"

namespace graftfs::net {

// Owned by whoever makes it, on the loop's thread. frame() gets each frame without its length, in
// order; it may destroy the stream. ended() is the last call, not made after close().
class Stream {
 public:
  struct Events {
    virtual ~Events() = default;
    virtual void frame(std::string_view bytes) = 0;
    virtual void ended(const Error& why) = 0;
    virtual void writable_again() {}
  };

  // Takes the descriptor, which does not block.
  Stream(EventLoop& loop, int fd, Events& events, Limits limits);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Frames larger than this end the stream.
  void set_max_frame(size_t bytes) { max_frame_ = bytes; }
  void set_events(Events& events) { events_ = &events; }
  // From here on in both directions. What was sent before leaves as it is.
  void seal(const SealKeys& keys);
  // `encode` appends the frame's bytes.
  template <class F>
  void send(F&& encode) {
    if (fd_ < 0) return;
    size_t at = out_.size();
    out_.append(4, '\0');
    encode(out_);
    finish_frame(at);
  }
  size_t unsent() const { return out_.size() + (wire_.size() - wire_at_); }
  bool writable() const { return !full_; }
  void set_reading(bool on);
  // Sends what can be sent without waiting, and closes.
  void close();

 private:
  void finish_frame(size_t at);
  void flush();
  void write_some();
  void readable();
  // False: the stream is over, or gone.
  bool take_frames();
  void end(Error why);

  EventLoop& loop_;
  int fd_;
  Events* events_;
  Limits limits_;
  size_t max_frame_ = kMaxMessage;
  std::optional<Sealer> sealer_;
  std::optional<Opener> opener_;
  std::string out_;   // frames, not sealed yet
  std::string wire_;  // bytes on their way
  size_t wire_at_ = 0;
  std::string in_;     // bytes as they came
  std::string plain_;  // opened, with an opener
  bool flush_posted_ = false;
  bool waiting_to_write_ = false;
  bool full_ = false;
  bool reading_ = true;
  bool taking_ = false;
  bool closing_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace graftfs::net
