#include "harness/tree.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "harness/process.h"

namespace graftfs::bench {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_children(const fs::path& directory) {
  std::vector<fs::path> children;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    children.push_back(entry.path());
  }
  std::sort(children.begin(), children.end());
  return children;
}

void count(RealTree& tree, const fs::directory_entry& entry) {
  if (entry.is_symlink()) {
    tree.links++;
  } else if (entry.is_directory()) {
    tree.directories++;
  } else if (entry.is_regular_file()) {
    tree.files++;
    tree.bytes += entry.file_size();
  }
}

}  // namespace

RealTree make_real_tree(const fs::path& directory, uint64_t least_files) {
  RealTree tree;
  std::vector<fs::path> parts;
  auto add = [&](const fs::path& part) {
    if (tree.files >= least_files) {
      return;
    }
    parts.push_back(part);
    fs::directory_entry top(part);
    count(tree, top);
    if (!top.is_symlink() && top.is_directory()) {
      for (const auto& entry :
           fs::recursive_directory_iterator(part, fs::directory_options::skip_permission_denied)) {
        count(tree, entry);
      }
    }
  };
  for (const char* place : {"/usr/include", "/usr/share"}) {
    for (const fs::path& child : sorted_children(place)) {
      add(child);
    }
  }
  if (tree.files < least_files) {
    throw BenchmarkError(fmt::format(
        "/usr/include and /usr/share hold only {} files and {} are needed; install some "
        "development packages",
        tree.files, least_files));
  }
  fs::path list = directory / "tree.list";
  {
    std::ofstream file(list, std::ios::binary);
    for (const fs::path& part : parts) {
      file << part.relative_path().string() << '\0';
    }
  }
  tree.archive = directory / "tree.tar";
  run_or_throw({"tar", "-C", "/", "--null", "-T", list, "-cf", tree.archive});
  return tree;
}

}  // namespace graftfs::bench
