#include "migration/staging.h"

#include "events/event.h"
#include "events/migration.h"

namespace graftfs::migration {

DirHeader tombstone(Ino ino, Version last) {
  DirHeader header;
  header.version = last.next();
  header.inode.ino = ino;
  header.inode.mode = S_IFDIR;
  header.inode.nlink = 0;
  return header;
}

std::string dirty_items(const msg::MigratePart& part) {
  TreeEvent event;
  event.type = EventType::inode;
  for (const msg::PartDir& dir : part.dirs) {
    const auto index = static_cast<uint32_t>(event.dirs.size());
    const size_t entries = event.entries.size();
    for (const msg::PartEntry& e : dir.entries)
      if (e.dirty) event.entries.push_back({true, index, e.name, e.value});
    if (dir.dirty || event.entries.size() > entries)
      event.dirs.push_back({.dirty = dir.dirty, .full = true, .header = dir.header});
  }
  std::string out;
  if (event.dirs.empty()) return out;
  ByteWriter w(out);
  w.varint(0);  // all directories are named in full
  encode_tree_event(w, event);
  return out;
}

void merge_clean(Cache& cache, const msg::MigratePart& part) {
  for (const msg::PartDir& item : part.dirs) {
    if (is_tombstone(item.header)) continue;
    Dir* dir = cache.find_dir(item.header.inode.ino);
    const bool fetched = dir && dir->fetched;
    // What is dirty comes from the journal; the rest of the directory needs it to stand in.
    if (!dir || !item.dirty) dir = cache.merge_header(item.header);
    // Whether the store has been asked is this rank's own business.
    dir->fetched = fetched;
    for (const msg::PartEntry& e : item.entries)
      if (!e.dirty) cache.merge_entry(*dir, name_hash(e.name), e.name, e.value);
    if (item.known_from < item.known_to) cache.merge_known(*dir, item.known_from, item.known_to);
  }
}

}  // namespace graftfs::migration
