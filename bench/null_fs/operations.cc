#include "null_fs/operations.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

// The operations of the null file system. What is absent here answers ENOSYS
// once and is then never sent again by the kernel: xattrs, flush, fsync, access,
// locks, lseek, copy_file_range. No permission is checked.

namespace graftfs::null_fs {
namespace {

using Guard = std::lock_guard<std::mutex>;

NullFs& fs_of(fuse_req_t request) { return *static_cast<NullFs*>(fuse_req_userdata(request)); }

Inode* inode_of(NullFs& fs, fuse_ino_t ino) {
  return ino == FUSE_ROOT_ID ? fs.tree.root() : reinterpret_cast<Inode*>(ino);
}

struct stat attributes_of(const Inode& inode) {
  struct stat attributes = inode.attributes;
  if (S_ISLNK(attributes.st_mode)) {
    attributes.st_size = static_cast<off_t>(inode.target.size());
  }
  attributes.st_blocks = (attributes.st_size + 511) / 512;
  return attributes;
}

// Every entry that goes to the kernel counts as a lookup of its inode.
fuse_entry_param entry_of(NullFs& fs, Inode* inode) {
  inode->lookups++;
  fuse_entry_param entry = {};
  entry.ino = reinterpret_cast<fuse_ino_t>(inode);
  entry.attr = attributes_of(*inode);
  entry.attr_timeout = entry.entry_timeout = fs.timeout_s;
  return entry;
}

void init(void* user_data, fuse_conn_info* connection) {
  apply_session_settings(connection);
  auto* fs = static_cast<NullFs*>(user_data);
  fs->can_skip_open = connection->capable & FUSE_CAP_NO_OPEN_SUPPORT;
  fs->can_skip_opendir = connection->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  NullFs& fs = fs_of(request);
  fuse_entry_param entry;
  {
    Guard guard(fs.lock);
    Inode* inode = inode_of(fs, parent)->directory->find(name);
    if (inode != nullptr) {
      entry = entry_of(fs, inode);
    } else {
      entry = {};
    }
  }
  if (entry.ino == 0) {
    fuse_reply_err(request, ENOENT);
  } else {
    fuse_reply_entry(request, &entry);
  }
}

void forget(fuse_req_t request, fuse_ino_t ino, uint64_t lookups) {
  NullFs& fs = fs_of(request);
  {
    Guard guard(fs.lock);
    fs.tree.forget(inode_of(fs, ino), lookups);
  }
  fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
  NullFs& fs = fs_of(request);
  {
    Guard guard(fs.lock);
    for (size_t i = 0; i < count; i++) {
      fs.tree.forget(inode_of(fs, forgets[i].ino), forgets[i].nlookup);
    }
  }
  fuse_reply_none(request);
}

void getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
  NullFs& fs = fs_of(request);
  struct stat attributes;
  {
    Guard guard(fs.lock);
    attributes = attributes_of(*inode_of(fs, ino));
  }
  fuse_reply_attr(request, &attributes, fs.timeout_s);
}

void set_size(Inode& inode, off_t size) {
  inode.data.truncate(static_cast<uint64_t>(size));
  inode.attributes.st_size = size;
  inode.attributes.st_mtim = coarse_now();
}

void setattr(fuse_req_t request, fuse_ino_t ino, struct stat* to, int set, fuse_file_info*) {
  NullFs& fs = fs_of(request);
  struct stat attributes;
  {
    Guard guard(fs.lock);
    Inode& inode = *inode_of(fs, ino);
    timespec now = coarse_now();
    struct stat& at = inode.attributes;
    if (set & FUSE_SET_ATTR_MODE) {
      at.st_mode = (at.st_mode & S_IFMT) | (to->st_mode & ~S_IFMT);
    }
    if (set & FUSE_SET_ATTR_UID) {
      at.st_uid = to->st_uid;
    }
    if (set & FUSE_SET_ATTR_GID) {
      at.st_gid = to->st_gid;
    }
    if (set & FUSE_SET_ATTR_SIZE) {
      set_size(inode, to->st_size);
    }
    if (set & FUSE_SET_ATTR_ATIME) {
      at.st_atim = set & FUSE_SET_ATTR_ATIME_NOW ? now : to->st_atim;
    }
    if (set & FUSE_SET_ATTR_MTIME) {
      at.st_mtim = set & FUSE_SET_ATTR_MTIME_NOW ? now : to->st_mtim;
    }
    at.st_ctim = set & FUSE_SET_ATTR_CTIME ? to->st_ctim : now;
    attributes = attributes_of(inode);
  }
  fuse_reply_attr(request, &attributes, fs.timeout_s);
}

// The common part of mknod, mkdir, symlink and create.
int make(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device,
         const char* target, fuse_entry_param& entry) {
  NullFs& fs = fs_of(request);
  const fuse_ctx* caller = fuse_req_ctx(request);
  Guard guard(fs.lock);
  Inode* inode = nullptr;
  int error =
      fs.tree.make(inode_of(fs, parent), name, mode, caller->uid, caller->gid, device, &inode);
  if (error == 0) {
    if (target != nullptr) {
      inode->target = target;
    }
    entry = entry_of(fs, inode);
  }
  return error;
}

void reply_made(fuse_req_t request, int error, const fuse_entry_param& entry) {
  if (error != 0) {
    fuse_reply_err(request, error);
  } else {
    fuse_reply_entry(request, &entry);
  }
}

void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  fuse_entry_param entry;
  int error = make(request, parent, name, mode, device, nullptr, entry);
  reply_made(request, error, entry);
}

