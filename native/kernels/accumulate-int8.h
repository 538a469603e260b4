/**
 * accumulate with int8 weights. Where an instruction multiplies bytes four at a time, factors of eight rows are rounded to
 * multiples of a 16256th of the largest of them and taken apart into two bytes, 128 · high + low; sums over the rows are integers.
 */
#pragma once
#include "accumulate-together.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Factors of W rows: bytes of four rows each, high and low ones, the sum of all codes, and what a code of one stands for. */
template <int W>
struct RoundedFactors {
  uint32_t high[W / 4], low[W / 4];
  uint32_t sum;
  float scale;
};

/** The scale is NaN where a factor is not finite. */
template <int W>
inline RoundedFactors<W> roundFactors(const float* factor) {
  RoundedFactors<W> result{};
  float inverse;
  result.scale = scaleOf(factor, W, 127 * 128, inverse);
  for (int r = 0; r < W; r++) {
    uint32_t code = (uint32_t)rounded(factor[r] * inverse);
    int32_t high = (int32_t)(code + 64) >> 7;
    uint32_t low = code - 128 * (uint32_t)high;
    result.sum += code;
    result.high[r / 4] |= ((uint32_t)high & 255) << 8 * (r % 4);
    result.low[r / 4] |= (low & 255) << 8 * (r % 4);
  }
  return result;
}

template <class U>
struct Step8 {
  static constexpr int wide = 8, single = 4;
  static int64_t byteOf(int64_t column) { return column; }

  template <class Steps>
  FETCH static void fetchScales(Steps& steps, int64_t, int64_t) {
    for (int r = 0; r < wide; r++) steps.scale(r, 0);
  }

  template <int W, int X, class Fetch>
  static inline void add(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first, int64_t columns,
                         const int64_t* index, int64_t count, Fetch& fetch) {
    const uint8_t* rows[W];
    for (int r = 0; r < W; r++) rows[r] = rowOf<uint8_t>(job.weight, index[r < count ? r : 0]) + first;
    for (int x = 0; x < X; x++) {
      float factor[W];
      for (int r = 0; r < W; r++) factor[r] = r < count ? factorOf<int8_t>(job.weight, index[r], a[x * job.n + index[r]]) : 0.0f;
      const auto factors = U::template spreadFactors<W>(roundFactors<W>(factor));
      for (int64_t c = 0; c < columns; c += groupColumns) {
        if (x == 0) UNROLL for (int r = 0; r < W; r++) fetch.line(r, c);
        auto codes = [&](int r) __attribute__((always_inline)) { return U::bytes(rows[r] + c); };
        U::template addBytes<W>(total + x * stride + c, factors, codes);
      }
    }
  }

  /** The chains wait in the order in which the codes are woven. */
  static void finish(float* out, const float* total, const float* bias, int64_t columns) {
    for (int64_t c = 0; c < columns; c += groupColumns) {
      float ordered[groupColumns];
      U::unweave(total + c, ordered);
      addTotal(out + c, ordered, bias ? bias + c : nullptr, smaller(groupColumns, columns - c));
    }
  }
};

/** Rows in float32 where there is no such instruction. */
template <class U, bool bytes = multipliesBytes>
struct Accumulate8 {
  static constexpr Kernel rows = accumulateRows<RowAdder<int8_t>>, tiles = accumulateTiles<int8_t>;
};
template <class U>
struct Accumulate8<U, true> {
  static constexpr Kernel rows = accumulateRows<RowsTogether<Step8<U>>>, tiles = accumulateTogether<Step8<U>>;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
