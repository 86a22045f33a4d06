#include "sim/link.h"

#include "sim/world.h"

namespace graftfs::sim {

Nanos Link::next_due() {
  Nanos due = client_.now() + world_.latency();
  last_due_ = std::max(last_due_ + 1, due);
  return last_due_ - client_.now();
}

void Link::submit(Request request, ReplyFn done) {
  if (connected_) send(std::move(request), std::move(done));
}

void Link::claim(Request request, ReplyFn done) { send(std::move(request), std::move(done)); }

void Link::send(Request request, ReplyFn done) {
  int32_t call = world_.next_call();
  request.cred.pid = call;
  world_.oracle().submitted(call, request);
  auto answer = std::make_shared<ReplyFn>(std::move(done));
  // A message travels on when its sender has died, so it knows only what outlives that.
  auto message = [world = &world_, client = &client_, request = std::move(request), answer,
                  alive = generation_, generation = *generation_]() mutable {
    Rank* rank = world->rank();
    if (!rank) return;
    Request copy = request;
    int32_t id = request.cred.pid;
    rank->submit(std::move(copy), [world, client, request = std::move(request), id, answer, alive,
                                   generation](Reply reply) {
      // A rank that has failed answers everything with EIO; the session asks the next one.
      if (world->rank_failed()) return;
      world->oracle().released(id, request, reply);
      if (*alive != generation) return;
      client->post_after(world->latency(),
                         [answer, alive, generation, reply = std::move(reply)]() mutable {
                           if (*alive == generation && *answer) (*answer)(std::move(reply));
                         });
    });
  };
  world_.rank_node().post_after(next_due(), std::move(message));
}

void Link::open_session(SessionId session) {
  if (!connected_) return;
  world_.rank_node().post_after(next_due(), [world = &world_, session] {
    if (Rank* rank = world->rank()) rank->open_session(session);
  });
}

void Link::close_session(SessionId session) {
  if (!connected_) return;
  world_.rank_node().post_after(next_due(), [world = &world_, session] {
    if (Rank* rank = world->rank()) rank->close_session(session);
  });
}

void Link::disconnect() {
  connected_ = false;
  ++*generation_;
}

// -- data -----------------------------------------------------------------------------------------

Task<Result<DataInfo>> SimData::write(Ino ino, uint64_t offset, std::string_view bytes,
                                      uint64_t valid_size) {
  size_t cut = oracle_.data_begin(ino, valid_size, kNever, {});
  size_t op = oracle_.data_begin(ino, offset, offset + bytes.size(), std::string(bytes));
  auto it = busy_.insert(ino);
  auto result = co_await inner_.write(ino, offset, bytes, valid_size);
  busy_.erase(it);
  oracle_.data_end(ino, cut, result.has_value());
  oracle_.data_end(ino, op, result.has_value());
  co_return result;
}

Task<Result<void>> SimData::read(Ino ino, uint64_t offset, char* out, size_t length) {
  auto result = co_await inner_.read(ino, offset, out, length);
  co_return result;
}

Task<Result<DataInfo>> SimData::truncate(Ino ino, uint64_t size) {
  size_t cut = oracle_.data_begin(ino, size, kNever, {});
  auto it = busy_.insert(ino);
  auto result = co_await inner_.truncate(ino, size);
  busy_.erase(it);
  oracle_.data_end(ino, cut, result.has_value());
  co_return result;
}

Task<Result<DataInfo>> SimData::allocate(Ino ino, AllocateMode mode, uint64_t offset,
                                         uint64_t length, uint64_t valid_size) {
  size_t cut = oracle_.data_begin(ino, valid_size, kNever, {});
  bool zeros = mode != AllocateMode::allocate;
  size_t op = oracle_.data_begin(ino, offset, zeros ? offset + length : offset, {});
  auto it = busy_.insert(ino);
  auto result = co_await inner_.allocate(ino, mode, offset, length, valid_size);
  busy_.erase(it);
  oracle_.data_end(ino, cut, result.has_value());
  oracle_.data_end(ino, op, result.has_value());
  co_return result;
}

Task<Result<uint64_t>> SimData::seek(Ino ino, uint64_t offset, bool data, uint64_t size) {
  auto result = co_await inner_.seek(ino, offset, data, size);
  co_return result;
}

// What was copied is read back: the oracle then knows what has to stay there.
Task<Result<DataInfo>> SimData::copy(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                     uint64_t length, uint64_t valid_size) {
  std::string bytes(length, '\0');
  size_t cut = oracle_.data_begin(to, valid_size, kNever, {});
  size_t op = oracle_.data_begin(to, to_offset, to_offset + length, {});
  oracle_.data_unknown(to, op);
  auto it = busy_.insert(to);
  auto result = co_await inner_.copy(from, from_offset, to, to_offset, length, valid_size);
  if (result) {
    auto read = co_await inner_.read(to, to_offset, bytes.data(), bytes.size());
    if (read)
      oracle_.data_is(to, op, std::move(bytes));
    else
      result = std::unexpected(read.error());  // what was copied stays unknown
  }
  busy_.erase(it);
  oracle_.data_end(to, cut, result.has_value());
  oracle_.data_end(to, op, result.has_value());
  co_return result;
}

Task<Result<void>> SimData::sync(Ino ino) {
  auto result = co_await inner_.sync(ino);
  co_return result;
}
Task<Result<void>> SimData::sync_all() {
  auto result = co_await inner_.sync_all();
  co_return result;
}
Task<Result<void>> SimData::remove(Ino ino) {
  auto result = co_await inner_.remove(ino);
  co_return result;
}
Task<Result<std::vector<Ino>>> SimData::list(Ino from, size_t max) {
  auto result = co_await inner_.list(from, max);
  co_return result;
}

}  // namespace graftfs::sim
