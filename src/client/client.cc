#include "client/client.h"

#include <fcntl.h>

namespace graftfs {
namespace {

bool truncates(const Args& args) {
  if (auto* open = std::get_if<OpenArgs>(&args)) return open->flags & O_TRUNC;
  if (auto* create = std::get_if<CreateArgs>(&args)) return create->flags & O_TRUNC;
  return false;
}

}  // namespace

Client::Client(Executor& executor, MetadataService& service, DataStore& data, Random& random,
               ClientOptions options)
    : executor_(executor), data_(data), options_(options) {
  SessionId id;
  while (!id) id = SessionId{random.next()};
  session_ = Session::open(id, service);
}

Client::~Client() {
  tasks_.cancel_all();
  session_->close();
}

void Client::call(Credentials cred, Args args, ReplyFn done) {
  if (auto* setattr = std::get_if<SetattrArgs>(&args); setattr && setattr->valid & kSetSize) {
    tasks_.spawn(run_truncate(std::move(cred), *setattr, std::move(done)));
    return;
  }
  if (truncates(args)) done = forget_size(std::move(done));
  session_->call(std::move(cred), std::move(args), std::move(done));
}

// The rank cuts the file while operations on it may be under way here.
ReplyFn Client::forget_size(ReplyFn done) {
  return [this, done = std::move(done)](Reply reply) mutable {
    if (auto file = files_.find(reply.stat.ino); file != files_.end()) file->second->known = false;
    done(std::move(reply));
  };
}

void Client::read(Credentials cred, Ino ino, uint64_t offset, char* out, size_t length,
                  DataFn done) {
  tasks_.spawn(run_read(std::move(cred), ino, offset, out, length, std::move(done)));
}

void Client::write(Credentials cred, Ino ino, uint64_t offset, std::string_view bytes,
                   WriteOptions options, DataFn done) {
  tasks_.spawn(run_write(std::move(cred), ino, offset, bytes, options, std::move(done)));
}

void Client::allocate(Credentials cred, Ino ino, int mode, uint64_t offset, uint64_t length,
                      DataFn done) {
  tasks_.spawn(run_allocate(std::move(cred), ino, mode, offset, length, std::move(done)));
}

void Client::seek(Credentials cred, Ino ino, uint64_t offset, bool data, DataFn done) {
  tasks_.spawn(run_seek(std::move(cred), ino, offset, data, std::move(done)));
}

void Client::copy(Credentials cred, CopyRange range, DataFn done) {
  tasks_.spawn(run_copy(std::move(cred), range, std::move(done)));
}

void Client::sync(Credentials cred, Ino ino, DataFn done) {
  tasks_.spawn(run_sync(std::move(cred), ino, std::move(done)));
}

void Client::sync_all(Credentials cred, DataFn done) {
  tasks_.spawn(run_sync(std::move(cred), Ino{}, std::move(done)));
}

void Client::give_back(Ino ino) { tasks_.spawn(run_give_back(ino)); }

bool Client::atime_due(const Stat& stat) const {
  if (!options_.atime) return false;
  constexpr int64_t kDay = 24 * 60 * 60;
  return stat.atime <= stat.mtime || stat.atime <= stat.ctime ||
         executor_.wall_now().sec - stat.atime.sec >= kDay;
}

}  // namespace graftfs
