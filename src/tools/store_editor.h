#pragma once
// Changes to a store made by fsck: collected directory by directory, committed together.

#include <map>
#include <string>

#include "store/store.h"
#include "types/entry.h"

namespace graftfs::tools {

// Every directory that is edited gets its next version once, and so does every entry put. Owned
// by one repair. Nothing is in the store before commit().
class StoreEditor {
 public:
  explicit StoreEditor(DirStore& store) : store_(store) {}

  // The header to change; read on first use. EUCLEAN, ENOENT.
  Task<Result<DirHeader*>> header(Ino dir);
  // For a directory whose header is not to be had.
  DirHeader* new_header(Ino dir, DirHeader header);
  Task<Result<void>> put(Ino dir, std::string name, EntryValue value);
  Task<Result<void>> erase(Ino dir, std::string name);
  // As it will be: kind null where there is none.
  Task<Result<EntryValue>> entry(Ino dir, std::string name);
  // The whole object is removed before what was put is put.
  void rewrite(Ino dir) { edits_[dir].rewrite = true; }
  void locate(Ino ino, Ino dir, const std::string& name);

  Task<Result<void>> commit();

 private:
  struct Edit {
    bool loaded = false, rewrite = false;
    DirHeader header;
    std::map<std::string, EntryValue> entries;  // kind null: erased
    std::map<Ino, std::string> located;
  };
  DirStore& store_;
  std::map<Ino, Edit> edits_;
};

}  // namespace graftfs::tools
