#include "store/rados/model_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace graftfs::rados {
namespace {

// Where what is not an operation on one object is sent; no OSD's.
constexpr char kMonitor[] = "*";
constexpr char kAddress[] = "model:";

VolumeName name_of_model() {
  VolumeName name;
  name.pool = "model";
  return name;
}

bool holds(Compare how, auto&& left, auto&& right) {
  switch (how) {
    case Compare::equal:
      return left == right;
    case Compare::less:
      return left < right;
    case Compare::greater:
      return left > right;
    case Compare::greater_or_equal:
      return left >= right;
  }
  return false;
}

uint64_t number_in(const std::string& text) {
  uint64_t v = 0;
  std::from_chars(text.data(), text.data() + text.size(), v);
  return v;
}

const std::string& value_of(const std::map<std::string, std::string>& from,
                            const std::string& key) {
  static const std::string nothing;
  auto it = from.find(key);
  return it == from.end() ? nothing : it->second;
}

}  // namespace

std::string ModelCluster::Client::address() const { return fmt::format("{}{}", kAddress, id); }

ModelCluster::ModelCluster(ModelOptions options, Executor* executor, Random* random)
    : options_(options), executor_(executor), random_(random), osds_(options.osds) {
  objects_[kStateObject];
}

std::shared_ptr<ModelSession> ModelCluster::connect(Executor& executor, ModelProcess process) {
  auto client =
      std::make_shared<Client>(Client{++last_client_, std::move(process), &executor, map_});
  clients_[client->id] = client;
  return std::make_shared<ModelSession>(shared_from_this(), std::move(client));
}

Nanos ModelCluster::draw_delay(std::string_view object) {
  if (!random_) return 0;
  Nanos delay = static_cast<Nanos>(random_->below(static_cast<uint64_t>(options_.latency) + 1));
  const bool slow_osd = options_.slow_osds && object != kMonitor && osd_of(object) % 3 == 0;
  if (slow_osd || random_->below(100) < options_.slow_percent)
    delay += static_cast<Nanos>(random_->below(static_cast<uint64_t>(options_.slow) + 1));
  return delay;
}

Nanos ModelCluster::draw_late(std::string_view object) {
  if (random_->below(3) == 0) return draw_delay(object);
  return static_cast<Nanos>(random_->below(static_cast<uint64_t>(options_.late) + 1));
}

// FNV-1a: the same everywhere.
unsigned ModelCluster::osd_of(std::string_view object) const {
  uint64_t hash = 0xcbf29ce484222325u;
  for (char c : object) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return static_cast<unsigned>((hash >> 16) % osds_.size());
}

// -- what is on its way -------------------------------------------------------------------------

void ModelCluster::send(const std::string& object, Sent sent) {
  if (sent.from->gone()) return;
  if (!executor_) {
    take_effect(object, sent);
    return;
  }
  const Way way{sent.from->id, object};
  Queue& queue = queues_[way];
  queue.sent.push_back(std::move(sent));
  if (queue.sent.size() == 1) schedule(way, draw_delay(object));
}

void ModelCluster::schedule(const Way& way, Nanos after) {
  const uint64_t turn = queues_[way].turn = ++last_turn_;
  executor_->post_after(after, [cluster = weak_from_this(), way, turn] {
    auto self = cluster.lock();
    if (!self) return;
    auto it = self->queues_.find(way);
    if (it != self->queues_.end() && it->second.turn == turn) self->arrive(way);
  });
}

void ModelCluster::arrive(const Way& way) {
  if (way.second != kMonitor) {
    const Nanos back_at = osds_[osd_of(way.second)].back_at;
    if (back_at > now()) return schedule(way, back_at - now() + draw_delay(way.second));
  }
  Queue& queue = queues_[way];
  Sent sent = std::move(queue.sent.front());
  queue.sent.pop_front();
  if (queue.sent.empty())
    queues_.erase(way);
  else
    schedule(way, draw_delay(way.second));
  take_effect(way.second, sent);
}

int ModelCluster::take_effect(const std::string& object, const Sent& sent) {
  int code = 0;
  uint64_t map = map_;
  if (object == kMonitor) {
    code = sent.carry_out(*this);
    map = map_;
  } else {
    Osd& osd = osds_[osd_of(object)];
    // Whoever has a newer map brings it.
    map = osd.map = std::max(osd.map, sent.map);
    if (is_shut_out(sent.from->id, osd.map)) {
      code = -ESHUTDOWN;
      ++counts_.shut_out;
    } else {
      code = sent.carry_out(*this);
      counts_.guarded += code == -ECANCELED;
      counts_.late += sent.from->dead;
    }
  }
  answer(object, sent, code, map);
  return code;
}

