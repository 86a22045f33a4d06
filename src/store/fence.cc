#include "store/fence.h"

#include <charconv>

#include "base/fault.h"

namespace graftfs {
namespace {

template <class T>
bool take_number(std::string_view& text, std::string_view name, int base, T& value) {
  if (!text.starts_with(name)) return false;
  text.remove_prefix(name.size());
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end == text.data() + text.size() || *end != '\n') return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return true;
}

}  // namespace

std::string fence_key(RankId rank) { return fmt::format("cluster/fence-{}", rank); }

std::string encode_fence(const FenceRecord& fence) {
  return fmt::format("epoch = {}\nnode = {:016x}\n", fence.epoch, fence.node);
}

Result<FenceRecord> decode_fence(std::string_view bytes, RankId rank) {
  FenceRecord fence;
  if (bytes.empty()) return fence;
  if (!take_number(bytes, "epoch = ", 10, fence.epoch.v) ||
      !take_number(bytes, "node = ", 16, fence.node) || !bytes.empty()) {
    return damaged(fmt::format("the fence of rank {} makes no sense; restore {} from a backup",
                               rank, fence_key(rank)));
  }
  return fence;
}

Task<Result<void>> wait_for_lease(Executor& executor, StateStore& state, OwnOptions options) {
  if (options.lease <= 0) co_return Result<void>{};
  if (!options.beat.empty()) {
    StateValue beat;
    CO_TRY_ASSIGN(beat, co_await state.get(options.beat));
    if (beat.version == options.beat_version) co_return Result<void>{};
    MARK("store.own.lease_waited_for");
  }
  co_await sleep_for(executor, options.lease);
  co_return Result<void>{};
}

}  // namespace graftfs
