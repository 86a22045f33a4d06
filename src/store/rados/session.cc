#include "store/rados/session.h"

#include <fmt/format.h>

#include <cstring>

namespace graftfs::rados {

std::unexpected<Error> Session::failed(int code, std::string_view verb, std::string_view object) {
  code = code < 0 ? -code : code;
  std::string what = fmt::format("cannot {} {}/{}: ", verb, name_.shown(), object);
  switch (code) {
    case ESHUTDOWN:
      return fail(ESTALE, what +
                              "this process was shut out of the cluster, since another one has "
                              "taken its rank");
    case ECANCELED:
      return fail(ESTALE, what + "another owner has written there since");
    case ENOSPC:
    case EDQUOT:
      return fail(ENOSPC, what + "the pool is full; remove something, or add OSDs");
    case EACCES:
    case EPERM:
      return fail(
          EACCES,
          what + fmt::format("the key may not; its caps need osd 'allow rwx pool={}'", name_.pool));
    case ENOENT:
      return fail(EIO,
                  what + fmt::format("it is not there; see that the pool '{}' exists", name_.pool));
    case ETIMEDOUT:
      return fail(EIO, what + "the cluster does not answer; see 'ceph -s'");
    default:
      return fail(code == 0 ? EIO : code, what + std::strerror(code));
  }
}

}  // namespace graftfs::rados