void ModelCluster::answer(const std::string& object, const Sent& sent, int code, uint64_t map) {
  if (sent.from->gone() || !sent.answer) return;
  auto arrived = [from = sent.from, tell = sent.answer, code, map] {
    if (from->gone()) return;
    from->map = std::max(from->map, map);
    tell(code);
  };
  if (!executor_) return sent.from->executor->post(std::move(arrived));
  // One connection to an OSD, which answers in turn.
  Nanos& last = sent.from->answers[object];
  last = std::max(last + 1, now() + draw_delay(object));
  executor_->post_after(last - now(), [to = sent.from->executor, arrived]() mutable {
    to->post(std::move(arrived));
  });
}

void ModelCluster::finish_what_was_sent(const Way& way) {
  for (auto it = queues_.find(way); it != queues_.end(); it = queues_.find(way)) {
    Sent sent = std::move(it->second.sent.front());
    it->second.sent.pop_front();
    if (it->second.sent.empty()) queues_.erase(it);
    take_effect(way.second, sent);
  }
}

void ModelCluster::kill(const ModelProcess& process) {
  ended_.insert(process);
  for (auto& [id, client] : clients_) {
    if (client->process != process || client->dead) continue;
    client->dead = true;
    if (!client->closed) client->silent_since = now();
    client->watches.clear();
    for (auto it = queues_.lower_bound({id, ""}); it != queues_.end() && it->first.first == id;) {
      auto& [way, queue] = *it++;
      std::erase_if(queue.sent, [](const Sent& sent) { return !sent.changes; });
      if (random_->below(3) == 0) queue.sent.resize(random_->below(queue.sent.size() + 1));
      if (queue.sent.empty())
        queues_.erase(Way(way));
      else
        schedule(Way(way), draw_late(way.second));
    }
  }
}

void ModelCluster::restart_osd(unsigned osd, Nanos away, bool forgets) {
  osds_[osd].back_at = now() + away;
  // Who is dead sends nothing again.
  std::erase_if(queues_, [&](const auto& q) {
    return q.second.sent.front().from->dead && osd_of(q.first.second) == osd;
  });
  if (!forgets) return;
  for (auto& [name, object] : objects_) {
    if (osd_of(name) != osd) continue;
    for (auto [id, timeout] : std::exchange(object.watchers, {})) {
      auto client = clients_.find(id);
      if (client == clients_.end() || client->second->gone()) continue;
      auto watch = client->second->watches.find(name);
      if (watch != client->second->watches.end()) Watch::lost(watch->second, -ENOTCONN);
    }
  }
}

void ModelCluster::settle(std::string_view prefix, bool all) {
  std::vector<Way> ways;
  for (const auto& [way, queue] : queues_)
    if (queue.sent.front().from->dead && way.second.starts_with(prefix)) ways.push_back(way);
  for (const Way& way : ways) {
    auto& sent = queues_[way].sent;
    if (!all) sent.resize(random_->below(sent.size() + 1));
    if (sent.empty()) queues_.erase(way);
    finish_what_was_sent(way);
  }
}

std::shared_ptr<ModelCluster> ModelCluster::clone() const {
  ModelOptions options;
  options.osds = 1;
  auto copy = std::make_shared<ModelCluster>(options);
  copy->objects_ = objects_;
  copy->shut_out_ = shut_out_;
  copy->map_ = copy->osds_[0].map = map_;
  copy->last_client_ = last_client_;
  copy->ended_ = ended_;
  return copy;
}

std::shared_ptr<ModelCluster> ModelCluster::what_if(Random& random) const {
  auto copy = clone();
  for (const auto& [way, queue] : queues_) {
    const uint64_t arrive = random.below(queue.sent.size() + 1);
    if (is_shut_out(way.first, map_)) continue;
    for (uint64_t i = 0; i < arrive; ++i)
      if (queue.sent[i].changes) queue.sent[i].carry_out(*copy);
  }
  return copy;
}

// -- the map ------------------------------------------------------------------------------------

bool ModelCluster::is_shut_out(uint64_t client, uint64_t map) const {
  auto it = shut_out_.find(client);
  return it != shut_out_.end() && it->second <= map;
}

