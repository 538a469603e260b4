/**
 * accumulate: out += bias + Σ_i a_i · weight[i]. The rows are cut into strands; a strand's chain for a column starts at
 * zero and takes i in ascending order. The strands' chains are added in order, then the bias, then out. Between the steps
 * a chain waits in memory, which changes no bit. Which strand a unit belongs to depends on the unit alone, never on what
 * else is selected: leaving out units whose factor is zero leaves every bit as it is.
 */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline int64_t paddedColumns(int64_t columns) { return (columns + columnStep - 1) / columnStep * columnStep; }

inline void clear(float* total, int64_t columns) {
  for (int64_t c = 0; c < columns; c++) total[c] = 0;
}

inline void addChain(float* total, const float* chain, int64_t columns) {
  for (int64_t c = 0; c < columns; c++) total[c] += chain[c];
}

inline void addTotal(float* out, const float* total, const float* bias, int64_t columns) {
  for (int64_t c = 0; c < columns; c++) out[c] += bias ? total[c] + bias[c] : total[c];
}

/** A piece of one row's columns. */
struct Piece {
  int64_t row, first, columns;
};

/**
 * One row of x. `Adder::strand` adds the weight rows from one position of the set to another to a chain, and
 * `Adder::finish` adds a total to out.
 */
template <class Adder>
void accumulateRows(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  int64_t number = job.strands ? chunk / strandCount : chunk, strand = job.strands ? job.order[chunk % strandCount] : 0;
  Piece piece{number / job.chunks, number % job.chunks * job.chunkColumns, 0};
  piece.columns = smaller(job.chunkColumns, job.d - piece.first);
  int64_t strands = strandsOf(job.set), padded = paddedColumns(piece.columns);
  float *total = scratch, *chain = scratch + padded;
  auto run = [&](int64_t s, float* to) {
    clear(to, padded);
    Adder::strand(job, piece, strandStart(job.set, piece.row, s), strandStart(job.set, piece.row, s + 1), to);
  };
  if (!job.strands) {
    run(0, total);
    for (int64_t s = 1; s < strands; s++) {
      run(s, chain);
      addChain(total, chain, padded);
    }
  } else {
    int64_t width = paddedColumns(job.d);
    total = job.strands + piece.row * strandCount * width + piece.first;
    run(strand, total + strand * width);
    // The last to finish sees what the others have written.
    if (__atomic_add_fetch(job.finished + number, 1, __ATOMIC_ACQ_REL) < strands) return;
    for (int64_t s = 1; s < strands; s++) addChain(total, total + s * width, padded);
  }
  const float* bias = job.bias ? job.bias + piece.first : nullptr;
  Adder::finish(job.out + piece.row * job.d + piece.first, total, bias, piece.columns);
}

/** What row `index` is multiplied by where x has `a`. */
template <class T>
inline float factorOf(const Weights&, int64_t, float a) {
  return a;
}
template <>
inline float factorOf<int8_t>(const Weights& weight, int64_t index, float a) {
  return a * *(const float*)(weight.scales + index * weight.scaleStride);
}

template <int W, class T, class Fetch>
inline __attribute__((always_inline)) void accumulateStep(const AccumulateJob& job, float* total, const float* a, int64_t first,
                                                          int64_t columns, const int64_t* index, Fetch& fetch) {
  const T* rows[W];
  float factor[W];
  for (int r = 0; r < W; r++) {
    rows[r] = rowOf<T>(job.weight, index[r]) + first;
    factor[r] = factorOf<T>(job.weight, index[r], a[index[r]]);
  }
  if constexpr (sizeof(T) == 1)
    UNROLL for (int r = 0; r < W; r++) fetch.scale(r, 0);
  addScaled<W>(total, rows, factor, columns, fetch);
}

template <class T>
struct RowAdder {
  static void strand(const AccumulateJob& job, const Piece& piece, int64_t from, int64_t to, float* total) {
    constexpr int W = 8;
    const float* a = job.a + piece.row * job.n;
    NoFetch none;
    RowSteps<W> steps(job.weight, Cursor(job.set, piece.row, from), to - from, piece.first * (int64_t)sizeof(T));
    while (steps.step()) accumulateStep<W, T>(job, total, a, piece.first, piece.columns, steps.index, steps);
    while (steps.last()) accumulateStep<1, T>(job, total, a, piece.first, piece.columns, steps.index, none);
  }
  static void finish(float* out, const float* total, const float* bias, int64_t columns) {
    addTotal(out, total, bias, columns);
  }
};

/** Vectors of columns in a tile of X rows: fewer rows leave registers for more columns. */
template <int X>
constexpr int tileColumns = (V::tileX == 4 ? 12 : 4) / X;

constexpr int64_t depthStep = 64;  // weight rows that stay in L1 while all x rows pass

