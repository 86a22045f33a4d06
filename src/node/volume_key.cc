#include "node/volume_key.h"

#include <fcntl.h>
#include <stdio.h>

#include "net/keys.h"
#include "store/local/local_common.h"

namespace graftfs::node {

using local::Fd;

Result<std::string> volume_key(const std::string& volume) {
  const std::string shown = volume + "/key";
  Fd dir(::open(volume.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return local::os_fail(errno, "open volume", volume);
  for (;;) {
    auto key = local::read_small_file(dir.get(), "key", shown);
    if (key && key->size() != net::kSecretSize)
      return damaged(
          fmt::format("{} has {} bytes and should have {}; restore it from a backup, or "
                      "remove it to have a new one made (all clients' keys end with it)",
                      shown, key->size(), net::kSecretSize));
    if (key || key.error().code != ENOENT) return key;
    // Under another name first, so that nobody sees half of it.
    std::string made = "key.new", bytes = net::random_bytes(net::kSecretSize);
    ::unlinkat(dir.get(), made.c_str(), 0);
    {
      TRY_ASSIGN(Fd fd, local::open_at(dir.get(), made, O_WRONLY | O_CREAT | O_EXCL, shown));
      TRY(local::pwrite_all(fd.get(), bytes, 0, shown));
      TRY(local::fsync_fd(fd.get(), shown));
    }
    if (::linkat(dir.get(), made.c_str(), dir.get(), "key", 0) != 0 && errno != EEXIST)
      return local::os_fail(errno, "create", shown);
    ::unlinkat(dir.get(), made.c_str(), 0);
    TRY(local::fsync_fd(dir.get(), volume));
  }
}

}  // namespace graftfs::node
