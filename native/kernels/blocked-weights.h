/** What a block of weights is made of: rows widened to float32, and what comes next fetched in time. */
#pragma once
#include "blocked-job.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Of a tile with so many rows of x: a panel is those that it multiplies at once, the last one filled up. */
template <int rows>
struct Panels {
  static constexpr int x = rows;
  static int64_t panels(const BlockedJob& job) { return (job.rows + x - 1) / x; }
  static int64_t paddedRows(const BlockedJob& job) { return panels(job) * x; }
};

/** Tile of the product: weight rows by rows of x. All of its chains, a vector each, stay in registers. */
template <int weights, int rows>
struct ProductTile : Panels<rows> {
  static constexpr int w = weights;
  /** Floats of a step of a packed panel of x and of a group of weight rows, and of the chains. */
  static constexpr int64_t stepX = rows * lanes, stepW = w * lanes, sums = w * rows * lanes;
};
using ManyProduct = ProductTile<lanes == 16 ? 4 : 3, lanes == 16 ? 6 : 4>;
/** Where sums are short their end counts: a group of four rows writes outputs in fours. */
using FewProduct = ProductTile<4, lanes == 16 ? 6 : 3>;
/** For 7 or 8 rows, with which weights then pass once, and others that take fewer passes so; it needs 28 registers. */
using EightProduct = ProductTile<3, 8>;
/** Part of the sums that a block of weights holds. */
constexpr int64_t productDepth = 512;

/**
 * Columns `first` … `first + n` of one row, of which `place(v)` tells where vector v goes. Where the last is cut short,
 * zeros follow.
 */
template <class T, class Place>
inline void widenRow(const Weights& weight, int64_t index, int64_t first, int64_t n, Place place) {
  const T* from = rowOf<T>(weight, index) + first;
  int64_t c = 0, v = 0;
  for (; c + lanes <= n; c += lanes) V::store(place(v++), V::load(from + c));
  if (c < n) V::store(place(v), V::loadTail(from + c, (int)(n - c)));
}

/** Of so many columns of a row. */
template <class T>
constexpr int64_t bytesOf(int64_t columns) {
  return columns * (int64_t)sizeof(T);
}
template <>
constexpr int64_t bytesOf<Codes4>(int64_t columns) {
  return columns / 2;
}

/** The weight row at a position of the set; `index` as in the job. */
inline int64_t weightRow(const int32_t* index, int64_t position) { return index ? index[position] : position; }
inline int64_t weightRow(const BlockedJob& job, int64_t position) { return weightRow(job.index, position); }

/** What a chunk will need next: fetched a line at a time, at even distances over the steps until then. */
class Soon {
 public:
  /** `bytes` of each of the weight rows at `count` positions from `first` on, from byte `offset` on; over `steps`. */
  Soon(const BlockedJob& job, int64_t first, int64_t count, int64_t offset, int64_t bytes, int64_t steps)
      : job_(job), first_(first), offset_(offset), bytes_(bytes), left_(count) {
    // Divisions of 32 bits, which are quicker.
    uint32_t lines = (uint32_t)(count * ((bytes + 63) / 64)), times = steps > 0 ? (uint32_t)steps : 1;
    every_ = lines == 0 ? 1 << 30 : lines > times ? 1 : (int32_t)(times / lines);
    perTime_ = lines > times ? (int32_t)(lines / times) + 1 : 1;
    wait_ = every_;
  }
  /** Once a step. */
  inline __attribute__((always_inline)) void step(int64_t) {
    if (--wait_ > 0) return;
    wait_ = every_;
    for (int32_t i = 0; i < perTime_; i++) line();
  }

 private:
  FETCH void line() {
    if (at_ >= end_) {
      if (left_ <= 0) return;
      left_--;
      at_ = job_.weight.data + weightRow(job_, first_++) * job_.weight.stride + offset_;
      end_ = at_ + bytes_;
    }
    V::prefetch(at_);
    at_ += 64;
  }

  const BlockedJob& job_;
  int64_t first_, offset_, bytes_, left_;
  int32_t every_, perTime_, wait_;
  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
