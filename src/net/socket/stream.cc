#include "net/socket/stream.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "base/check.h"
#include "base/fault.h"

namespace graftfs::net {
namespace {

constexpr size_t kReadAtOnce = 256 << 10;
constexpr size_t kHead = 4;

}  // namespace

Stream::Stream(EventLoop& loop, int fd, Events& events, Limits limits)
    : loop_(loop), fd_(fd), events_(&events), limits_(limits) {
  loop_.watch(fd_, [this] { readable(); });
}

Stream::~Stream() {
  *alive_ = false;
  if (fd_ < 0) return;
  loop_.unwatch(fd_);
  ::close(fd_);
}

void Stream::seal(const SealKeys& keys) {
  flush();  // what was sent until now
  sealer_.emplace(keys.send);
  opener_.emplace(keys.receive);
}

// -- out ------------------------------------------------------------------------------------------

void Stream::finish_frame(size_t at) {
  size_t size = out_.size() - at - kHead;
  if (size > kMaxMessage) {
    // Whoever made it should have made several.
    MARK("net.stream.frame_too_large");
    out_.resize(at);
    loop_.post([this, alive = alive_, size] {
      if (*alive) end({EMSGSIZE, fmt::format("a message of {} bytes was to be sent", size)});
    });
    return;
  }
  auto length = static_cast<uint32_t>(size);
  std::memcpy(out_.data() + at, &length, sizeof length);
  if (unsent() > limits_.send_high) full_ = true;
  if (flush_posted_) return;
  flush_posted_ = true;
  loop_.post([this, alive = alive_] {
    if (!*alive) return;
    flush_posted_ = false;
    flush();
  });
}

void Stream::flush() {
  if (fd_ < 0) return;
  if (!out_.empty()) {
    if (wire_at_ == wire_.size()) {
      wire_.clear();
      wire_at_ = 0;
    }
    if (sealer_) {
      sealer_->seal(out_, wire_);
      out_.clear();
    } else if (wire_.empty()) {
      wire_.swap(out_);
    } else {
      wire_ += out_;
      out_.clear();
    }
  }
  if (!waiting_to_write_) write_some();
  if (fd_ >= 0 && unsent() > limits_.send_limit) {
    MARK("net.stream.send_limit");
    end({ENOBUFS, "the other side does not take what is sent to it"});
  }
}

void Stream::write_some() {
  while (wire_at_ < wire_.size()) {
    ssize_t n = ::send(fd_, wire_.data() + wire_at_, wire_.size() - wire_at_, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      waiting_to_write_ = true;
      loop_.watch_writable(fd_, [this] {
        waiting_to_write_ = false;
        write_some();
      });
      break;
    }
    if (n < 0) {
      // What has arrived comes first; reading finds the end, too.
      int code = errno;
      loop_.post([this, alive = alive_, code] {
        if (*alive) end({code, std::strerror(code)});
      });
      wire_at_ = wire_.size();
      return;
    }
    wire_at_ += static_cast<size_t>(n);
  }
  if (wire_at_ == wire_.size()) {
    wire_.clear();
    wire_at_ = 0;
  } else if (wire_at_ > limits_.send_high) {
    wire_.erase(0, std::exchange(wire_at_, 0));
  }
  if (full_ && unsent() < limits_.send_high / 2) {
    full_ = false;
    if (!closing_) events_->writable_again();
  }
}

void Stream::close() {
  if (fd_ < 0) return;
  closing_ = true;
  flush();
  if (fd_ < 0) return;
  loop_.unwatch(fd_);
  ::close(std::exchange(fd_, -1));
  *alive_ = false;
}

void Stream::end(Error why) {
  if (fd_ < 0) return;
  loop_.unwatch(fd_);
  ::close(std::exchange(fd_, -1));
  *alive_ = false;
  if (!closing_) events_->ended(why);
}

// -- in -------------------------------------------------------------------------------------------

void Stream::set_reading(bool on) {
  if (std::exchange(reading_, on) == on || fd_ < 0) return;
  loop_.pause(fd_, !on);
  if (!on) return;
  loop_.post([this, alive = alive_] {
    if (*alive) take_frames();
  });
}

// As much as one read gives; the rest wakes the loop again, after the others had their turn.
void Stream::readable() {
  size_t at = in_.size();
  ssize_t n = 0;
  in_.resize_and_overwrite(at + kReadAtOnce, [&](char* p, size_t) {
    do {
      n = ::recv(fd_, p + at, kReadAtOnce, 0);
    } while (n < 0 && errno == EINTR);
    return at + static_cast<size_t>(std::max<ssize_t>(n, 0));
  });
  if (n > 0) {
    take_frames();
    return;
  }
  if (n < 0 && errno == EAGAIN) return;
  int code = n == 0 ? ECONNRESET : errno;
  if (!reading_) reading_ = true;  // it is over: what has arrived is told first
  if (!take_frames()) return;
  end({code, n == 0 ? "the other side has closed the connection" : std::strerror(code)});
}

bool Stream::take_frames() {
  if (taking_) return true;
  taking_ = true;
  auto alive = alive_;
  size_t at = 0;
  for (bool more = true; more && reading_;) {
    more = false;
    if (opener_) {
      auto opened = opener_->open(in_, plain_);
      if (!opened) {
        end(opened.error());
        return false;
      }
      in_.erase(0, *opened);
    }
    while (reading_) {
      // A frame may turn on the sealing, or destroy this.
      const bool sealed = opener_.has_value();
      std::string_view bytes = std::string_view(sealed ? plain_ : in_).substr(at);
      if (bytes.size() < kHead) break;
      uint32_t length;
      std::memcpy(&length, bytes.data(), sizeof length);
      if (length == 0 || length > max_frame_) {
        MARK("net.stream.bad_length");
        end({EBADMSG, fmt::format("a frame of {} bytes was announced", length)});
        return false;
      }
      if (bytes.size() < kHead + length) break;
      at += kHead + length;
      events_->frame(bytes.substr(kHead, length));
      if (!*alive) return false;
      if (sealed != opener_.has_value()) {
        more = true;
        break;
      }
    }
    (more ? in_ : opener_ ? plain_ : in_).erase(0, std::exchange(at, 0));
  }
  taking_ = false;
  return true;
}

}  // namespace graftfs::net
