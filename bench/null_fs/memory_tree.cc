#include "null_fs/memory_tree.h"

#include <fcntl.h>
#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

namespace graftfs::null_fs {

timespec coarse_now() {
  timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now;
}

// Another hash than the one within a part, or the parts would be lopsided.
size_t Directory::part_index(std::string_view name) {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (unsigned char byte : name) {
    hash = (hash ^ byte) * 1099511628211ULL;
  }
  return (hash >> 32) % kParts;
}

Inode* Directory::find(std::string_view name) const {
  const Names& names = part_of(name);
  auto found = names.find(name);
  return found == names.end() ? nullptr : entries_[found->second - first_cookie_]->inode;
}

void Directory::insert(std::string_view name, Inode* inode) {
  auto entry = std::make_unique<DirectoryEntry>(DirectoryEntry{std::string(name), inode});
  part_of(entry->name).emplace(entry->name, first_cookie_ + entries_.size());
  live_++;
  entries_.push_back(std::move(entry));
}

void Directory::erase(std::string_view name) {
  Names& names = part_of(name);
  auto found = names.find(name);
  uint64_t position = found->second - first_cookie_;
  names.erase(found);
  live_--;
  entries_[position].reset();
  // Holes at the front cost every listing; those at the end must stay, or a
  // later entry would get a cookie that a listing has already passed.
  while (!entries_.empty() && entries_.front() == nullptr) {
    entries_.pop_front();
    first_cookie_++;
  }
}

void Directory::replace(std::string_view name, Inode* inode) {
  entries_[part_of(name).find(name)->second - first_cookie_]->inode = inode;
}

const DirectoryEntry* Directory::next(uint64_t& cookie) const {
  uint64_t at = std::max(cookie + 1, first_cookie_);
  for (; at - first_cookie_ < entries_.size(); at++) {
    if (const DirectoryEntry* entry = entries_[at - first_cookie_].get()) {
      cookie = at;
      return entry;
    }
  }
  return nullptr;
}

bool FileData::write(uint64_t offset, const char* from, size_t count) {
  uint64_t end = offset + count;
  if (end > capacity_) {
    // Small files get what they need; growing ones double.
    uint64_t wanted = capacity_ == 0 ? end : std::max(end, capacity_ * 2);
    auto* grown = static_cast<char*>(std::realloc(bytes_, wanted));
    if (grown == nullptr) {
      return false;
    }
    bytes_ = grown;
    capacity_ = wanted;
  }
  if (offset > length_) {
    std::memset(bytes_ + length_, 0, offset - length_);
  }
  std::memcpy(bytes_ + offset, from, count);
  length_ = std::max(length_, end);
  return true;
}

void FileData::truncate(uint64_t length) {
  length_ = std::min(length_, length);
  if (length_ == 0) {
    std::free(bytes_);
    bytes_ = nullptr;
    capacity_ = 0;
  }
}

MemoryTree::MemoryTree() {
  root_ = new Inode;
  root_->directory = std::make_unique<Directory>(root_);
  root_->lookups = 1;  // the kernel never looks the root up
  timespec now = coarse_now();
  root_->attributes.st_ino = next_ino_++;
  root_->attributes.st_nlink = 2;
  root_->attributes.st_mode = S_IFDIR | 0755;
  root_->attributes.st_atim = root_->attributes.st_mtim = root_->attributes.st_ctim = now;
  inode_count_ = 1;
}

MemoryTree::~MemoryTree() { free_below(root_); }

void MemoryTree::free_below(Inode* top) {
  std::vector<Inode*> pending = {top};
  while (!pending.empty()) {
    Inode* inode = pending.back();
    pending.pop_back();
    if (inode->directory != nullptr) {
      uint64_t cookie = 0;
      while (const DirectoryEntry* entry = inode->directory->next(cookie)) {
        Inode* child = entry->inode;
        if (child->directory != nullptr || --child->attributes.st_nlink == 0) {
          pending.push_back(child);
        }
      }
    }
    delete inode;
  }
}

int MemoryTree::make(Inode* parent, std::string_view name, mode_t mode, uid_t uid, gid_t gid,
                     dev_t device, Inode** made) {
  if (name.size() > NAME_MAX) {
    return ENAMETOOLONG;
  }
  if (parent->attributes.st_nlink == 0) {
    return ENOENT;
  }
  if (parent->directory->find(name) != nullptr) {
    return EEXIST;
  }
  auto* inode = new Inode;
  bool is_directory = S_ISDIR(mode);
  if (parent->attributes.st_mode & S_ISGID) {
    gid = parent->attributes.st_gid;
    mode |= is_directory ? S_ISGID : 0;
  }
  timespec now = coarse_now();
  inode->attributes.st_ino = next_ino_++;
  inode->attributes.st_nlink = is_directory ? 2 : 1;
  inode->attributes.st_mode = mode;
  inode->attributes.st_uid = uid;
  inode->attributes.st_gid = gid;
  inode->attributes.st_rdev = device;
  inode->attributes.st_atim = inode->attributes.st_mtim = inode->attributes.st_ctim = now;
  inode->attributes.st_blksize = 4096;
  if (is_directory) {
    inode->directory = std::make_unique<Directory>(parent);
    parent->attributes.st_nlink++;
  }
  parent->directory->insert(name, inode);
  parent->attributes.st_mtim = parent->attributes.st_ctim = now;
  inode_count_++;
  *made = inode;
  return 0;
}

int MemoryTree::link(Inode* inode, Inode* parent, std::string_view name) {
  if (name.size() > NAME_MAX) {
    return ENAMETOOLONG;
  }
  if (inode->directory != nullptr) {
    return EPERM;
  }
  if (parent->attributes.st_nlink == 0) {
    return ENOENT;
  }
  if (parent->directory->find(name) != nullptr) {
    return EEXIST;
  }
  parent->directory->insert(name, inode);
  inode->attributes.st_nlink++;
  inode->attributes.st_ctim = parent->attributes.st_mtim = parent->attributes.st_ctim =
      coarse_now();
  return 0;
}

// Takes one name away from `inode`, which may be the last thing that kept it.
void MemoryTree::drop_name(Inode* parent, std::string_view name, Inode* inode) {
  parent->directory->erase(name);
  timespec now = coarse_now();
  parent->attributes.st_mtim = parent->attributes.st_ctim = now;
  inode->attributes.st_ctim = now;
  if (inode->directory != nullptr) {
    parent->attributes.st_nlink--;
    inode->attributes.st_nlink = 0;
  } else {
    inode->attributes.st_nlink--;
  }
  free_if_unused(inode);
}

int MemoryTree::unlink(Inode* parent, std::string_view name) {
  Inode* inode = parent->directory->find(name);
  if (inode == nullptr) {
    return ENOENT;
  }
  if (inode->directory != nullptr) {
    return EISDIR;
  }
  drop_name(parent, name, inode);
  return 0;
}

int MemoryTree::rmdir(Inode* parent, std::string_view name) {
  Inode* inode = parent->directory->find(name);
  if (inode == nullptr) {
    return ENOENT;
  }
  if (inode->directory == nullptr) {
    return ENOTDIR;
  }
  if (!inode->directory->empty()) {
    return ENOTEMPTY;
  }
  drop_name(parent, name, inode);
  return 0;
}

// The kernel has already refused to move a directory below itself.
int MemoryTree::rename(Inode* from, std::string_view from_name, Inode* to, std::string_view to_name,
                       unsigned flags) {
  if (to_name.size() > NAME_MAX) {
    return ENAMETOOLONG;
  }
  if (flags & ~unsigned{RENAME_NOREPLACE | RENAME_EXCHANGE}) {
    return EINVAL;
  }
  Inode* moved = from->directory->find(from_name);
  Inode* replaced = to->directory->find(to_name);
  if (moved == nullptr || to->attributes.st_nlink == 0) {
    return ENOENT;
  }
  auto reparent = [](Inode* inode, Inode* old_parent, Inode* new_parent) {
    if (inode->directory != nullptr) {
      old_parent->attributes.st_nlink--;
      new_parent->attributes.st_nlink++;
      inode->directory->set_parent(new_parent);
    }
  };
  timespec now = coarse_now();
  if (flags & RENAME_EXCHANGE) {
    if (replaced == nullptr) {
      return ENOENT;
    }
    from->directory->replace(from_name, replaced);
    to->directory->replace(to_name, moved);
    reparent(moved, from, to);
    reparent(replaced, to, from);
    replaced->attributes.st_ctim = now;
  } else {
    if (replaced == moved) {
      return 0;
    }
    if (replaced != nullptr) {
      if (flags & RENAME_NOREPLACE) {
        return EEXIST;
      }
      if (replaced->directory != nullptr && moved->directory == nullptr) {
        return EISDIR;
      }
      if (replaced->directory == nullptr && moved->directory != nullptr) {
        return ENOTDIR;
      }
      if (replaced->directory != nullptr && !replaced->directory->empty()) {
        return ENOTEMPTY;
      }
      drop_name(to, to_name, replaced);
    }
    from->directory->erase(from_name);
    to->directory->insert(to_name, moved);
    reparent(moved, from, to);
  }
  moved->attributes.st_ctim = now;
  from->attributes.st_mtim = from->attributes.st_ctim = now;
  to->attributes.st_mtim = to->attributes.st_ctim = now;
  return 0;
}

void MemoryTree::forget(Inode* inode, uint64_t lookups) {
  inode->lookups -= std::min(inode->lookups, lookups);
  if (inode != root_) {
    free_if_unused(inode);
  }
}

void MemoryTree::free_if_unused(Inode* inode) {
  if (inode->lookups == 0 && inode->attributes.st_nlink == 0) {
    inode_count_--;
    delete inode;
  }
}

}  // namespace graftfs::null_fs
