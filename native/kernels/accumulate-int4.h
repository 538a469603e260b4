/**
 * accumulate with int4 weights, whose chains are those of accumulate.h. How a step adds rows depends on the instruction
 * set: several as integers, or one by one.
 */
#pragma once
#include "accumulate.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Weight rows of one step, from the columns at hand on. */
template <int W>
struct Rows4 {
  const uint8_t* codes[W];
  const Half* scales[W];
};

/** Rows one by one in float32. */
template <class U, bool quads = U::quads>
struct Adder4 {
  static constexpr int wide = 4, single = 1;

  /** total[r] += Σ_w a[r][w] · row w, for X chains that lie `stride` apart. */
  template <int W, int X, class Fetch>
  static inline void add(float* total, int64_t stride, const Rows4<W>& rows, const float (*a)[W], int64_t columns, Fetch& fetch) {
    constexpr int64_t pieceBlocks = 16;
    for (int64_t c = 0; c < columns; c += pieceBlocks * blockColumns) {
      int64_t padded = (smaller(columns - c, pieceBlocks * blockColumns) + groupColumns - 1) / groupColumns * groupColumns;
      float scales[W][pieceBlocks];
      for (int r = 0; r < W; r++)
        for (int64_t b = 0; b < padded / blockColumns; b += 2)
          V::storeTail(scales[r] + b, V::loadTail(rows.scales[r] + c / blockColumns + b, 2), 2);
      for (int64_t at = 0; at < padded; at += groupColumns)
        for (int64_t i = 0; i < blockColumns; i += lanes) {
          if (i == 0 && at % (2 * groupColumns) == 0)
            for (int r = 0; r < W; r++) fetch.line(r, (c + at) / 2);
          F low[W], high[W];
          UNROLL for (int r = 0; r < W; r++) V::nibbles(rows.codes[r] + (c + at) / 2 + i, low[r], high[r]);
          for (int x = 0; x < X; x++) {
            float* t = total + x * stride + c + at + i;
            F lowTotal = V::load(t), highTotal = V::load(t + blockColumns);
            UNROLL for (int r = 0; r < W; r++) {
              lowTotal = V::fma(V::broadcast(a[x][r] * scales[r][at / blockColumns]), low[r], lowTotal);
              highTotal = V::fma(V::broadcast(a[x][r] * scales[r][at / blockColumns + 1]), high[r], highTotal);
            }
            V::store(t, lowTotal);
            V::store(t + blockColumns, highTotal);
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
  static constexpr int stepBytes = 4 * lanes, stepColumns = 2 * stepBytes;
  static constexpr int partColumns = lanes * blockColumns;  // a scale in every lane

  /** The factors of rows for as many blocks as there are lanes. */
  template <int W>
  static inline __attribute__((always_inline)) auto factorsOf(const Rows4<W>& rows, const float* a, int64_t c, int64_t blocks) {
    F factor[W];
    UNROLL for (int r = 0; r < W; r++) {
      const Half* from = rows.scales[r] + c / blockColumns;
      F scale = blocks >= lanes ? V::load(from) : V::loadTail(from, (int)blocks);
      factor[r] = V::mul(scale, V::broadcast(a[r]));
    }
    return U::template roundTogether<W>(factor);
  }

  template <int W, class Fetch>
  static inline __attribute__((always_inline)) void part(float* total, const Rows4<W>& rows, const float* a, int64_t c,
                                                         int64_t columns, Fetch& fetch) {
    int64_t bytes = (columns - c + groupColumns - 1) / groupColumns * (groupColumns / 2);
    const auto factors = factorsOf<W>(rows, a, c, bytes / (blockColumns / 2));
    auto step = [&](auto number) __attribute__((always_inline)) {
      constexpr int s = decltype(number)::value;
      int64_t left = bytes - s * stepBytes, at = c / 2 + s * stepBytes;
      if (left <= 0) return;
      // The last step of a row may be shorter than a vector.
      auto codes = [&](int r) __attribute__((always_inline)) {
        if (s * stepBytes % 64 == 0) fetch.line(r, at);
        const uint8_t* p = rows.codes[r] + at;
        return left >= stepBytes ? U::bytes(p) : U::bytesTail(p, (int)left);
      };
      U::template addTogether<s, W>(total + c + s * stepColumns, factors, codes);
    };
    step(Number<0>{});
    step(Number<1>{});
    step(Number<2>{});
    step(Number<3>{});
  }

  template <int W, int X, class Fetch>
  static inline void add(float* total, int64_t stride, const Rows4<W>& rows, const float (*a)[W], int64_t columns, Fetch& fetch) {
    for (int x = 0; x < X; x++)
      for (int64_t c = 0; c < columns; c += partColumns) part<W>(total + x * stride, rows, a[x], c, columns, fetch);
  }

  /** The chains wait in the order in which the codes are woven. */
  static inline void finish(float* out, const float* total, const float* bias, int64_t columns) {
    for (int64_t c = 0; c < columns; c += stepColumns) {
      float ordered[stepColumns];
      U::orderWoven(total + c, ordered);
      int64_t count = smaller(stepColumns, columns - c);
      addTotal(out + c, ordered, bias ? bias + c : nullptr, count);
    }
  }
};

/** The W next rows of the cursor from column `first` on; those at and after `count` are the first one, times zero. */
template <int W>
inline void takeRows(Rows4<W>& rows, int64_t* index, const Weights& weight, Cursor& at, int64_t count, int64_t first) {
  for (int r = 0; r < W; r++) {
    index[r] = r < count ? at.next() : index[0];
    rows.codes[r] = rowOf<uint8_t>(weight, index[r]) + first / 2;
    rows.scales[r] = (const Half*)(weight.scales + index[r] * weight.scaleStride) + first / blockColumns;
  }
}

/** Adds the W next rows, of which `count` are there, to X chains. */
template <int W, int X, class Fetch>
inline void accumulateStep4(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first,
                            int64_t columns, Cursor& at, int64_t count, Fetch& fetch) {
  Rows4<W> rows;
  int64_t index[W];
  float factor[X][W];
  takeRows(rows, index, job.weight, at, count, first);
  for (int x = 0; x < X; x++)
    for (int r = 0; r < W; r++) factor[x][r] = r < count ? a[x * job.n + index[r]] : 0.0f;
  Adder4<V>::template add<W, X>(total, stride, rows, factor, columns, fetch);
}

/** Adds the cursor's next `count` rows to X chains. */
template <int X, class Fetch>
inline void accumulateRun4(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first,
                           int64_t columns, Cursor& at, int64_t count, Fetch& fetch) {
  constexpr int single = Adder4<V>::single, W = X == 1 || single > 1 ? Adder4<V>::wide : single;
  int64_t i = 0;
  for (; i + W <= count; i += W) accumulateStep4<W, X>(job, total, stride, a, first, columns, at, W, fetch);
  for (; i < count; i += single)
    accumulateStep4<single, X>(job, total, stride, a, first, columns, at, smaller(single, count - i), fetch);
}

struct RowAdder4 {
  static void strand(const AccumulateJob& job, const Piece& piece, int64_t from, int64_t to, float* total) {
    Cursor at(job.set, piece.row, from);
    RowStream ahead(job.weight, job.set, piece.row, from + addedAhead, to, piece.first / 2, (piece.columns + 1) / 2);
    accumulateRun4<1>(job, total, 0, job.a + piece.row * job.n, piece.first, piece.columns, at, to - from, ahead);
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
        int64_t count = smaller(depthStep, to - i);
        auto pass = [&](auto number, int64_t r) {
          Cursor at(job.set, 0, i);
          NoFetch none;
          accumulateRun4<decltype(number)::value>(job, chains + r * chainColumns4, chainColumns4, a + r * job.n, first,
                                                  columns, at, count, none);
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
