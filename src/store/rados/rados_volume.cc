#include <fmt/format.h>

#include <cstring>

#include "store/rados/librados_session.h"
#include "store/rados/rados_store.h"

namespace graftfs {
namespace {

using rados::bufferlist;
using Session = rados::LibradosSession;
using rados::to_buffer;
using rados::to_text;

constexpr size_t kMostBytes = 1 << 20;

// Of an object that need not be there.
Result<std::optional<std::string>> read_object(Session& session, const char* object) {
  bufferlist bytes;
  int code = session.io().read(object, bytes, kMostBytes, 0);
  if (code == -ENOENT) return std::nullopt;
  if (code < 0) return session.failed(code, "read", object);
  return to_text(bytes);
}

// False: it is there already.
Result<bool> create_object(Session& session, const char* object, std::string_view bytes) {
  librados::ObjectWriteOperation op;
  op.create(true);
  op.write_full(to_buffer(bytes));
  int code = session.io().operate(object, &op);
  if (code == -EEXIST) return false;
  if (code < 0) return session.failed(code, "create", object);
  return true;
}

bool is_ours(std::string_view object) {
  for (std::string_view prefix : {"dir/", "data/", "loc/", "journal/"})
    if (object.starts_with(prefix)) return true;
  for (std::string_view known :
       {rados::kVolumeObject, rados::kKeyObject, rados::kConfigObject, rados::kStateObject})
    if (object == known) return true;
  return false;
}

// Calls `fn` for every object of the namespace, until it returns false.
template <class F>
Result<void> each_object(Session& session, F&& fn) {
  try {
    for (auto it = session.io().nobjects_begin(); it != session.io().nobjects_end(); ++it)
      if (!fn(it->get_oid())) break;
  } catch (const std::exception& e) {
    return fail(EIO, fmt::format("cannot list {}: {}", session.name().shown(), e.what()));
  }
  return {};
}

Result<std::shared_ptr<Session>> connect(const std::string& text) {
  TRY_ASSIGN(rados::VolumeName name, rados::parse_name(text));
  return Session::connect(name);
}

}  // namespace

Result<local::VolumeFile> RadosVolume::format(const std::string& name, local::VolumeFile file) {
  TRY_ASSIGN(auto session, connect(name));
  const std::string shown = session->name().shown();
  TRY_ASSIGN(auto there, read_object(*session, rados::kVolumeObject));
  if (there)
    return fail(EEXIST,
                fmt::format("{} is a GraftFS volume already; remove it first if you want an "
                            "empty one",
                            shown));
  // What a format that was cut off has left may stay.
  std::string other;
  TRY(each_object(*session, [&other](const std::string& object) {
    if (!is_ours(object)) other = object;
    return other.empty();
  }));
  if (!other.empty())
    return fail(ENOTEMPTY, fmt::format("{} is not empty ('{}' is in it); give another pool or "
                                       "namespace to make a volume in",
                                       shown, other));
  librados::ObjectWriteOperation state;
  state.create(false);
  state.omap_clear();
  if (int code = session->io().operate(rados::kStateObject, &state); code < 0)
    return session->failed(code, "create", rados::kStateObject);
  // Last: before it there is no volume.
  TRY_ASSIGN(bool made, create_object(*session, rados::kVolumeObject, local::encode(file)));
  if (!made)
    return fail(EEXIST, fmt::format("{} is being made a volume by another process", shown));
  return file;
}

namespace {

// Who watches an index of a journal.
Result<std::optional<std::string>> find_owner(Session& session) {
  std::optional<std::string> owner;
  Result<void> result;
  TRY(each_object(session, [&](const std::string& object) {
    if (!object.starts_with("journal/") || object.ends_with(".seg")) return true;
    std::list<obj_watch_t> watchers;
    int code = session.io().list_watchers(object, &watchers);
    if (code < 0 && code != -ENOENT) result = session.failed(code, "read", object);
    if (code == 0 && !watchers.empty())
      owner = fmt::format("{} is owned by the client at {}", object, watchers.front().addr);
    return !owner && result;
  }));
  if (!result) return std::unexpected(std::move(result).error());
  return owner;
}

}  // namespace

Result<std::optional<std::string>> RadosVolume::in_use() {
  TRY_ASSIGN(auto session, Session::connect(name_));
  return find_owner(*session);
}

Result<void> RadosVolume::erase(const std::string& name) {
  TRY_ASSIGN(auto session, connect(name));
  TRY_ASSIGN(auto there, read_object(*session, rados::kVolumeObject));
  if (!there) return {};
  std::vector<std::string> objects;
  TRY_ASSIGN(auto owner, find_owner(*session));
  if (owner)
    return fail(
        EBUSY, fmt::format("{} is in use ({}); unmount it first", session->name().shown(), *owner));
  TRY(each_object(*session, [&](const std::string& object) {
    if (is_ours(object)) objects.push_back(object);
    return true;
  }));
  // First, so that a crash in the middle leaves something that is not a volume.
  if (int code = session->io().remove(rados::kVolumeObject); code < 0)
    return session->failed(code, "remove", rados::kVolumeObject);
  for (const std::string& object : objects) {
    int code = session->io().remove(object);
    if (code < 0 && code != -ENOENT) return session->failed(code, "remove", object);
  }
  return {};
}

Result<std::shared_ptr<RadosVolume>> RadosVolume::open(const std::string& name,
                                                       RadosOptions options) {
  TRY_ASSIGN(auto session, connect(name));
  std::shared_ptr<RadosVolume> volume(new RadosVolume);
  volume->name_ = session->name();
  volume->options_ = options;
  TRY_ASSIGN(auto bytes, read_object(*session, rados::kVolumeObject));
  const std::string shown = volume->name_.shown();
  if (!bytes)
    return fail(EINVAL,
                fmt::format("{} is not a GraftFS volume (there is no object '{}' in it); make "
                            "one with 'graftfs format {}'",
                            shown, rados::kVolumeObject, shown));
  TRY_ASSIGN(volume->file_, local::decode_volume_file(*bytes, shown + "/" + rados::kVolumeObject));
  return volume;
}

Result<std::string> RadosVolume::secret(const std::function<std::string()>& make) {
  TRY_ASSIGN(auto session, Session::connect(name_));
  for (;;) {
    TRY_ASSIGN(auto key, read_object(*session, rados::kKeyObject));
    if (key) return std::move(*key);
    TRY_ASSIGN(bool made, create_object(*session, rados::kKeyObject, make()));
    (void)made;  // somebody else's, otherwise
  }
}

Result<std::string> RadosVolume::config() const {
  TRY_ASSIGN(auto session, Session::connect(name_));
  TRY_ASSIGN(auto text, read_object(*session, rados::kConfigObject));
  return text.value_or("");
}

Result<void> RadosVolume::set_config(std::string_view text) const {
  TRY_ASSIGN(auto session, Session::connect(name_));
  bufferlist bytes = to_buffer(text);
  if (int code = session->io().write_full(rados::kConfigObject, bytes); code < 0)
    return session->failed(code, "write", rados::kConfigObject);
  return {};
}

}  // namespace graftfs
