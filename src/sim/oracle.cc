#include "sim/oracle.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <functional>
#include <utility>

namespace graftfs::sim {

void Oracle::fail(std::string what) {
  if (!failure_.empty()) return;
  failure_ = fmt::format("at step {} (time {:.6f} s): {}", queue_.steps(),
                         static_cast<double>(queue_.now()) / 1e9, what);
}

std::set<Ino> Oracle::held_inos() const {
  std::set<Ino> inos;
  for (const auto& [ino, count] : held)
    if (count > 0) inos.insert(ino);
  return inos;
}

// -- requests -------------------------------------------------------------------------------------

void Oracle::submitted(int32_t call, const Request& request) {
  if (!std::holds_alternative<SyncArgs>(request.args)) return;
  // What this session was answered before is durable when this is answered.
  Lsn lsn = answered_[request.session];
  records_[call] = {lsn, lsn, 0};
}

bool Oracle::stale_is_right(const Expected& expected) {
  std::set<Ino> candidates;
  for (const auto& [ino, what, name] : expected.shown)
    if (now_.is_orphan(ino) && !(held.contains(ino) && held[ino] > 0)) candidates.insert(ino);
  if (candidates.size() == 1) now_.forget(*candidates.begin());
  return !candidates.empty();
}

void Oracle::executed(int32_t call, const Request& request, const Reply& reply, Lsn lsn) {
  if (!failure_.empty()) return;
  ++executions_;
  auto what = [&] {
    return fmt::format("{} (session {:x}, seq {})", op_name(request.args), request.session.v,
                       request.seq);
  };
  if (request.seq && done_.contains({request.session, request.seq}))
    return fail(what() + " was carried out twice");
  if (lsn && !history_.empty() && lsn <= history_.back().lsn)
    return fail(what() + " was logged out of order");
  if (damaged_ && (reply.err == EUCLEAN || reply.err == EIO)) {
    records_[call].err = reply.err;
    return;
  }
  Timespec now = queue_.wall_now();
  Expected e = now_.execute(request, reply, lsn.v != 0, now);
  std::string wrong = difference(e, reply, lsn.v != 0);
  if (wrong.empty() && reply.err == ESTALE && e.err != ESTALE) {
    if (!stale_is_right(e)) wrong = "an inode that is open was purged";
    e.shown.clear();  // that it is gone, and nothing of where its name should have gone
  }
  if (wrong.empty() && reply.err == ENOSPC && e.err != ENOSPC && !options_.small_disk)
    wrong = "there is space, and the answer is ENOSPC";
  if (wrong.empty() && reply.err == 0 && e.atime_skipped && !options_.small_disk)
    wrong = "atime did not move";
  if (!wrong.empty()) return fail(what() + ": " + wrong);

  Record& record = records_[call];
  record.err = reply.err;
  record.written = std::max(lsn, now_.reveals(e, request.session, Durability::strict));
  record.durable = now_.reveals(e, request.session, options_.durability);
  if (options_.durability == Durability::strict) record.durable = std::max(record.durable, lsn);
  if (!lsn) return;
  now_.note_change(e, request.session, lsn);
  history_.push_back({request, reply, lsn, now});
  if (request.seq) done_[{request.session, request.seq}] = {lsn, reply.stat.ino};
  follow_data(request, reply, lsn);
}

void Oracle::follow_data(const Request& request, const Reply& reply, Lsn lsn) {
  if (auto* a = std::get_if<WroteArgs>(&request.args)) {
    files_[a->ino].pin(lsn);
  } else if (auto* a = std::get_if<SetattrArgs>(&request.args)) {
    files_[a->ino].pin(lsn);
  } else if (reply.created || std::holds_alternative<MknodArgs>(request.args)) {
    files_[reply.stat.ino] = {};
  }
}

void Oracle::released(int32_t call, const Request& request, const Reply& reply) {
  if (!failure_.empty()) return;
  auto what = [&] {
    return fmt::format("the answer to {} (session {:x}, seq {})", op_name(request.args),
                       request.session.v, request.seq);
  };
  auto it = records_.find(call);
  if (it == records_.end()) {
    if (std::holds_alternative<StatfsArgs>(request.args)) return;
    if (reply.err && options_.faults) return;
    if (reply.err) return fail(fmt::format("{} is errno {} out of nowhere", what(), reply.err));
    auto done = done_.find({request.session, request.seq});
    if (!request.seq || done == done_.end()) return fail(what() + " was never worked out");
    if (reply.stat.ino != done->second.result)
      return fail(fmt::format("{} names inode {:#x} the second time, and {:#x} the first", what(),
                              reply.stat.ino.v, done->second.result.v));
    return;
  }
  Record record = it->second;
  records_.erase(it);
  if (reply.err != record.err) {
    if (reply.err && options_.faults) return;
    return fail(fmt::format("{} is errno {} and was {}", what(), reply.err, record.err));
  }
  if (options_.print && record.durable > must_durable_)
    fmt::print("{:>6} {} promises event {}\n", queue_.steps(), what(), record.durable.v);
  must_written_ = std::max(must_written_, record.written);
  must_durable_ = std::max(must_durable_, record.durable);
  Lsn& own = answered_[request.session];
  own = std::max(own, record.written);
}

// -- file data ------------------------------------------------------------------------------------

size_t Oracle::data_begin(Ino ino, uint64_t offset, uint64_t end, std::string bytes) {
  return files_[ino].begin(offset, end, std::move(bytes), queue_.steps());
}
void Oracle::data_end(Ino ino, size_t op, bool done) {
  files_[ino].end(op, queue_.steps());
  if (!done) files_[ino].void_op(op);
}
void Oracle::data_unknown(Ino ino, size_t op) { files_[ino].set_any(op); }
void Oracle::data_is(Ino ino, size_t op, std::string bytes) {
  files_[ino].set_bytes(op, std::move(bytes));
}
void Oracle::data_crashed(Ino ino) { files_[ino].crash(queue_.steps()); }

void Oracle::data_read(Ino ino, uint64_t began, uint64_t offset, const std::string& bytes) {
  if (!failure_.empty()) return;
  const FileHistory& file = files_[ino];
  Look look{Look::live, began, queue_.steps(), {}};
  if (auto at = file.wrong(offset, bytes, look))
    fail(fmt::format("read of inode {:#x}: byte {} is {:#04x}; writes that cover it:{}", ino.v, *at,
                     static_cast<uint8_t>(bytes[*at - offset]), file.explain(*at)));
}

// -- crashes
// ----------------------------------------------------------------------------------------

Model Oracle::at(Lsn last) const {
  Model model = *base_;
  for (const Executed& e : history_) {
    if (e.lsn > last) break;
    Expected expected = model.execute(e.request, e.reply, true, e.now);
    model.note_change(expected, e.request.session, e.lsn);
  }
  return model;
}

void Oracle::crashed(CrashKind kind) {
  crashed_ = true;
  power_cut_ |= kind == CrashKind::power_cut;
  // After a sync that failed nothing is known of what was written and not synced.
  bool durable_only = kind == CrashKind::power_cut || options_.faults;
  required_ = std::min(required_, durable_only ? must_durable_ : must_written_);
  records_.clear();
}

std::string Oracle::check(const Medium& disk, const Model& model, const Look& look,
                          bool holds_count, bool settled, std::optional<Image>* out) {
  ImageOptions options;
  options.volume = options_.volume;
  options.data_may_rot = options_.data_may_rot;
  auto image = read_image(disk, options);
  // A lie told since: whoever reads this disk is told so.
  if (!image && image.error().is_damage() && disk.lies() > 0) return {};
  if (!image) return "the disk cannot be read: " + describe(image.error());
  std::set<Ino> held = holds_count ? held_inos() : std::set<Ino>{};
  if (auto wrong = check_consistent(*image, settled); !wrong.empty()) return wrong;
  if (auto wrong = compare_names(*image, model, held, settled); !wrong.empty()) return wrong;
  if (auto wrong = compare_data(*image, model, files_, look); !wrong.empty()) return wrong;
  if (auto wrong = check_replays(disk, *image, settled); !wrong.empty()) return wrong;
  if (out) *out = std::move(*image);
  return {};
}

// Replayed twice, and from every other place where replay may begin.
std::string Oracle::check_replays(const Medium& disk, const Image& image, bool settled) {
  ImageOptions options;
  options.volume = options_.volume;
  options.data_may_rot = options_.data_may_rot;
  options.twice = true;
  auto again = read_image(disk, options);
  if (!again) return "replay twice: " + describe(again.error());
  if (auto wrong = compare_trees(image, *again); !wrong.empty()) return "replay twice: " + wrong;
  options.twice = false;
  bool first = true;
  for (const SegmentState& segment : image.recovered.live) {
    if (!segment.major || std::exchange(first, false)) continue;
    options.from = segment.id;
    auto other = read_image(disk, options);
    std::string what = fmt::format("replay from segment {}: ", segment.id.v);
    if (!other) return what + describe(other.error());
    // What is older than that segment is in the store.
    if (!settled) continue;
    if (auto wrong = compare_trees(image, *other); !wrong.empty()) return what + wrong;
  }
  return {};
}

void Oracle::first_recovery(const Medium& disk) {
  ImageOptions options;
  options.volume = options_.volume;
  auto image = read_image(disk, options);
  if (!image) return fail("a new volume cannot be read: " + describe(image.error()));
  Stat root = image->dirs.at(kRootIno).inode;
  root.blocks = 0;
  now_.set_root(root);
  base_ = now_;
}

// Events above what a cut-off owner kept are its own, if the journal has a segment of it.
Lsn Oracle::end_of_history(const Recovered& recovered) const {
  Lsn end = recovered.last;
  for (size_t i = 0; i < cuts_.size(); ++i) {
    SegmentId from = cuts_[i].newest;
    SegmentId to = i + 1 < cuts_.size() ? cuts_[i + 1].newest : recovered.newest;
    for (const SegmentState& segment : recovered.live)
      if (segment.id > from && segment.id <= to) end = std::min(end, cuts_[i].last);
  }
  return end;
}

void Oracle::recovered(const Medium& disk, const Recovered& recovered) {
  if (!failure_.empty()) return;
  if (!base_) first_recovery(disk);
  if (!failure_.empty()) return;
  // What was written and not synced cannot be told from a torn tail once a bit of it is wrong.
  if (damaged_ && required_.v != UINT64_MAX) required_ = std::min(required_, must_durable_);
  const char* how = power_cut_ ? "power cut" : "process death";
  const Lsn last = end_of_history(recovered);
  std::string wrong;
  std::optional<Image> image;  // none where only a refusal could be asked of who reads the disk
  if (required_.v != UINT64_MAX && last < required_) {
    wrong = fmt::format("events up to {} were promised and {} is the last that survived",
                        required_.v, last.v);
  } else if (!damaged_) {
    if (options_.data_may_rot) forget_unsealed(at(last));
    // A sync that failed may have dropped what was not durable.
    bool durable_only = power_cut_ || options_.faults;
    Look look{durable_only ? Look::after_power_cut : Look::after_death, queue_.steps(),
              queue_.steps(), last};
    wrong = check(disk, at(last), look, !power_cut_, false, &image);
  }
  if (!wrong.empty())
    return fail(fmt::format("after recovery up to event {} ({}): {}", last.v, how, wrong));
  now_ = at(last);
  std::erase_if(done_, [&](const auto& d) { return d.second.lsn > last; });
  for (auto& [ino, file] : files_) {
    if (options_.faults) file.doubt(last);
    file.unpin(last);
  }
  if (damaged_ || (power_cut_ && !image)) {
    // A damaged tail may have been cut anywhere above what was promised.
    for (auto& [ino, file] : files_) file.settle_unknown();
  } else if (power_cut_) {
    for (auto& [ino, file] : files_) {
      auto it = image->data.find(ino);
      if (image->spoiled.contains(ino)) {
        file.settle_unknown();
        continue;
      }
      file.settle(it == image->data.end() ? std::string() : it->second);
    }
  }
  base_ = now_;
  history_.clear();
  records_.clear();
  for (auto& [session, lsn] : answered_) lsn = std::min(lsn, last);
  must_written_ = std::min(must_written_, last);
  must_durable_ = std::min(must_durable_, last);
  cuts_.clear();
  required_ = Lsn{UINT64_MAX};
  crashed_ = power_cut_ = false;
}

void Oracle::disk_may_have_spoiled(const std::map<Ino, uint64_t>& sealed) {
  for (const auto& [ino, file] : files_) {
    auto it = sealed.find(ino);
    const uint64_t bytes = it == sealed.end() ? 0 : it->second;
    auto [known, first] = sealed_.try_emplace(ino, bytes);
    known->second = std::min(known->second, bytes);
  }
}

void Oracle::forget_unsealed(const Model& model) {
  for (auto [ino, bytes] : std::exchange(sealed_, {})) {
    const ModelNode* node = model.find(ino);
    if (node && (bytes == 0 || node->stat.size > bytes)) files_[ino].settle_unknown();
  }
}

void Oracle::what_if(const Medium& disk, CrashKind kind, Random& random) {
  if (!failure_.empty() || !base_ || crashed_ || damaged_ || disk.lies() > 0) return;
  std::shared_ptr<Medium> copy = disk.what_if(random, kind);
  ImageOptions options;
  options.volume = options_.volume;
  options.data_may_rot = options_.data_may_rot;
  bool cut = kind == CrashKind::power_cut;
  const char* how = cut ? "power cut" : "process death";
  auto image = read_image(*copy, options);
  if (!image) return fail(fmt::format("after a {} here: {}", how, describe(image.error())));
  Lsn last = image->recovered.last;
  Lsn required = cut || options_.faults ? must_durable_ : must_written_;
  if (last < required && options_.print) {
    for (const SegmentState& segment : image->recovered.live)
      fmt::print("       segment {} from event {} on, {} bytes\n", segment.id.v, segment.first.v,
                 segment.bytes);
  }
  if (last < required)
    return fail(
        fmt::format("after a {} here events up to {} are left, and {} was promised ({} "
                    "events were cut off, of {} in {} segments)",
                    how, last.v, required.v, image->recovered.cut, image->recovered.events,
                    image->recovered.live.size()));
  Look look{cut ? Look::after_power_cut : Look::after_death, queue_.steps(), queue_.steps(), last};
  std::string wrong = check(*copy, at(last), look, !cut, false, nullptr);
  if (!wrong.empty() && options_.print)
    for (const SegmentState& segment : image->recovered.live)
      fmt::print("       segment {} from event {} on\n", segment.id.v, segment.first.v);
  if (!wrong.empty())
    fail(fmt::format("after a {} here, with events up to {}: {}", how, last.v, wrong));
}

void Oracle::check_settled(const Medium& disk) {
  if (!failure_.empty()) return;
  if (disk.lies() > 0) {
    // What a lie left behind is noticed here at the latest, or does no harm.
    ImageOptions options;
    options.volume = options_.volume;
    options.data_may_rot = options_.data_may_rot;
    auto image = read_image(disk, options);
    if (!image && image.error().is_damage()) return;
  }
  Look look{Look::live, queue_.steps(), queue_.steps(), {}};
  std::string wrong = check(disk, now_, look, true, true, nullptr);
  if (!wrong.empty()) fail("when everything is written back: " + wrong);
}

}  // namespace graftfs::sim