void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  fuse_entry_param entry;
  int error = make(request, parent, name, mode | S_IFDIR, 0, nullptr, entry);
  reply_made(request, error, entry);
}

void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry;
  int error = make(request, parent, name, S_IFLNK | 0777, 0, target, entry);
  reply_made(request, error, entry);
}

void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
            fuse_file_info* file) {
  fuse_entry_param entry;
  int error = make(request, parent, name, mode, 0, nullptr, entry);
  if (error == EEXIST && (file->flags & O_EXCL) == 0) {
    // The kernel's negative entry was out of date.
    NullFs& fs = fs_of(request);
    Guard guard(fs.lock);
    Inode* inode = inode_of(fs, parent)->directory->find(name);
    if (file->flags & O_TRUNC) {
      set_size(*inode, 0);
    }
    entry = entry_of(fs, inode);
    error = 0;
  }
  if (error != 0) {
    fuse_reply_err(request, error);
    return;
  }
  file->keep_cache = 1;
  fuse_reply_create(request, &entry, file);
}

void readlink(fuse_req_t request, fuse_ino_t ino) {
  NullFs& fs = fs_of(request);
  std::string target;
  {
    Guard guard(fs.lock);
    target = inode_of(fs, ino)->target;
  }
  fuse_reply_readlink(request, target.c_str());
}

void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  NullFs& fs = fs_of(request);
  int error;
  {
    Guard guard(fs.lock);
    error = fs.tree.unlink(inode_of(fs, parent), name);
  }
  fuse_reply_err(request, error);
}

void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  NullFs& fs = fs_of(request);
  int error;
  {
    Guard guard(fs.lock);
    error = fs.tree.rmdir(inode_of(fs, parent), name);
  }
  fuse_reply_err(request, error);
}

void rename(fuse_req_t request, fuse_ino_t from, const char* from_name, fuse_ino_t to,
            const char* to_name, unsigned flags) {
  NullFs& fs = fs_of(request);
  int error;
  {
    Guard guard(fs.lock);
    error = fs.tree.rename(inode_of(fs, from), from_name, inode_of(fs, to), to_name, flags);
  }
  fuse_reply_err(request, error);
}

void link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  NullFs& fs = fs_of(request);
  fuse_entry_param entry;
  int error;
  {
    Guard guard(fs.lock);
    Inode* inode = inode_of(fs, ino);
    error = fs.tree.link(inode, inode_of(fs, parent), name);
    if (error == 0) {
      entry = entry_of(fs, inode);
    }
  }
  reply_made(request, error, entry);
}

// Nothing is kept per open file: an unlinked inode lives as long as the kernel
// knows it.
void open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (fs_of(request).can_skip_open) {
    fuse_reply_err(request, ENOSYS);
    return;
  }
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

void opendir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (fs_of(request).can_skip_opendir) {
    fuse_reply_err(request, ENOSYS);
    return;
  }
  file->keep_cache = file->cache_readdir = 1;
  fuse_reply_open(request, file);
}

void read(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  NullFs& fs = fs_of(request);
  std::unique_lock<std::mutex> guard(fs.lock);
  const Inode& inode = *inode_of(fs, ino);
  uint64_t from = static_cast<uint64_t>(offset);
  uint64_t file_size = static_cast<uint64_t>(inode.attributes.st_size);
  uint64_t end = std::min(file_size, from + size);
  if (from >= end) {
    fuse_reply_buf(request, nullptr, 0);
  } else if (end <= inode.data.length()) {
    fuse_reply_buf(request, inode.data.bytes() + from, end - from);
  } else {
    std::vector<char> filled(end - from, 0);
    if (from < inode.data.length()) {
      std::memcpy(filled.data(), inode.data.bytes() + from, inode.data.length() - from);
    }
    guard.unlock();
    fuse_reply_buf(request, filled.data(), filled.size());
  }
}

