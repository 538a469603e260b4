/**
 * A fork-join pool: the calling thread is worker 0 and the rest wait for jobs, spinning for about a millisecond before
 * they sleep. One job at a time; a job is a number of chunks that any worker may do in any order.
 */
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/table.h"

namespace dejavu {

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(scratch_.size()); }
  /** Gives every worker at least this much scratch, aligned to 64 bytes. Not to be called within a job. */
  void reserve(size_t floats);
  /** Runs every chunk in 0 … chunks - 1 and returns when all are done. */
  void run(Kernel kernel, const void* job, int64_t chunks);
  /** One chunk on the calling thread. */
  void runHere(Kernel kernel, const void* job, int64_t chunk) { kernel(job, chunk, scratch_[0].floats); }
  /** Ends the threads; later jobs run on the caller alone. */
  void stop();

 private:
  struct Scratch {
    float* floats = nullptr;
  };

  void work(int worker);
  bool step(int worker);
  void sleep();

  // The word that everyone spins on and the job it announces share a cache line, so that one miss brings both. The job
  // is read only between a successful claim and the count in `done_`, when no other job can be published.
  alignas(64) std::atomic<uint64_t> state_{0};  // epoch << 32 | chunks not yet claimed
  Kernel kernel_ = nullptr;
  const void* job_ = nullptr;
  uint32_t chunks_ = 0;
  alignas(64) std::atomic<int64_t> done_{0};

  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Scratch> scratch_;
  size_t scratchFloats_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace dejavu
