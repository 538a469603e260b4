/** Rows of weights widened to float32, a vector at a time, to where a block wants them. */
#pragma once
#include "blocked-job.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Tile of the product: weight rows by rows of x. All of its chains, a vector each, stay in registers. */
constexpr int blockedW = 4, blockedX = lanes == 16 ? 6 : 3;
/** Tile of the accumulation: rows of x by vectors of columns. */
constexpr int addedX = 6, addedC = lanes == 16 ? 4 : 2;
/** Part of the sums that a block of weights holds. */
constexpr int64_t productDepth = 512, addedDepth = 256;

/**
 * Widen<T>::row: columns `first` … `first + n` of one row, of which `place(v)` tells where vector v goes. The last may be
 * cut short: then zeros follow, or what stands behind the last column in padded codes.
 */
template <class T>
struct Widen {
  static constexpr int64_t bytes(int64_t columns) { return columns * (int64_t)sizeof(T); }

  template <class Place>
  static inline void row(const Weights& weight, int64_t index, int64_t first, int64_t n, Place place) {
    const T* from = rowOf<T>(weight, index) + first;
    int64_t c = 0, v = 0;
    for (; c + lanes <= n; c += lanes) V::store(place(v++), V::load(from + c));
    if (c < n) V::store(place(v), V::loadTail(from + c, (int)(n - c)));
  }
};

/** `first` is a multiple of groupColumns. */
template <>
struct Widen<Codes4> {
  static constexpr int64_t bytes(int64_t columns) { return columns / 2; }

  template <class Place>
  static inline void row(const Weights& weight, int64_t index, int64_t first, int64_t n, Place place) {
    const uint8_t* codes = rowOf<uint8_t>(weight, index) + first / 2;
    const Half* scales = (const Half*)(weight.scales + index * weight.scaleStride) + first / blockColumns;
    for (int64_t c = 0; c < n; c += groupColumns, codes += blockColumns, scales += 2) {
      alignas(64) float pair[lanes];
      V::store(pair, V::loadTail(scales, 2));
      F scale[2] = {V::broadcast(pair[0]), V::broadcast(pair[1])};
      for (int64_t b = 0; b < blockColumns && c + b < n; b += lanes) {
        F half[2];
        V::nibbles(codes + b, half[0], half[1]);
        V::store(place((c + b) / lanes), V::mul(half[0], scale[0]));
        if (c + blockColumns + b < n) V::store(place((c + blockColumns + b) / lanes), V::mul(half[1], scale[1]));
      }
    }
  }
};

/** The weight row at a position of the set. */
inline int64_t weightRow(const BlockedJob& job, int64_t position) { return job.index ? job.index[position] : position; }

/** What one chunk will need next, fetched a few lines at every tile. */
class Soon {
 public:
  /** `bytes` of each of the weight rows at `count` positions from `first` on, from byte `offset` on; over `calls` tiles. */
  Soon(const BlockedJob& job, int64_t first, int64_t count, int64_t offset, int64_t bytes, int64_t calls)
      : job_(job), first_(first), offset_(offset), perRow_((bytes + 63) / 64), left_(count * perRow_) {
    share_ = (left_ + calls - 1) / calls;
  }
  void fetch() {
    for (int64_t i = 0; i < share_ && left_ > 0; i++, left_--) {
      if (line_ == 0) from_ = job_.weight.data + weightRow(job_, first_++) * job_.weight.stride + offset_;
      V::prefetch(from_ + line_ * 64);
      if (++line_ == perRow_) line_ = 0;
    }
  }

 private:
  const BlockedJob& job_;
  int64_t first_, offset_, perRow_, left_, share_, line_ = 0;
  const uint8_t* from_ = nullptr;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
