#include "base/blocking_pool.h"

#include <pthread.h>

namespace graftfs {

BlockingPool::BlockingPool(std::string name, int threads) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { work(); });
    pthread_setname_np(threads_.back().native_handle(), name.substr(0, 15).c_str());
  }
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void BlockingPool::submit(Fn job, const Executor* poster) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({std::move(job), poster});
    if (poster) posters_[poster]++;
  }
  wake_.notify_one();
}

void BlockingPool::drain(const Executor& poster) {
  std::unique_lock lock(mutex_);
  drained_.wait(lock, [&] { return !posters_.contains(&poster); });
}

void BlockingPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job.run();
    job.run = nullptr;
    lock.lock();
    auto posted = posters_.find(job.poster);
    if (posted == posters_.end() || --posted->second > 0) continue;
    posters_.erase(posted);
    drained_.notify_all();
  }
}

}  // namespace graftfs