/** The weight rows of one step of depth, from the columns at hand on. */
template <class T>
struct Depth {
  const Weights& weight;
  const T* rows[depthStep];
  const int64_t* index;
  int64_t count;

  float factor(const float* a, int64_t i) const { return factorOf<T>(weight, index[i], a[index[i]]); }
};

/** X rows by C vectors of chains in registers. */
template <int X, int C, class T>
inline void accumulateTile(float* total, const float* a, int64_t n, const Depth<T>& depth, int64_t at) {
  F acc[X * C];
  UNROLL for (int r = 0; r < X; r++)
    UNROLL for (int c = 0; c < C; c++) acc[r * C + c] = V::load(total + r * chainColumns + at + c * lanes);
  for (int64_t i = 0; i < depth.count; i++) {
    const T* weight = depth.rows[i] + at;
    F w[C];
    UNROLL for (int c = 0; c < C; c++) w[c] = V::load(weight + c * lanes);
    UNROLL for (int r = 0; r < X; r++) {
      F f = V::broadcast(depth.factor(a + r * n, i));
      UNROLL for (int c = 0; c < C; c++) acc[r * C + c] = V::fma(f, w[c], acc[r * C + c]);
    }
  }
  UNROLL for (int r = 0; r < X; r++)
    UNROLL for (int c = 0; c < C; c++) V::store(total + r * chainColumns + at + c * lanes, acc[r * C + c]);
}

/** X rows of chains, `columns` wide. */
template <int X, class T>
inline void accumulateStrip(float* total, const float* a, int64_t n, const Depth<T>& depth, int64_t columns) {
  int64_t c = 0;
  for (; c + tileColumns<X> * lanes <= columns; c += tileColumns<X> * lanes)
    accumulateTile<X, tileColumns<X>>(total, a, n, depth, c);
  for (; c + lanes <= columns; c += lanes) accumulateTile<X, 1>(total, a, n, depth, c);
  if (c == columns) return;
  for (int64_t i = 0; i < depth.count; i++)
    for (int r = 0; r < X; r++) {
      const T* row = depth.rows[i] + c;
      float factor = depth.factor(a + r * n, i);
      NoFetch none;
      addScaled<1>(total + r * chainColumns + c, &row, &factor, columns - c, none);
    }
}

/**
 * Chains of up to chainRows rows of x, `width` columns at a time, strand by strand and depth by depth, so that the weight rows
 * stay in the cache while all rows of x pass: `add(chains, a, rows, first, columns, index, count)` adds the weight rows
 * `index`, and `finish(out, total, bias, columns)` adds the total of one row of x to out.
 */
template <int64_t width, class Add, class Finish>
inline void overDepths(const AccumulateJob& job, int64_t chunk, float* scratch, Add add, Finish finish) {
  int64_t firstRow = chunk / job.chunks * chainRows, rows = smaller(chainRows, job.rows - firstRow);
  int64_t first = chunk % job.chunks * job.chunkColumns, last = smaller(first + job.chunkColumns, job.d);
  int64_t strands = strandsOf(job.set);
  const float* a = job.a + firstRow * job.n;
  float* totals = scratch + chainRows * width;
  for (; first < last; first += width) {
    int64_t columns = smaller(width, last - first);
    Cursor at(job.set, 0, 0);
    for (int64_t s = 0; s < strands; s++) {
      float* chains = s == 0 ? totals : scratch;
      clear(chains, rows * width);
      for (int64_t i = strandStart(job.set, 0, s), to = strandStart(job.set, 0, s + 1); i < to; i += depthStep) {
        int64_t index[depthStep], count = smaller(depthStep, to - i);
        for (int64_t j = 0; j < count; j++) index[j] = at.next();
        add(chains, a, rows, first, columns, index, count);
      }
      if (s > 0) addChain(totals, chains, rows * width);
    }
    for (int64_t r = 0; r < rows; r++)
      finish(job.out + (firstRow + r) * job.d + first, totals + r * width, job.bias ? job.bias + first : nullptr, columns);
  }
}

template <class T>
void accumulateTiles(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  constexpr int X = V::tileX;
  auto add = [&](float* chains, const float* a, int64_t rows, int64_t first, int64_t columns, const int64_t* index, int64_t count) {
    Depth<T> depth{job.weight, {}, index, count};
    for (int64_t j = 0; j < count; j++) depth.rows[j] = rowOf<T>(job.weight, index[j]) + first;
    int64_t r = 0;
    for (; r + X <= rows; r += X) accumulateStrip<X>(chains + r * chainColumns, a + r * job.n, job.n, depth, columns);
    for (; X > 2 && r + 2 <= rows; r += 2) accumulateStrip<2>(chains + r * chainColumns, a + r * job.n, job.n, depth, columns);
    for (; r < rows; r++) accumulateStrip<1>(chains + r * chainColumns, a + r * job.n, job.n, depth, columns);
  };
  overDepths<chainColumns>(job, chunk, scratch, add, addTotal);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
