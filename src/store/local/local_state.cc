#include <cstring>

#include "store/local/local_dirs.h"
#include "store/points.h"

namespace graftfs::local {
namespace {

// A state record: the version, 8 bytes little endian, then the value.
Result<StateValue> decode(const LmdbEnv& env, std::string_view bytes) {
  StateValue v;
  if (bytes.size() < sizeof v.version) {
    return damaged(env.file_name() + ": a state record is too short; run 'graftfs fsck'");
  }
  std::memcpy(&v.version, bytes.data(), sizeof v.version);
  v.value = bytes.substr(sizeof v.version);
  return v;
}

}  // namespace

Task<Result<StateValue>> LocalState::get(std::string key) {
  if (key.starts_with(kClusterPrefix)) {
    auto done =
        start_job(files_, executor_, [cluster = cluster_, key] { return cluster->get(key); });
    Result<StateValue> got = co_await done;
    co_return got;
  }
  StateValue value;
  LmdbEnv& env = *env_;
  Result<void> read = env.read([&](const LmdbEnv::View& view) -> Result<void> {
    TRY_ASSIGN(auto found, env.get(view, LmdbEnv::state, key));
    if (found) {
      TRY_ASSIGN(value, decode(env, *found));
    }
    return {};
  });
  if (!read) co_return std::unexpected(std::move(read).error());
  co_return value;
}

Task<Result<uint64_t>> LocalState::set(std::string key, uint64_t expected, std::string value) {
  points::StateSet::before();
  if (key.starts_with(kClusterPrefix)) {
    auto done = start_job(files_, executor_, [cluster = cluster_, key, expected, value] {
      return cluster->set(key, expected, value);
    });
    Result<uint64_t> set = co_await done;
    if (set) points::StateSet::after();
    co_return set;
  }
  auto done = start_job(
      writer_, executor_,
      [env = env_, key = std::move(key), expected, value = std::move(value)]() -> Result<uint64_t> {
        TRY(env->write([&](const LmdbEnv::Write& write) -> Result<void> {
          TRY_ASSIGN(auto found, env->get(write.before, LmdbEnv::state, key));
          StateValue old;
          if (found) {
            TRY_ASSIGN(old, decode(*env, *found));
          }
          if (old.version != expected) {
            return fail(ESTALE, fmt::format("state '{}' is at version {}, not {}", key, old.version,
                                            expected));
          }
          uint64_t version = expected + 1;
          std::string record(reinterpret_cast<const char*>(&version), sizeof version);
          record += value;
          return LmdbEnv::Batch(*env, write, LmdbEnv::state).put(key, record);
        }));
        return expected + 1;
      });
  Result<uint64_t> result = co_await done;
  if (result) points::StateSet::after();
  co_return result;
}

Task<Result<std::vector<std::pair<std::string, StateValue>>>> LocalState::list(std::string prefix) {
  using List = std::vector<std::pair<std::string, StateValue>>;
  if (prefix.starts_with(kClusterPrefix)) {
    auto done = start_job(files_, executor_,
                          [cluster = cluster_, prefix] { return cluster->list(prefix); });
    Result<List> listed = co_await done;
    co_return listed;
  }
  std::vector<std::pair<std::string, StateValue>> list;
  LmdbEnv& env = *env_;
  Result<void> damage;
  Result<void> read = env.read([&](const LmdbEnv::View& view) -> Result<void> {
    return env.scan(view, LmdbEnv::state, prefix,
                    [&](std::string_view key, std::string_view bytes) {
                      if (!key.starts_with(prefix)) return false;
                      auto value = decode(env, bytes);
                      if (value) {
                        list.emplace_back(key, std::move(*value));
                      } else {
                        damage = std::unexpected(std::move(value).error());
                      }
                      return damage.has_value();
                    });
  });
  if (read && !damage) read = damage;
  if (!read) co_return std::unexpected(std::move(read).error());
  co_return list;
}

Task<Result<void>> LocalState::remove(std::string key) {
  auto done =
      start_job(files_, executor_, [cluster = cluster_, key] { return cluster->remove(key); });
  Result<void> removed = co_await done;
  co_return removed;
}

}  // namespace graftfs::local
