/** Rows of weights widened to float32, a vector at a time, to where a block wants them. */
#pragma once
#include "blocked-job.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Tile of the product: weight rows by rows of x. All of its chains, a vector each, stay in registers. */
constexpr int blockedW = lanes == 16 ? 4 : 3, blockedX = lanes == 16 ? 6 : 4;
/** Part of the sums that a block of weights holds. */
constexpr int64_t productDepth = 512;

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
  /** A scale in all lanes: lanes of the same half, widened together. */
  static inline F scaleOf(Half scale) {
    Half all[lanes];
    for (int i = 0; i < lanes; i++) all[i] = scale;
    return V::load(all);
  }

  template <class Place>
  static inline void row(const Weights& weight, int64_t index, int64_t first, int64_t n, Place place) {
    const uint8_t* codes = rowOf<uint8_t>(weight, index) + first / 2;
    const Half* scales = (const Half*)(weight.scales + index * weight.scaleStride) + first / blockColumns;
    for (int64_t c = 0; c < n; c += groupColumns, codes += blockColumns, scales += 2) {
      F scale[2] = {scaleOf(scales[0]), scaleOf(scales[1])};
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

/** What a chunk will need next: fetched a line at a time, at even distances over the steps until then. */
class Soon {
 public:
  /** `bytes` of each of the weight rows at `count` positions from `first` on, from byte `offset` on; over `steps`. */
  Soon(const BlockedJob& job, int64_t first, int64_t count, int64_t offset, int64_t bytes, int64_t steps)
      : job_(job), first_(first), offset_(offset), bytes_(bytes), left_(count) {
    int64_t lines = count * ((bytes + 63) / 64);
    every_ = lines > 0 ? smaller(steps / lines, 1 << 20) : 1 << 20;
    perTime_ = every_ > 0 ? 1 : lines / (steps > 0 ? steps : 1) + 1;
    if (every_ == 0) every_ = 1;
    wait_ = every_;
  }
  /** Once a step. */
  inline __attribute__((always_inline)) void step() {
    if (--wait_ > 0) return;
    wait_ = every_;
    for (int64_t i = 0; i < perTime_; i++) line();
  }

 private:
  inline void line() {
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
  int64_t first_, offset_, bytes_, left_, every_, perTime_, wait_;
  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