void ModelCluster::new_map(uint64_t client) {
  ++map_;
  if (!options_.guards_alone) shut_out_.try_emplace(client, map_);
  for (unsigned i = 0; i < osds_.size(); ++i) {
    if (!executor_) {
      osds_[i].map = map_;
      continue;
    }
    const auto within = static_cast<uint64_t>(options_.map_within) + 1;
    executor_->post_after(static_cast<Nanos>(random_->below(within)),
                          [cluster = weak_from_this(), i, map = map_] {
                            if (auto self = cluster.lock())
                              self->osds_[i].map = std::max(self->osds_[i].map, map);
                          });
  }
}

// -- what an OSD does ---------------------------------------------------------------------------

// What it answers, before it changes anything. Guards look at what was there before the operation.
int ModelCluster::check(const std::string& name, const WriteOp& op) const {
  const auto it = objects_.find(name);
  const Object* there = it == objects_.end() ? nullptr : &it->second;
  bool exists = there != nullptr;
  for (const step::OfWrite& any : op.steps()) {
    if (auto* create = std::get_if<step::Create>(&any)) {
      if (create->exclusive && exists) return -EEXIST;
      exists = true;
    } else if (std::get_if<step::AssertExists>(&any)) {
      if (!exists) return -ENOENT;
    } else if (auto* attribute = std::get_if<step::CompareAttribute>(&any)) {
      if (!there) return -ENOENT;
      const uint64_t is = number_in(value_of(there->attributes, attribute->name));
      if (!holds(attribute->how, attribute->value, is)) return -ECANCELED;
    } else if (auto* compare = std::get_if<step::CompareKeys>(&any)) {
      if (!exists) return -ENOENT;
      static const Object kNew;
      for (const auto& [key, guard] : compare->keys)
        if (!holds(guard.second, value_of((there ? *there : kNew).keys, key), to_text(guard.first)))
          return -ECANCELED;
    } else if (std::get_if<step::RemoveKeys>(&any)) {
      if (!exists) return -ENOENT;
    } else if (std::get_if<step::Remove>(&any)) {
      if (!exists) return -ENOENT;
      exists = false;
    } else if (!std::get_if<step::Truncate>(&any) && !std::get_if<step::Zero>(&any)) {
      exists = true;  // these two make no object
    }
  }
  return 0;
}

namespace {

void put_bytes(ModelCluster::Object& object, uint64_t offset, std::string_view bytes) {
  if (object.bytes.size() < offset + bytes.size()) object.bytes.resize(offset + bytes.size());
  object.bytes.replace(offset, bytes.size(), bytes);
  object.held.add(offset, offset + bytes.size());
}

void cut_bytes(ModelCluster::Object& object, uint64_t size) {
  object.bytes.resize(size);
  object.held.remove(size, UINT64_MAX);
}

}  // namespace

int ModelCluster::change(const std::string& name, const WriteOp& op) {
  if (int code = check(name, op); code < 0) return code;
  for (const step::OfWrite& any : op.steps()) {
    if (std::get_if<step::Remove>(&any)) {
      objects_.erase(name);
      continue;
    }
    if (std::get_if<step::Truncate>(&any) || std::get_if<step::Zero>(&any)) {
      auto it = objects_.find(name);
      if (it == objects_.end()) continue;
      Object& object = it->second;
      if (auto* cut = std::get_if<step::Truncate>(&any)) {
        cut_bytes(object, cut->size);
        continue;
      }
      const auto& zero = std::get<step::Zero>(any);
      if (zero.offset >= object.bytes.size()) continue;
      // As an OSD does it: up to the end it is a cut.
      if (zero.offset + zero.length >= object.bytes.size()) {
        cut_bytes(object, zero.offset);
        continue;
      }
      std::memset(object.bytes.data() + zero.offset, 0, zero.length);
      object.held.remove(zero.offset, zero.offset + zero.length);
      continue;
    }
    Object& object = objects_[name];
    if (auto* attribute = std::get_if<step::SetAttribute>(&any)) {
      object.attributes[attribute->name] = to_text(attribute->value);
    } else if (auto* header = std::get_if<step::SetHeader>(&any)) {
      object.header = to_text(header->header);
    } else if (auto* set = std::get_if<step::SetKeys>(&any)) {
      for (const auto& [key, value] : set->keys) object.keys[key] = to_text(value);
    } else if (auto* gone = std::get_if<step::RemoveKeys>(&any)) {
      for (const std::string& key : gone->keys) object.keys.erase(key);
    } else if (auto* write = std::get_if<step::Write>(&any)) {
      put_bytes(object, write->offset, to_text(write->bytes));
    } else if (auto* same = std::get_if<step::WriteSame>(&any)) {
      const std::string pattern = to_text(same->bytes);
      for (uint64_t at = 0; at < same->length; at += pattern.size())
        put_bytes(object, same->offset + at, pattern);
    }
  }
  return 0;
}

