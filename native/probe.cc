#include "probe.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstring>
#include <new>

namespace dejavu {

double readBandwidth(Queue& queue, size_t bytes, double seconds) {
  constexpr size_t chunkFloats = 64 << 10, hugePage = 2 << 20;
  size_t chunks = bytes / (chunkFloats * sizeof(float));
  if (chunks == 0) chunks = 1;
  size_t size = chunks * chunkFloats * sizeof(float);
  float* buffer = static_cast<float*>(::operator new(size, std::align_val_t(hugePage)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(buffer, size, MADV_HUGEPAGE);
#endif
  std::memset(buffer, 1, size);  // untouched pages would all be the one page of zeros
  queue.pool().reserve(64);
  RowsJob job{};
  job.x = buffer;
  job.columns = chunkFloats;
  using Clock = std::chrono::steady_clock;
  auto start = Clock::now();
  double passes = 0, elapsed = 0;
  do {
    queue.pool().run(queue.table().readSum, &job, static_cast<int64_t>(chunks));
    passes++;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < seconds);
  ::operator delete(buffer, std::align_val_t(hugePage));
  return passes * static_cast<double>(size) / elapsed;
}

}  // namespace dejavu
