#include "differential/compare.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "differential/draw.h"

namespace graftfs::mounttest {

namespace {

struct Difference {
  size_t at;  // the step
  std::string subject, reference;
};

class Pair {
 public:
  Pair(const std::string& subject, const std::string& reference)
      : subject_(subject), reference_(reference) {}

  std::optional<Difference> first_difference(const std::vector<Step>& steps) const {
    const auto a = run_steps(subject_, steps), b = run_steps(reference_, steps);
    for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      std::string ours = i < a.size() ? a[i] : "(nothing)";
      std::string theirs = i < b.size() ? b[i] : "(nothing)";
      if (ours != theirs) return Difference{i, std::move(ours), std::move(theirs)};
    }
    return std::nullopt;
  }

 private:
  const std::string &subject_, &reference_;
};

// Leaves out steps, large pieces first, as long as the last step still differs.
std::vector<Step> shorten(const Pair& pair, std::vector<Step> steps, Difference& found) {
  for (size_t piece = steps.size() / 2; piece > 0; piece = piece > 1 ? piece / 2 : 0) {
    for (size_t from = 0; from + piece < steps.size();) {
      std::vector<Step> fewer(steps.begin(), steps.begin() + from);
      fewer.insert(fewer.end(), steps.begin() + from + piece, steps.end());
      auto still = pair.first_difference(fewer);
      if (still && still->at + 1 >= fewer.size()) {
        steps = std::move(fewer);
        found = std::move(*still);
      } else {
        from += piece;
      }
    }
  }
  return steps;
}

}  // namespace

std::string compare(const std::string& subject, const std::string& reference, uint64_t seed,
                    size_t count) {
  std::vector<Step> steps = draw_sequence(seed, count);
  const Pair pair(subject, reference);
  auto found = pair.first_difference(steps);
  if (!found) return "";
  steps.resize(std::min(found->at + 1, steps.size()));
  steps = shorten(pair, std::move(steps), *found);
  std::string out = fmt::format("seed {}: the last of these calls differs\n", seed);
  for (const Step& step : steps) out += "  " + step.text + "\n";
  out += fmt::format("---- {}\n{}\n---- {}\n{}\n", subject, found->subject, reference,
                     found->reference);
  return out;
}

std::string transcript(const std::string& dir, uint64_t seed, size_t count) {
  const auto steps = draw_sequence(seed, count);
  const auto texts = run_steps(dir, steps);
  std::string out = fmt::format("seed {}\n", seed);
  for (size_t i = 0; i < texts.size(); ++i)
    out += (i < steps.size() ? steps[i].text : "") + ": " +
           texts[i].substr(0, texts[i].find('\n')) + "\n";
  return out;
}

Reference::Reference() {
  if (geteuid() != 0) {
    why_ = "mounting needs root";
    return;
  }
  char name[] = "/var/tmp/graftfs-reference-XXXXXX";
  if (!mkdtemp(name)) {
    why_ = "no temporary directory";
    return;
  }
  root_ = name;
  const std::string dir = root_ + "/mnt";
  mkdir(dir.c_str(), 0755);
  const std::string command = fmt::format(
      "truncate -s 128M {0}/image && mkfs.ext4 -q -F -b 4096 -I 256 {0}/image > {0}/log 2>&1 && "
      "mount -o loop,suid,dev {0}/image {1} >> {0}/log 2>&1",
      root_, dir);
  if (std::system(command.c_str()) == 0) {
    dir_ = dir + "/tree";
    mkdir(dir_.c_str(), 0777);
  } else {
    why_ = "an ext4 in a file cannot be made and mounted here";
  }
}

Reference::~Reference() {
  if (root_.empty()) return;
  umount2((root_ + "/mnt").c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

}  // namespace graftfs::mounttest
