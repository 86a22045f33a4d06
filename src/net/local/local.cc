#include "net/local/local.h"

#include <fmt/format.h>

#include <atomic>
#include <utility>

#include "base/fault.h"

namespace graftfs::net {
namespace {

class LocalConnection;

// One direction: what one thread has sent and the other one has not taken.
struct Channel {
  explicit Channel(std::shared_ptr<Door> r) : reader(std::move(r)) {}

  const std::shared_ptr<Door> reader;
  LocalConnection* target = nullptr;  // the reader's thread only; null once it is destroyed

  std::atomic<size_t> waiting{0};  // messages sent and not handed over: a measure, not a lock
  std::mutex mutex;                // of what follows
  std::vector<Message> queue;
  bool posted = false;
  bool closed = false;
};

// Messages are not measured; so many stand for Limits::send_high and send_limit.
constexpr size_t kBytesAMessage = 256;

class LocalConnection final : public Connection {
 public:
  LocalConnection(Executor& executor, std::shared_ptr<Channel> in, std::shared_ptr<Channel> out,
                  Peer peer, Limits limits)
      : executor_(executor),
        in_(std::move(in)),
        out_(std::move(out)),
        peer_(std::move(peer)),
        limits_(limits) {
    in_->target = this;
  }
  ~LocalConnection() override {
    close();
    in_->target = nullptr;
  }

  void send(Message message) override {
    if (closed_ || broken_) return;
    if (!out_->reader->leads_to(executor_)) settle(message);
    outbox_.push_back(std::move(message));
    size_t waiting = out_->waiting.fetch_add(1, std::memory_order_relaxed) + 1;
    if (waiting * kBytesAMessage > limits_.send_high) full_ = true;
    if (waiting * kBytesAMessage > limits_.send_limit) {
      MARK("net.local.send_limit");
      outbox_.clear();
      hang_up();
      return fail_later(fail(ENOBUFS, peer_.name + " does not take what is sent to it").error());
    }
    if (flush_posted_) return;
    flush_posted_ = true;
    executor_.post([this, alive = alive_] {
      if (!*alive) return;
      flush_posted_ = false;
      flush();
    });
  }

  bool writable() const override { return !full_; }
  const Peer& peer() const override { return peer_; }
  void set_events(ConnectionEvents* events) override { events_ = events; }

  void set_reading(bool on) override {
    if (std::exchange(reading_, on) || !on) return;
    executor_.post([this, alive = alive_] {
      if (*alive) take();
    });
  }

  void close() override {
    if (std::exchange(closed_, true)) return;
    events_ = nullptr;
    *alive_ = false;
    if (!broken_) flush();
    hang_up();
  }

  // Hands over what has arrived.
  void take() {
    if (closed_ || broken_ || !reading_) return;
    std::vector<Message> messages;
    bool ended = false;
    {
      std::lock_guard lock(in_->mutex);
      in_->posted = false;
      messages.swap(in_->queue);
      ended = in_->closed;
    }
    auto alive = alive_;
    for (size_t i = 0; i < messages.size(); ++i) {
      if (!reading_) {
        // It has had enough; the rest waits in front of what came meanwhile.
        std::lock_guard lock(in_->mutex);
        in_->queue.insert(in_->queue.begin(), std::make_move_iterator(messages.begin() + i),
                          std::make_move_iterator(messages.end()));
        return;
      }
      in_->waiting.fetch_sub(1, std::memory_order_relaxed);
      if (events_) events_->received(std::move(messages[i]));
      if (!*alive) return;
    }
    look_at_queue();
    if (*alive && ended) broke(fail(ECONNRESET, peer_.name + " has closed the connection").error());
  }

 private:
  // What is at home in this thread only.
  static void settle(Message& message) {
    if (auto* call = std::get_if<msg::Call>(&message.body)) call->request.cred.settle();
  }

  void flush() {
    if (outbox_.empty()) return look_at_queue();
    bool wake;
    {
      std::lock_guard lock(out_->mutex);
      if (out_->closed) return;
      if (out_->queue.empty()) {
        out_->queue.swap(outbox_);
      } else {
        for (Message& message : outbox_) out_->queue.push_back(std::move(message));
      }
      wake = !std::exchange(out_->posted, true);
    }
    outbox_.clear();
    if (wake) post_take(out_);
    look_at_queue();
  }

  // Nobody says when the other side has taken something: it is looked at again every millisecond
  // while it matters.
  void look_at_queue() {
    if (!full_ || closed_ || broken_) return;
    if (out_->waiting.load(std::memory_order_relaxed) * kBytesAMessage <= limits_.send_high / 2) {
      full_ = false;
      if (events_) events_->writable_again();
      return;
    }
    if (std::exchange(looking_, true)) return;
    executor_.post_after(kMillisecond, [this, alive = alive_] {
      if (!*alive) return;
      looking_ = false;
      look_at_queue();
    });
  }

