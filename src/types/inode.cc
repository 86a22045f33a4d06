#include "types/inode.h"

namespace graftfs {
namespace {

// Which optional fields follow. Times that equal mtime, an owner of root:root, a link count of
// one and a size of zero are the common case and cost nothing.
enum Has : uint16_t {
  kOwner = 1 << 0,
  kNlink = 1 << 1,
  kSize = 1 << 2,
  kBlocks = 1 << 3,
  kRdev = 1 << 4,
  kAtime = 1 << 5,
  kCtime = 1 << 6,
  kBtime = 1 << 7,
  kSymlink = 1 << 8,
  kXattrs = 1 << 9,
  kAll = (1 << 10) - 1,
};

}  // namespace

const std::string& Inode::symlink() const {
  static const std::string none;
  return extra ? extra->symlink : none;
}

const std::map<std::string, std::string>& Inode::xattrs() const {
  static const std::map<std::string, std::string> none;
  return extra ? extra->xattrs : none;
}

void Inode::set_extra(InodeExtra e) {
  if (e.symlink.empty() && e.xattrs.empty())
    extra = nullptr;
  else
    extra = std::make_shared<const InodeExtra>(std::move(e));
}

bool operator==(const Inode& a, const Inode& b) {
  return static_cast<const Stat&>(a) == static_cast<const Stat&>(b) && a.symlink() == b.symlink() &&
         a.xattrs() == b.xattrs();
}

void encode_time(ByteWriter& w, Timespec t) {
  w.svarint(t.sec);
  w.u32(t.nsec);
}

Timespec decode_time(ByteReader& r) {
  Timespec t;
  t.sec = r.svarint();
  t.nsec = r.u32();
  if (t.nsec >= 1'000'000'000) r.fail();
  return t;
}

void encode_inode(ByteWriter& w, const Inode& i) {
  uint16_t has = 0;
  if (i.uid || i.gid) has |= kOwner;
  if (i.nlink != 1) has |= kNlink;
  if (i.size) has |= kSize;
  if (i.blocks) has |= kBlocks;
  if (i.rdev) has |= kRdev;
  if (i.atime != i.mtime) has |= kAtime;
  if (i.ctime != i.mtime) has |= kCtime;
  if (i.btime != i.mtime) has |= kBtime;
  if (!i.symlink().empty()) has |= kSymlink;
  if (!i.xattrs().empty()) has |= kXattrs;
  w.varint(has);
  w.varint(i.ino.v);
  w.varint(i.mode);
  encode_time(w, i.mtime);
  if (has & kOwner) {
    w.varint(i.uid);
    w.varint(i.gid);
  }
  if (has & kNlink) w.varint(i.nlink);
  if (has & kSize) w.varint(i.size);
  if (has & kBlocks) w.varint(i.blocks);
  if (has & kRdev) w.varint(i.rdev);
  if (has & kAtime) encode_time(w, i.atime);
  if (has & kCtime) encode_time(w, i.ctime);
  if (has & kBtime) encode_time(w, i.btime);
  if (has & kSymlink) w.string(i.symlink());
  if (has & kXattrs) {
    w.varint(i.xattrs().size());
    for (const auto& [name, value] : i.xattrs()) {
      w.string(name);
      w.string(value);
    }
  }
}

void decode_inode(ByteReader& r, Inode& i) {
  auto u32 = [&r] {
    uint64_t v = r.varint();
    if (v > UINT32_MAX) r.fail();
    return static_cast<uint32_t>(v);
  };
  uint64_t has = r.varint();
  if (has & ~uint64_t{kAll}) return r.fail();
  i.ino = Ino{r.varint()};
  i.mode = u32();
  i.mtime = i.atime = i.ctime = i.btime = decode_time(r);
  i.uid = i.gid = 0;
  if (has & kOwner) {
    i.uid = u32();
    i.gid = u32();
  }
  i.nlink = has & kNlink ? u32() : 1;
  i.size = has & kSize ? r.varint() : 0;
  i.blocks = has & kBlocks ? r.varint() : 0;
  i.rdev = has & kRdev ? u32() : 0;
  if (has & kAtime) i.atime = decode_time(r);
  if (has & kCtime) i.ctime = decode_time(r);
  if (has & kBtime) i.btime = decode_time(r);
  if (!(has & (kSymlink | kXattrs))) {
    i.extra = nullptr;
    return;
  }
  InodeExtra extra;
  if (has & kSymlink) extra.symlink = r.string();
  if (has & kXattrs) {
    uint64_t n = r.varint();
    if (n > r.remaining()) return r.fail();
    for (uint64_t k = 0; k < n && r.ok(); ++k) {
      std::string name(r.string());
      extra.xattrs[std::move(name)] = r.string();
    }
  }
  i.set_extra(std::move(extra));
}

}  // namespace graftfs
