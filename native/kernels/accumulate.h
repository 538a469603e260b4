/**
 * accumulate: out += bias + Σ_i a_i · weight[i]. A column's chain starts at the bias, takes i in ascending order, and is
 * added to out at the end; between the steps it waits in scratch, which changes no bit.
 */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline void startChain(float* total, const float* bias, int64_t columns) {
  for (int64_t c = 0; c < columns; c++) total[c] = bias ? bias[c] : 0.0f;
}

inline void addChain(float* out, const float* total, int64_t columns) {
  for (int64_t c = 0; c < columns; c++) out[c] += total[c];
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
inline void accumulateStep(const AccumulateJob& job, float* total, const float* a, int64_t first, int64_t columns,
                           Cursor& at, Fetch& fetch) {
  const T* rows[W];
  float factor[W];
  for (int r = 0; r < W; r++) {
    int64_t index = at.next();
    rows[r] = rowOf<T>(job.weight, index) + first;
    factor[r] = factorOf<T>(job.weight, index, a[index]);
  }
  addScaled<W>(total, rows, factor, columns, fetch);
}

/** Rows are added eight at a time, and fetched this many ahead. */
constexpr int64_t addedAhead = 8;

template <class T>
void accumulateRows(const void* data, int64_t chunk, float* total) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkColumns;
  int64_t columns = smaller(job.chunkColumns, job.d - first), count = selectedRows(job.set, row);
  const float* a = job.a + row * job.n;
  startChain(total, job.bias ? job.bias + first : nullptr, columns);
  Cursor at(job.set, row, 0);
  int64_t i = 0;
  NoFetch none;
  RowStream ahead(job.weight, job.set, row, addedAhead, count, first * (int64_t)sizeof(T), columns * (int64_t)sizeof(T));
  for (; i + 8 <= count; i += 8) accumulateStep<8, T>(job, total, a, first, columns, at, ahead);
  for (; i + 4 <= count; i += 4) accumulateStep<4, T>(job, total, a, first, columns, at, none);
  for (; i < count; i++) accumulateStep<1, T>(job, total, a, first, columns, at, none);
  addChain(job.out + row * job.d + first, total, columns);
}

/** Vectors of columns in a tile of X rows: fewer rows leave registers for more columns. */
template <int X>
constexpr int tileColumns = (V::tileX == 4 ? 12 : 4) / X;

constexpr int64_t depthStep = 64;  // weight rows that stay in L1 while all x rows pass

/** The weight rows of one step of depth, from the columns at hand on. */
template <class T>
struct Depth {
  const Weights& weight;
  const T* rows[depthStep];
  int64_t index[depthStep];
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

template <class T>
void accumulateTiles(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  constexpr int X = V::tileX;
  int64_t firstRow = chunk / job.chunks * chainRows, rows = smaller(chainRows, job.rows - firstRow);
  int64_t first = chunk % job.chunks * job.chunkColumns, last = smaller(first + job.chunkColumns, job.d);
  int64_t selected = selectedRows(job.set, 0);
  const float* a = job.a + firstRow * job.n;
  for (; first < last; first += chainColumns) {
    int64_t columns = smaller(chainColumns, last - first);
    for (int64_t r = 0; r < rows; r++)
      startChain(scratch + r * chainColumns, job.bias ? job.bias + first : nullptr, columns);
    Cursor at(job.set, 0, 0);
    for (int64_t i = 0; i < selected; i += depthStep) {
      Depth<T> depth{job.weight, {}, {}, 0};
      depth.count = smaller(depthStep, selected - i);
      for (int64_t j = 0; j < depth.count; j++)
        depth.rows[j] = rowOf<T>(job.weight, depth.index[j] = at.next()) + first;
      int64_t r = 0;
      for (; r + X <= rows; r += X)
        accumulateStrip<X>(scratch + r * chainColumns, a + r * job.n, job.n, depth, columns);
      for (; X > 2 && r + 2 <= rows; r += 2)
        accumulateStrip<2>(scratch + r * chainColumns, a + r * job.n, job.n, depth, columns);
      for (; r < rows; r++) accumulateStrip<1>(scratch + r * chainColumns, a + r * job.n, job.n, depth, columns);
    }
    for (int64_t r = 0; r < rows; r++)
      addChain(job.out + (firstRow + r) * job.d + first, scratch + r * chainColumns, columns);
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