  static void post_take(const std::shared_ptr<Channel>& channel) {
    channel->reader->post([channel] {
      if (channel->target) channel->target->take();
    });
  }

  void hang_up() {
    {
      std::lock_guard lock(out_->mutex);
      if (std::exchange(out_->closed, true)) return;
      out_->posted = true;
    }
    post_take(out_);
  }

  void fail_later(Error why) {
    if (failing_) return;
    failing_ = true;
    executor_.post([this, alive = alive_, why = std::move(why)] {
      if (*alive) broke(why);
    });
  }

  void broke(const Error& why) {
    if (closed_ || std::exchange(broken_, true)) return;
    hang_up();
    if (auto* events = std::exchange(events_, nullptr)) events->disconnected(why);
  }

  Executor& executor_;
  std::shared_ptr<Channel> in_, out_;
  Peer peer_;
  Limits limits_;
  ConnectionEvents* events_ = nullptr;
  std::vector<Message> outbox_;
  bool flush_posted_ = false;
  bool looking_ = false;
  bool full_ = false;
  bool reading_ = true;
  bool failing_ = false;
  bool broken_ = false;
  bool closed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

class LocalListener final : public Listener {
 public:
  LocalListener(LocalHub& hub, std::string name) : hub_(hub), name_(std::move(name)) {}
  ~LocalListener() override {
    std::lock_guard lock(hub_.mutex_);
    hub_.listeners_.erase(name_);
  }
  Address address() const override { return {Address::local, name_, 0}; }

 private:
  LocalHub& hub_;
  std::string name_;
};

Result<std::unique_ptr<Listener>> LocalTransport::listen(const Address& address, Doorman doorman,
                                                         AcceptFn accept) {
  if (address.kind != Address::local)
    return fail(EINVAL, show(address) + " is not an address inside this process");
  auto entry = std::make_shared<LocalHub::Entry>(
      LocalHub::Entry{&executor_, door_, std::move(doorman), std::move(accept), limits_});
  std::lock_guard lock(hub_.mutex_);
  if (!hub_.listeners_.emplace(address.text, std::move(entry)).second)
    return fail(EADDRINUSE, show(address) + " is in use in this process");
  return std::make_unique<LocalListener>(hub_, address.text);
}

void LocalTransport::connect(const Address& address, Identity identity, ConnectFn done) {
  auto answer = [this](ConnectFn fn, Result<std::unique_ptr<Connection>> result) {
    auto held = std::make_shared<Result<std::unique_ptr<Connection>>>(std::move(result));
    executor_.post([alive = alive_, fn = std::move(fn), held]() mutable {
      if (*alive) fn(std::move(*held));
    });
  };
  std::shared_ptr<LocalHub::Entry> entry;
  {
    std::lock_guard lock(hub_.mutex_);
    auto it = hub_.listeners_.find(address.text);
    if (address.kind == Address::local && it != hub_.listeners_.end()) entry = it->second;
  }
  if (!entry)
    return answer(std::move(done), fail(ECONNREFUSED, "nobody listens at " + show(address)));
  if (entry->doorman.volume != identity.volume)
    return answer(std::move(done), fail(ESTALE, show(address) + " serves another volume"));
  auto there = std::make_shared<Channel>(entry->door);  // what this side sends
  auto here = std::make_shared<Channel>(door_);
  Peer server{Role::node,    entry->doorman.node,     {},
              show(address), entry->doorman.lease_ms, entry->limits.in_flight};
  Peer client{identity.role, identity.id, {}, show(address), 0, entry->limits.in_flight};
  std::unique_ptr<Connection> mine =
      std::make_unique<LocalConnection>(executor_, here, there, server, limits_);
  std::weak_ptr<LocalHub::Entry> listener = entry;
  entry->door->post([listener, here, there, client]() mutable {
    auto entry = listener.lock();
    if (!entry) {
      // It has ended meanwhile.
      {
        std::lock_guard lock(here->mutex);
        here->closed = true;
      }
      here->reader->post([here] {
        if (here->target) here->target->take();
      });
      return;
    }
    auto connection = std::make_unique<LocalConnection>(*entry->executor, there, here,
                                                        std::move(client), entry->limits);
    LocalConnection* raw = connection.get();
    entry->accept(std::move(connection));
    // What was sent before it was there.
    if (there->target == raw) raw->take();
  });
  answer(std::move(done), std::move(mine));
}

}  // namespace graftfs::net
