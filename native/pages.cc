#include "pages.h"

#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#endif

namespace dejavu {

#if defined(__linux__) && defined(MADV_HUGEPAGE)

namespace {

/** Pieces share what is taken from the system in steps of this size, of which nothing is used before it is touched. */
constexpr size_t slabBytes = 64 << 20, pieceAlignment = 64;

size_t roundUp(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

/** Where the next piece goes. Without pieces that live, there is none. */
struct Slab {
  std::weak_ptr<const Reservation> within;
  size_t used = 0, bytes = 0;
};

std::mutex mutex;
Slab slab;

}  // namespace

Reservation::Reservation(size_t bytes) : bytes_(roundUp(bytes, 4096)) {
  size_t all = bytes_ + largePage;
  void* taken = all < bytes ? MAP_FAILED : mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (taken == MAP_FAILED) throw std::runtime_error(all < bytes ? "too many bytes" : std::strerror(errno));
  uint8_t* first = static_cast<uint8_t*>(taken);
  size_t before = -reinterpret_cast<uintptr_t>(first) % largePage;
  start_ = first + before;
  if (before > 0) munmap(first, before);
  munmap(start_ + bytes_, largePage - before);
}

Reservation::~Reservation() { munmap(start_, bytes_); }

bool hasLargePages() { return true; }

Piece::Piece(size_t bytes) : bytes_(bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  within_ = slab.within.lock();
  if (!within_ || slab.bytes - slab.used < bytes) {
    size_t size = roundUp(bytes < slabBytes ? slabBytes : bytes, largePage);
    within_ = std::make_shared<const Reservation>(size);
    if (mprotect(within_->start(), size, PROT_READ | PROT_WRITE)) throw std::runtime_error(std::strerror(errno));
    madvise(within_->start(), size, MADV_HUGEPAGE);
    slab = {within_, 0, size};
  }
  data_ = within_->start() + slab.used;
  slab.used = roundUp(slab.used + bytes, pieceAlignment);
}

Piece::~Piece() {
  uintptr_t start = roundUp(reinterpret_cast<uintptr_t>(data_), largePage);
  uintptr_t end = (reinterpret_cast<uintptr_t>(data_) + bytes_) / largePage * largePage;
  if (end > start) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
}

#else

Reservation::Reservation(size_t) { throw std::runtime_error("this system cannot do it"); }
Reservation::~Reservation() {}
bool hasLargePages() { return false; }
Piece::Piece(size_t) { throw std::runtime_error("this system cannot do it"); }
Piece::~Piece() {}

#endif

}  // namespace dejavu
