/**
 * accumulate with int4 weights, whose chains are those of accumulate.h. How a step adds rows depends on the instruction
 * set: several as integers, or one by one.
 */
#pragma once
#include "accumulate-together.h"
#include "convert.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Weight rows of one step, from the columns at hand on, which are the first of a part. */
template <int W>
struct Rows4 {
  const uint8_t* codes[W];
  const uint8_t* scales[W];
};

/** Lines of the part that starts at column c. */
inline int64_t linesFrom(int64_t c, int64_t columns) {
  return (smaller(partColumns, columns - c) + lineColumns4 - 1) / lineColumns4;
}

/** Rows one by one in float32. */
template <class U, bool quads = U::quads>
struct Adder4 {
  static constexpr int single = 1;

  /** total[r] += Σ_w a[r][w] · row w, for X chains that lie `stride` apart. */
  template <int W, int X, class Fetch>
  static inline void add(float* total, int64_t stride, const Rows4<W>& rows, const float (*a)[W], int64_t columns, Fetch& fetch) {
    for (int64_t c = 0; c < columns; c += partColumns) {
      float scale[W][groupColumns];
      for (int r = 0; r < W; r++) widenScales(scale[r], rows.scales[r], c / partColumns);
      for (int64_t u = 0; u < linesFrom(c, columns); u++) {
        int64_t at = c / 2 + u * lineBytes;
        for (int r = 0; r < W; r++) fetch.line(r, at);
        for (int64_t i = 0; i < groupColumns; i += lanes) {
          F low[W], high[W];
          UNROLL for (int r = 0; r < W; r++) V::nibbles(rows.codes[r] + at + i, low[r], high[r]);
          for (int x = 0; x < X; x++) {
            float* t = total + x * stride + c + u * lineColumns4 + i;
            F lowTotal = V::load(t), highTotal = V::load(t + groupColumns);
            UNROLL for (int r = 0; r < W; r++) {
              F factor = V::mul(V::broadcast(a[x][r]), V::load(scale[r] + i));
              lowTotal = V::fma(factor, low[r], lowTotal);
              highTotal = V::fma(factor, high[r], highTotal);
            }
            V::store(t, lowTotal);
            V::store(t + groupColumns, highTotal);
          }
        }
      }
    }
  }

  static inline void finish(float* out, const float* total, const float* bias, int64_t columns) {
    addTotal(out, total, bias, columns);
  }
};

/**
 * Rows in multiples of four: their factors for a block of columns are rounded to bytes with one scale for all, and products
 * of several rows' codes are added as integers. How is the instruction set's affair (`roundTogether`, `addTogether`).
 */
template <class U>
struct Adder4<U, true> {
  static constexpr int single = 4;

  template <int W, class Fetch>
  static inline __attribute__((always_inline)) void part(float* total, const Rows4<W>& rows, const float* a, int64_t c,
                                                         int64_t lines, Fetch& fetch) {
    UNROLL for (int v = 0; v < lineVectors; v++) {
      F factor[W];
      UNROLL for (int r = 0; r < W; r++)
        factor[r] = V::mul(V::load((const Half*)rows.scales[r] + c / blockColumns + v * lanes), V::broadcast(a[r]));
      const auto factors = U::template roundTogether<W>(factor);
      for (int64_t u = 0; u < lines; u++) {
        int64_t at = c / 2 + u * lineBytes;
        auto codes = [&](int r) __attribute__((always_inline)) { return U::bytes(rows.codes[r] + at + v * vectorBytes); };
        auto fetchLine = [&](int r) __attribute__((always_inline)) { if (v == 0) fetch.line(r, at); };
        U::template addTogether<W>(total + u * lineColumns4 + v * 2 * vectorBytes, factors, codes, fetchLine);
      }
    }
  }

  template <int W, int X, class Fetch>
  static inline void add(float* total, int64_t stride, const Rows4<W>& rows, const float (*a)[W], int64_t columns, Fetch& fetch) {
    for (int x = 0; x < X; x++)
      for (int64_t c = 0; c < columns; c += partColumns)
        part<W>(total + x * stride + c, rows, a[x], c, linesFrom(c, columns), fetch);
  }

  /** The chains wait in the order in which the codes are woven. */
  static inline void finish(float* out, const float* total, const float* bias, int64_t columns) {
    for (int64_t c = 0; c < columns; c += lineColumns4) {
      float ordered[lineColumns4];
      U::orderWoven(total + c, ordered);
      addTotal(out + c, ordered, bias ? bias + c : nullptr, smaller(lineColumns4, columns - c));
    }
  }
};

/** How int4 rows are added, so many in a step: see accumulate-together.h. */
template <int perStep = V::quads ? 8 : 4>
struct Step4 : Adder4<V> {
  static constexpr int wide = perStep;
  static int64_t byteOf(int64_t column) { return column / 2; }

  template <class Steps>
  FETCH static void fetchScales(Steps& steps, int64_t first, int64_t columns) {
    for (int64_t c = 0; c < columns; c += 64 / (int64_t)sizeof(Half) * blockColumns)
      for (int r = 0; r < wide; r++) steps.scale(r, (first + c) / blockColumns * (int64_t)sizeof(Half));
  }

  template <int W, int X, class Fetch>
  static inline void add(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first, int64_t columns,
                         const int64_t* index, int64_t count, Fetch& fetch) {
    Rows4<W> rows;
    float factor[X][W];
    for (int r = 0; r < W; r++) {
      int64_t row = index[r < count ? r : 0];
      rows.codes[r] = rowOf<uint8_t>(job.weight, row) + first / 2;
      rows.scales[r] = job.weight.scales + row * job.weight.scaleStride + first / blockColumns * (int64_t)sizeof(Half);
      for (int x = 0; x < X; x++) factor[x][r] = r < count ? a[x * job.n + row] : 0.0f;
    }
    Adder4<V>::template add<W, X>(total, stride, rows, factor, columns, fetch);
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