void write(fuse_req_t request, fuse_ino_t ino, const char* bytes, size_t size, off_t offset,
           fuse_file_info*) {
  NullFs& fs = fs_of(request);
  bool written;
  {
    Guard guard(fs.lock);
    Inode& inode = *inode_of(fs, ino);
    written = inode.data.write(static_cast<uint64_t>(offset), bytes, size);
    if (written) {
      off_t end = offset + static_cast<off_t>(size);
      inode.attributes.st_size = std::max(inode.attributes.st_size, end);
      inode.attributes.st_mtim = inode.attributes.st_ctim = coarse_now();
    }
  }
  if (written) {
    fuse_reply_write(request, size);
  } else {
    fuse_reply_err(request, ENOSPC);
  }
}

// Only plain allocation: it sets the size, and memory is taken when written.
void fallocate(fuse_req_t request, fuse_ino_t ino, int mode, off_t offset, off_t length,
               fuse_file_info*) {
  if (mode & ~FALLOC_FL_KEEP_SIZE) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  NullFs& fs = fs_of(request);
  {
    Guard guard(fs.lock);
    Inode& inode = *inode_of(fs, ino);
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && offset + length > inode.attributes.st_size) {
      inode.attributes.st_size = offset + length;
      inode.attributes.st_mtim = inode.attributes.st_ctim = coarse_now();
    }
  }
  fuse_reply_err(request, 0);
}

// Fills one buffer with entries, with their attributes when `plus`.
void list(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, bool plus) {
  NullFs& fs = fs_of(request);
  thread_local std::vector<char> buffer;
  buffer.resize(std::max(buffer.size(), size));
  size_t used = 0;
  // False when the entry does not fit.
  auto add = [&](const char* name, const fuse_entry_param& entry, uint64_t cookie) {
    char* at = buffer.data() + used;
    off_t next = static_cast<off_t>(cookie);
    size_t needed = plus ? fuse_add_direntry_plus(request, at, size - used, name, &entry, next)
                         : fuse_add_direntry(request, at, size - used, name, &entry.attr, next);
    if (needed > size - used) {
      return false;
    }
    used += needed;
    return true;
  };
  {
    Guard guard(fs.lock);
    Inode* inode = inode_of(fs, ino);
    uint64_t cookie = static_cast<uint64_t>(offset);
    bool room = true;
    // "." and ".." carry no lookup: an entry without ino.
    fuse_entry_param dots = {};
    if (cookie < 1) {
      dots.attr = inode->attributes;
      room = add(".", dots, 1);
    }
    if (room && cookie < 2) {
      dots.attr = inode->directory->parent()->attributes;
      room = add("..", dots, 2);
    }
    while (room) {
      const DirectoryEntry* entry = inode->directory->next(cookie);
      if (entry == nullptr) {
        break;
      }
      fuse_entry_param param = {};
      param.attr.st_ino = entry->inode->attributes.st_ino;
      param.attr.st_mode = entry->inode->attributes.st_mode;
      if (plus) {
        param = entry_of(fs, entry->inode);
      }
      room = add(entry->name.c_str(), param, cookie);
      if (!room && plus) {
        entry->inode->lookups--;
      }
    }
  }
  fuse_reply_buf(request, buffer.data(), used);
}

void readdir(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  list(request, ino, size, offset, false);
}

void readdirplus(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
  list(request, ino, size, offset, true);
}

void statfs(fuse_req_t request, fuse_ino_t) {
  NullFs& fs = fs_of(request);
  struct statvfs answer = {};
  answer.f_bsize = answer.f_frsize = 4096;
  answer.f_blocks = answer.f_bfree = answer.f_bavail = 1UL << 28;
  answer.f_namemax = 255;
  {
    Guard guard(fs.lock);
    answer.f_ffree = answer.f_favail = 1UL << 32;
    answer.f_files = answer.f_ffree + fs.tree.inode_count();
  }
  fuse_reply_statfs(request, &answer);
}

}  // namespace

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops table = [] {
    fuse_lowlevel_ops ops = {};
    ops.init = init;
    ops.lookup = lookup;
    ops.forget = forget;
    ops.forget_multi = forget_multi;
    ops.getattr = getattr;
    ops.setattr = setattr;
    ops.readlink = readlink;
    ops.mknod = mknod;
    ops.mkdir = mkdir;
    ops.unlink = unlink;
    ops.rmdir = rmdir;
    ops.symlink = symlink;
    ops.rename = rename;
    ops.link = link;
    ops.create = create;
    ops.open = open;
    ops.opendir = opendir;
    ops.read = read;
    ops.write = write;
    ops.fallocate = fallocate;
    ops.readdir = readdir;
    ops.readdirplus = readdirplus;
    ops.statfs = statfs;
    return ops;
  }();
  return table;
}

}  // namespace graftfs::null_fs
