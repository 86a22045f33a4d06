#include "tools/store_editor.h"

#include <fmt/format.h>

namespace graftfs::tools {

Task<Result<DirHeader*>> StoreEditor::header(Ino dir) {
  Edit& edit = edits_[dir];
  if (edit.loaded) co_return &edit.header;
  CO_TRY_ASSIGN(auto bytes, co_await store_.read_header(dir));
  if (!bytes) co_return fail(ENOENT, fmt::format("directory {} is not in the store", dir.v));
  CO_TRY_ASSIGN(DirHeader header, decode_dir_header(dir, *bytes));
  co_return new_header(dir, std::move(header));
}

DirHeader* StoreEditor::new_header(Ino dir, DirHeader header) {
  Edit& edit = edits_[dir];
  edit.header = std::move(header);
  edit.header.version = edit.header.version.next();
  edit.loaded = true;
  return &edit.header;
}

Task<Result<void>> StoreEditor::put(Ino dir, std::string name, EntryValue value) {
  CO_TRY_ASSIGN(DirHeader * at, co_await header(dir));
  value.version = at->version;
  if (value.kind == EntryKind::primary) {
    value.ino = value.inode.ino;
    value.type = value.inode.mode & S_IFMT;
    edits_[dir].located[value.ino] = name;
  }
  edits_[dir].entries[name] = std::move(value);
  co_return Result<void>{};
}

Task<Result<void>> StoreEditor::erase(Ino dir, std::string name) {
  CO_TRY(co_await header(dir));
  edits_[dir].entries[name] = EntryValue{};
  co_return Result<void>{};
}

Task<Result<EntryValue>> StoreEditor::entry(Ino dir, std::string name) {
  auto edit = edits_.find(dir);
  if (edit != edits_.end()) {
    auto it = edit->second.entries.find(name);
    if (it != edit->second.entries.end()) co_return it->second;
    if (edit->second.rewrite) co_return EntryValue{};
  }
  EntryKey key = entry_key(name);
  CO_TRY_ASSIGN(auto bytes, co_await store_.read_entry(dir, key));
  if (!bytes) co_return EntryValue{};
  co_return decode_entry_value(dir, key, *bytes);
}

void StoreEditor::locate(Ino ino, Ino dir, const std::string& name) {
  edits_[dir].located[ino] = name;
}

Task<Result<void>> StoreEditor::commit() {
  std::vector<DirUpdate> updates;
  for (auto& [dir, edit] : edits_) {
    if (edit.rewrite) {
      DirUpdate gone;
      gone.dir = dir;
      gone.remove = true;
      updates.push_back(std::move(gone));
    }
    DirUpdate update;
    update.dir = dir;
    if (edit.loaded) update.header = encode_dir_header(dir, edit.header);
    for (auto& [name, value] : edit.entries) {
      EntryKey key = entry_key(name);
      if (value.kind == EntryKind::null) {
        update.erase.push_back(std::move(key));
      } else {
        std::string bytes = encode_entry_value(dir, key, value);
        update.put.emplace_back(std::move(key), std::move(bytes));
      }
    }
    for (auto& [ino, name] : edit.located) update.located.emplace_back(ino, entry_key(name));
    updates.push_back(std::move(update));
  }
  edits_.clear();
  if (updates.empty()) co_return Result<void>{};
  co_return co_await store_.commit(std::move(updates));
}

}  // namespace graftfs::tools