int ModelCluster::read(const std::string& name, const ReadOp& op) {
  const auto it = objects_.find(name);
  if (it == objects_.end()) return -ENOENT;
  const Object& object = it->second;
  for (const step::OfRead& any : op.steps()) {
    if (auto* header = std::get_if<step::GetHeader>(&any)) {
      *header->header = to_buffer(object.header);
    } else if (auto* get = std::get_if<step::GetKeys>(&any)) {
      for (const std::string& key : get->keys)
        if (object.keys.contains(key)) (*get->found)[key] = to_buffer(object.keys.at(key));
    } else if (auto* list = std::get_if<step::ListKeys>(&any)) {
      const uint64_t most = std::min(list->most, options_.keys_in_answer);
      auto key = object.keys.upper_bound(list->after);
      if (list->after < list->prefix) key = object.keys.lower_bound(list->prefix);
      auto listed = [&] {
        return key != object.keys.end() && key->first.starts_with(list->prefix);
      };
      for (; listed() && list->found->size() < most; ++key)
        (*list->found)[key->first] = to_buffer(key->second);
      *list->more = listed();
    } else if (auto* bytes = std::get_if<step::Read>(&any)) {
      std::string_view all = object.bytes;
      all = all.substr(std::min<uint64_t>(bytes->offset, all.size()));
      *bytes->bytes = to_buffer(all.substr(0, bytes->length));
    } else if (auto* size = std::get_if<step::GetSize>(&any)) {
      *size->size = object.bytes.size();
    } else if (auto* list_watchers = std::get_if<step::ListWatchers>(&any)) {
      *list_watchers->clients = watchers(name);
    }
  }
  return 0;
}

// Those that are not forgotten yet: who was silent for too long, or is shut out.
std::vector<uint64_t> ModelCluster::watchers(const std::string& name) {
  std::vector<uint64_t> clients;
  Object& object = objects_[name];
  std::erase_if(object.watchers, [&](const auto& watcher) {
    auto [id, timeout] = watcher;
    auto client = clients_.find(id);
    if (client == clients_.end() || is_shut_out(id, osds_[osd_of(name)].map)) return true;
    if (!client->second->gone()) return false;
    return !executor_ || now() - client->second->silent_since > timeout * kSecond;
  });
  for (auto [id, timeout] : object.watchers) clients.push_back(id);
  return clients;
}

std::string ModelCluster::state(const std::string& key) const {
  const std::string text = value_of(objects_.at(kStateObject).keys, "d/" + key);
  const size_t line = text.find('\n');
  return line == std::string::npos ? std::string() : text.substr(line + 1);
}

// -- a client -----------------------------------------------------------------------------------

ModelSession::ModelSession(std::shared_ptr<ModelCluster> cluster, std::shared_ptr<Client> client)
    : Session(name_of_model()), cluster_(std::move(cluster)), client_(std::move(client)) {
  executor_ = client_->executor;
}

bool ModelSession::close() {
  if (!client_->gone()) client_->silent_since = cluster_->now();
  client_->closed = true;
  client_->watches.clear();
  return true;
}

void ModelSession::send(const std::string& object, bool changes,
                        std::function<int(ModelCluster&)> carry_out,
                        std::function<void(int)> answer) {
  cluster_->send(object, {client_, client_->map, changes, std::move(carry_out), std::move(answer)});
}

Promised<int> ModelSession::write(const std::string& object, WriteOp op) {
  Promised<int> done(*executor_);
  send(
      object, true,
      [object, op = std::move(op)](ModelCluster& on) { return on.change(object, op); },
      [done](int code) { done.set(code); });
  return done;
}

void ModelSession::start_read(const std::string& object, ReadOp op,
                              std::move_only_function<void(int)> finish,
                              std::shared_ptr<void> keep) {
  auto shared = std::make_shared<std::move_only_function<void(int)>>(std::move(finish));
  send(
      object, false,
      [object, op = std::move(op), keep](ModelCluster& on) { return on.read(object, op); },
      [shared](int code) { (*shared)(code); });
}

