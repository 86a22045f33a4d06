#pragma once
// Directories and state as omaps.

#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>

#include <map>
#include <memory>

#include "store/rados/session.h"
#include "store/store.h"

namespace graftfs::rados {

// The journals that a store owns or has owned, and under which token.
using Tokens = std::map<RankId, uint64_t>;

// Serves calls that go on where the last one ended from one listing. Used from one thread.
class InoList {
 public:
  explicit InoList(Ino (*ino_of)(std::string_view)) : ino_of_(ino_of) {}
  Task<Result<std::vector<Ino>>> next(Session& session, Ino from, size_t max);

 private:
  Ino (*ino_of_)(std::string_view);
  std::vector<Ino> all_;
  Ino next_;
};

// A directory that has grown beyond `big` entries has further ones in objects of their own, by the
// first bits of the key; what it had stays in its head until it is written again.
//
// Owned by the RadosStore, on its thread. A commit's operations are under way all at once; an error
// leaves some of them done. Each is guarded by the tokens of the store: ESTALE where a later owner
// of one of its ranks has written the object. A crash leaves each object before or after its
// operation.
class RadosDirs final : public DirStore {
 public:
  RadosDirs(Session& session, std::shared_ptr<const Tokens> tokens, size_t big)
      : session_(session), tokens_(std::move(tokens)), big_from_(big) {}
  Task<Result<std::optional<std::string>>> read_header(Ino dir) override;
  Task<Result<std::vector<std::optional<std::string>>>> read_headers(
      std::vector<Ino> dirs) override;
  Task<Result<std::optional<std::string>>> read_entry(Ino dir, EntryKey key) override;
  Task<Result<std::vector<DirEntryBytes>>> read_entries(Ino dir, EntryKey from,
                                                        size_t max) override;
  Task<Result<std::optional<Location>>> locate(Ino ino) override;
  Task<Result<void>> commit(std::vector<DirUpdate> updates) override;
  Task<Result<std::vector<Ino>>> list_dirs(Ino from, size_t max) override;

 private:
  struct Sent {
    std::string object;
    Promised<int> done;
    const DirUpdate* update;  // null: of locations
  };
  void send(const DirUpdate& update, std::vector<Sent>& sent);
  Task<Result<void>> remove_big(Ino dir);
  Task<Result<void>> grow(Ino dir);
  Task<Result<bool>> is_big(Ino dir);
  Task<Result<std::vector<DirEntryBytes>>> read_object(std::string object, EntryKey from,
                                                       size_t max, bool& big);
  Session& session_;
  std::shared_ptr<const Tokens> tokens_;
  const size_t big_from_;
  // Known to be big; and of the others, how many entries were written since somebody counted.
  absl::flat_hash_set<Ino> big_;
  absl::flat_hash_map<Ino, size_t> written_;
  InoList listed_{ino_of_dir};
};

class RadosState final : public StateStore {
 public:
  explicit RadosState(Session& session) : session_(session) {}
  Task<Result<StateValue>> get(std::string key) override;
  Task<Result<uint64_t>> set(std::string key, uint64_t expected, std::string value) override;
  Task<Result<std::vector<std::pair<std::string, StateValue>>>> list(std::string prefix) override;
  Task<Result<void>> remove(std::string key) override;

 private:
  Session& session_;
};

}  // namespace graftfs::rados
