#pragma once
// The seam between a client and whoever answers it: a rank in the same thread, a simulated
// network, later a connection.

#include <functional>

#include "types/request.h"

namespace graftfs {

using ReplyFn = std::move_only_function<void(Reply&&)>;

class MetadataService {
 public:
  virtual ~MetadataService() = default;
  // Executes `request`; `done` is called exactly once, from the executor's thread, either inside
  // submit() or later, when the reply may be shown under the volume's durability (in posix mode
  // often within the same turn of the loop). After a failure of the rank it is called with EIO.
  virtual void submit(Request request, ReplyFn done) = 0;
  // Registers a client; its requests carry the id. Ids come from Random, so a client may choose
  // one and keep it over a reconnect.
  virtual void open_session(SessionId session) = 0;
  // The client is gone: its holds are dropped, its results forgotten.
  virtual void close_session(SessionId session) = 0;
};

}  // namespace graftfs