Promised<Mapped> ModelSession::mapext(const std::string& object, uint64_t length) {
  Promised<Mapped> done(*executor_);
  auto mapped = std::make_shared<Mapped>();
  send(
      object, false,
      [object, length, mapped](ModelCluster& on) {
        auto it = on.objects_.find(object);
        if (it == on.objects_.end()) return -ENOENT;
        const Extents& held = it->second.held;
        for (uint64_t at = held.next_data(0); at < length;) {
          const uint64_t end = std::min(length, held.next_hole(at));
          mapped->extents[at] = end - at;
          at = held.next_data(end);
        }
        return 0;
      },
      [done, mapped](int code) {
        mapped->code = code;
        done.set(std::move(*mapped));
      });
  return done;
}

Promised<Result<std::vector<Ino>>> ModelSession::list_inos(Ino (*ino_of)(std::string_view)) {
  Promised<Result<std::vector<Ino>>> done(*executor_);
  auto inos = std::make_shared<std::vector<Ino>>();
  send(
      kMonitor, false,
      [ino_of, inos](ModelCluster& on) {
        for (const auto& [name, object] : on.objects_)
          if (Ino ino = ino_of(name); ino && (inos->empty() || inos->back() != ino))
            inos->push_back(ino);
        return 0;
      },
      [done, inos](int) { done.set(std::move(*inos)); });
  return done;
}

Promised<Result<StoreUsage>> ModelSession::usage() {
  Promised<Result<StoreUsage>> done(*executor_);
  send(
      kMonitor, false, [](ModelCluster&) { return 0; },
      [done](int) {
        StoreUsage u;
        u.blocks = u.blocks_free = u.blocks_available = 1 << 28;
        u.files = u.files_free = 1 << 28;
        done.set(u);
      });
  return done;
}

Promised<int> ModelSession::watch(const std::string& object, std::shared_ptr<Watch> watch,
                                  uint32_t timeout_s) {
  Promised<int> done(*executor_);
  send(
      object, true,
      [object, id = client_->id, timeout_s](ModelCluster& on) {
        auto it = on.objects_.find(object);
        if (it == on.objects_.end()) return -ENOENT;
        it->second.watchers[id] = timeout_s;
        return 0;
      },
      [client = client_, object, watch, done](int code) {
        watch->handle = code < 0 ? 0 : 1;
        if (code >= 0) client->watches[object] = watch;
        done.set(code);
      });
  return done;
}

std::string ModelSession::watched(const Watch& watch) const {
  for (const auto& [object, mine] : client_->watches)
    if (mine.get() == &watch) return object;
  return {};
}

Promised<int> ModelSession::unwatch(Watch& watch) {
  Promised<int> done(*executor_);
  const std::string object = watched(watch);
  if (std::exchange(watch.handle, 0) == 0 || object.empty()) {
    done.set(0);
    return done;
  }
  client_->watches.erase(object);
  send(
      object, true,
      [object, id = client_->id](ModelCluster& on) {
        auto it = on.objects_.find(object);
        if (it != on.objects_.end()) it->second.watchers.erase(id);
        return 0;
      },
      [done](int code) { done.set(code); });
  return done;
}

int ModelSession::write_now(const std::string& object, WriteOp op) {
  if (client_->gone()) return -ETIMEDOUT;
  cluster_->finish_what_was_sent({client_->id, object});
  auto change = [&](ModelCluster& on) { return on.change(object, op); };
  return cluster_->take_effect(object, {client_, client_->map, true, change, nullptr});
}

int ModelSession::unwatch_now(Watch& watch) {
  const std::string object = watched(watch);
  if (std::exchange(watch.handle, 0) == 0 || client_->gone()) return 0;
  client_->watches.erase(object);
  auto it = cluster_->objects_.find(object);
  if (it != cluster_->objects_.end()) it->second.watchers.erase(client_->id);
  return 0;
}

Promised<int> ModelSession::shut_out(std::string address) {
  Promised<int> done(*executor_);
  const uint64_t client = number_in(address.substr(sizeof kAddress - 1));
  send(
      kMonitor, true,
      [client](ModelCluster& on) {
        on.new_map(client);
        return 0;
      },
      [done](int code) { done.set(code); });
  return done;
}

OwnerRecord ModelSession::me() {
  OwnerRecord me;
  me.host = me.machine = client_->process.machine;
  me.pid = client_->process.pid;
  me.client = client_->id;
  me.address = client_->address();
  return me;
}

bool ModelSession::has_ended_here(const OwnerRecord& owner) const {
  return owner.machine == client_->process.machine &&
         cluster_->ended_.contains({owner.machine, owner.pid});
}

}  // namespace graftfs::rados
