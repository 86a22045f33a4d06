#include "fuse/mount.h"

#include "fuse/state.h"

namespace graftfs {

Result<std::unique_ptr<FuseMount>> FuseMount::mount(EventLoop& loop, Client& client,
                                                    MountOptions options) {
  auto state = std::make_shared<fuse::State>(loop, client, std::move(options));
  TRY(state->mount());
  return std::unique_ptr<FuseMount>(new FuseMount(std::move(state)));
}

FuseMount::~FuseMount() { state_->end(); }

void FuseMount::on_unmounted(Fn fn) { state_->on_unmounted(std::move(fn)); }

void FuseMount::unmount() { state_->unmount(); }

void FuseMount::lost_lock(Ino ino) { state_->open_files().lost_lock(ino); }

bool FuseMount::refers_to(Ino ino) { return !state_->refs().orphaned(ino); }

}  // namespace graftfs
