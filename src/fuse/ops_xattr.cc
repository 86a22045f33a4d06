// Extended attributes. The kernel handles the two POSIX ACL attributes as any other.

#include <cstring>

#include "fuse/state.h"

namespace graftfs::fuse {

namespace {

// A size of 0 asks how much there is.
ReplyFn answer_value(Req req, size_t size) {
  return [req = std::move(req), size](Reply reply) mutable {
    if (reply.err) return req.err(reply.err);
    if (size == 0) return req.xattr_size(reply.data.size());
    if (reply.data.size() > size) return req.err(ERANGE);
    req.bytes(reply.data.data(), reply.data.size());
  };
}

ReplyFn answer_done(Req req) {
  return [req = std::move(req)](Reply reply) mutable { req.err(reply.err); };
}

void getxattr(fuse_req_t r, fuse_ino_t ino, const char* name, size_t size) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  GetxattrArgs args{ino_of(ino), name};
  state.client().call(std::move(cred), std::move(args), answer_value(std::move(req), size));
}

void listxattr(fuse_req_t r, fuse_ino_t ino, size_t size) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  state.client().call(std::move(cred), ListxattrArgs{ino_of(ino)},
                      answer_value(std::move(req), size));
}

void setxattr(fuse_req_t r, fuse_ino_t ino, const char* name, const char* value, size_t size,
              int flags) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  SetxattrArgs args{ino_of(ino), name, std::string(value, size), static_cast<uint32_t>(flags)};
  state.client().call(std::move(cred), std::move(args), answer_done(std::move(req)));
}

void removexattr(fuse_req_t r, fuse_ino_t ino, const char* name) {
  Req req(r);
  State& state = req.state();
  Credentials cred = req.cred();
  // The kernel itself removes file capabilities when a file is written, in the name of whoever
  // writes. Of others it has checked CAP_SETFCAP before it asks.
  if (std::strcmp(name, "security.capability") == 0) {
    cred.uid = 0;
    state.capabilities_removed(ino_of(ino), cred.pid);
  }
  RemovexattrArgs args{ino_of(ino), name};
  state.client().call(std::move(cred), std::move(args), answer_done(std::move(req)));
}

}  // namespace

void add_xattr_ops(fuse_lowlevel_ops& ops) {
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.setxattr = setxattr;
  ops.removexattr = removexattr;
}

}  // namespace graftfs::fuse
