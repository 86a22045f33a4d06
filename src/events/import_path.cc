// ImportPath: a subtree's root hangs elsewhere now: {root, path}.
#include <nlohmann/json.hpp>

#include "events/import.h"
#include "events/registry.h"

namespace graftfs {

void encode_import_path(ByteWriter& w, Ino root, std::string_view path) {
  w.varint(root.v);
  w.string(path);
}

namespace {

bool decode(std::string_view payload, Ino& root, std::string& path) {
  ByteReader r(payload);
  root = Ino{r.varint()};
  path = r.string();
  return r.done() && root;
}

}  // namespace

const EventKind kImportPathEvent = {EventType::import_path, "ImportPath",
                                    [](ReplayContext& context, Lsn, std::string_view payload) {
                                      Ino root;
                                      std::string path;
                                      if (!decode(payload, root, path)) return false;
                                      auto it = context.state.imports.find(root);
                                      if (it != context.state.imports.end()) it->second.path = path;
                                      return true;
                                    },
                                    [](std::string_view payload, nlohmann::json& out) {
                                      Ino root;
                                      std::string path;
                                      if (!decode(payload, root, path)) return false;
                                      out["root"] = root.v;
                                      out["path"] = path;
                                      return true;
                                    }};

}  // namespace graftfs
