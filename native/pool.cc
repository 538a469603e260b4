#include "pool.h"

#include <chrono>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dejavu {
namespace {

constexpr uint64_t remainingMask = 0xffffffffu;
constexpr std::align_val_t line{64};

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** How long to wait for something: at first only pausing, later giving the processor to others now and then. */
class Patience {
 public:
  /** Whether less than about a millisecond has gone by. */
  bool wait() {
    relax();
    if (++turns_ % 64 != 0) return true;
    auto now = std::chrono::steady_clock::now();
    if (turns_ == 64) start_ = now;
    auto waited = now - start_;
    if (waited > std::chrono::microseconds(50)) std::this_thread::yield();
    return waited < std::chrono::milliseconds(1);
  }

 private:
  uint32_t turns_ = 0;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

Pool::Pool(int threads) : scratch_(static_cast<size_t>(threads)) {
  try {
    for (int worker = 1; worker < threads; worker++) workers_.emplace_back([this, worker] { work(worker); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() {
  stop();
  for (Scratch& s : scratch_) ::operator delete(s.floats, line);
}

void Pool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void Pool::reserve(size_t floats) {
  if (floats <= scratchFloats_) return;
  for (Scratch& s : scratch_) {
    ::operator delete(s.floats, line);
    s.floats = nullptr;
  }
  scratchFloats_ = 0;
  for (Scratch& s : scratch_) s.floats = static_cast<float*>(::operator new(floats * sizeof(float), line));
  scratchFloats_ = floats;
}

void Pool::run(Kernel kernel, const void* job, int64_t chunks) {
  if (chunks <= 1 || workers_.empty()) {
    for (int64_t chunk = 0; chunk < chunks; chunk++) kernel(job, chunk, scratch_[0].floats);
    return;
  }
  // All chunks of the last job are done, so nobody reads these fields until `state_` says that there are chunks.
  kernel_ = kernel;
  job_ = job;
  chunks_ = static_cast<uint32_t>(chunks);
  done_.store(0, std::memory_order_relaxed);
  uint64_t epoch = (state_.load(std::memory_order_relaxed) >> 32) + 1;
  state_.store(epoch << 32 | chunks_, std::memory_order_seq_cst);
  // A worker counts itself among the sleepers before it looks at `state_` for the last time: one of us sees the other.
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  while (step(0)) {
  }
  for (Patience patience; done_.load(std::memory_order_acquire) != chunks;) patience.wait();
}

/** Claims one chunk and does it; false when there is none. */
bool Pool::step(int worker) {
  uint64_t seen = state_.load(std::memory_order_acquire);
  do {
    if ((seen & remainingMask) == 0) return false;
  } while (!state_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire));
  // The epoch was part of the comparison, so the chunk belongs to the job that is published now.
  uint32_t chunk = chunks_ - static_cast<uint32_t>(seen & remainingMask);
  kernel_(job_, chunk, scratch_[static_cast<size_t>(worker)].floats);
  done_.fetch_add(1, std::memory_order_release);
  return true;
}

void Pool::work(int worker) {
  while (!stopping_.load(std::memory_order_relaxed)) {
    Patience patience;
    while (!step(worker)) {
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (!patience.wait()) {
        sleep();
        break;
      }
    }
  }
}

void Pool::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  wake_.wait(lock, [this] { return stopping_ || (state_.load(std::memory_order_seq_cst) & remainingMask) != 0; });
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace dejavu
