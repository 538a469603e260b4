/**
 * accumulate with int4 weights, whose chains are those of accumulate.h. How a step adds rows depends on the instruction
 * set: several as integers, or one by one.
 */
#pragma once
#include "accumulate.h"
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
  static constexpr int wide = 4, single = 1;

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
 * Rows in fours or eights: their factors for a block of columns are rounded to bytes with one scale for all, and products
 * of several rows' codes are added as integers. How is the instruction set's affair (`roundTogether`, `addTogether`).
 */
template <class U>
struct Adder4<U, true> {
  static constexpr int wide = 8, single = 4;

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
        if (v == 0) UNROLL for (int r = 0; r < W; r++) fetch.line(r, at);
        auto codes = [&](int r) __attribute__((always_inline)) { return U::bytes(rows.codes[r] + at + v * vectorBytes); };
        U::template addTogether<W>(total + u * lineColumns4 + v * 2 * vectorBytes, factors, codes);
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

/** Adds W rows to X chains; those at and after `count` are the first one, times zero. */
template <int W, int X, class Fetch>
inline void accumulateStep4(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first,
                            int64_t columns, const int64_t* index, int64_t count, Fetch& fetch) {
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

/** Adds `count` rows to X chains. */
template <int X>
inline void accumulateRun4(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first,
                           int64_t columns, const int64_t* index, int64_t count) {
  constexpr int single = Adder4<V>::single, W = X == 1 || single > 1 ? Adder4<V>::wide : single;
  NoFetch none;
  int64_t i = 0;
  for (; i + W <= count; i += W) accumulateStep4<W, X>(job, total, stride, a, first, columns, index + i, W, none);
  for (; i < count; i += single)
    accumulateStep4<single, X>(job, total, stride, a, first, columns, index + i, smaller(single, count - i), none);
}

struct RowAdder4 {
  static void strand(const AccumulateJob& job, const Piece& piece, int64_t from, int64_t to, float* total) {
    constexpr int W = Adder4<V>::wide;
    const float* a = job.a + piece.row * job.n;
    RowSteps<W> steps(job.weight, Cursor(job.set, piece.row, from), to - from, piece.first / 2);
    while (steps.step()) {
      for (int64_t c = 0; c < piece.columns; c += 64 / (int64_t)sizeof(Half) * blockColumns)
        for (int r = 0; r < W; r++) steps.scale(r, (piece.first + c) / blockColumns * (int64_t)sizeof(Half));
      accumulateStep4<W, 1>(job, total, 0, a, piece.first, piece.columns, steps.index, W, steps);
    }
    int64_t rest[W], count = 0;
    while (steps.last()) rest[count++] = steps.index[0];
    accumulateRun4<1>(job, total, 0, a, piece.first, piece.columns, rest, count);
  }
  static void finish(float* out, const float* total, const float* bias, int64_t columns) {
    Adder4<V>::finish(out, total, bias, columns);
  }
};

/** Depth by depth, so that the weight rows stay in the cache while all rows of a pass over them. */
void accumulateTiles4(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  constexpr int X = V::lanes == 16 ? 4 : 2;
  int64_t firstRow = chunk / job.chunks * chainRows, rows = smaller(chainRows, job.rows - firstRow);
  int64_t first = chunk % job.chunks * job.chunkColumns, last = smaller(first + job.chunkColumns, job.d);
  int64_t strands = strandsOf(job.set);
  const float* a = job.a + firstRow * job.n;
  float* totals = scratch + chainRows * chainColumns4;
  for (; first < last; first += chainColumns4) {
    int64_t columns = smaller(chainColumns4, last - first);
    for (int64_t s = 0; s < strands; s++) {
      float* chains = s == 0 ? totals : scratch;
      clear(chains, rows * chainColumns4);
      for (int64_t i = strandStart(job.set, 0, s), to = strandStart(job.set, 0, s + 1); i < to; i += depthStep) {
        int64_t index[depthStep], count = smaller(depthStep, to - i);
        Cursor at(job.set, 0, i);
        for (int64_t j = 0; j < count; j++) index[j] = at.next();
        auto pass = [&](auto number, int64_t r) {
          accumulateRun4<decltype(number)::value>(job, chains + r * chainColumns4, chainColumns4, a + r * job.n, first,
                                                  columns, index, count);
        };
        int64_t r = 0;
        for (; r + X <= rows; r += X) pass(Number<X>{}, r);
        for (; r < rows; r++) pass(Number<1>{}, r);
      }
      if (s > 0) addChain(totals, chains, rows * chainColumns4);
    }
    for (int64_t r = 0; r < rows; r++)
      Adder4<V>::finish(job.out + (firstRow + r) * job.d + first, totals + r * chainColumns4,
                        job.bias ? job.bias + first : nullptr, columns);
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
