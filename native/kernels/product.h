/** product: out = activation(x · weightᵀ + bias). Whatever the tile, an output is one chain over k and one tree. */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline float finish(const ProductJob& job, float sum, int64_t row) {
  float v = job.bias ? sum + job.bias[row] : sum;
  return job.relu && v < 0 ? 0.0f : v;
}

/** W weight rows from the cursor on, for one row of x. */
template <int W, bool ahead, class T>
inline void productStep(const ProductJob& job, const float* x, float* out, Cursor& at, const Cursor& end) {
  const T* rows[W];
  const T* next[W] = {};
  int64_t index[W];
  float total[W];
  for (int r = 0; r < W; r++) rows[r] = (const T*)job.weight + (index[r] = at.next()) * job.k;
  if constexpr (ahead) {
    Cursor later = at;
    for (int r = 0; r < W; r++) next[r] = later.slot < end.slot ? (const T*)job.weight + later.next() * job.k : rows[r];
  }
  dots<W, ahead>(total, rows, x, job.k, next);
  for (int r = 0; r < W; r++) out[index[r]] = finish(job, total[r], index[r]);
}

template <class T>
void productRows(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkRows;
  int64_t last = smaller(first + job.chunkRows, selectedRows(job.set, row));
  if (first >= last) return;
  const float* x = job.x + row * job.k;
  float* out = job.out + row * job.n;
  Cursor at(job.set, row, first), end(job.set, row, last);
  int64_t i = first;
  if (job.set.indices)
    for (; i + V::wide <= last; i += V::wide) productStep<V::wide, true, T>(job, x, out, at, end);
  else
    for (; i + V::wide <= last; i += V::wide) productStep<V::wide, false, T>(job, x, out, at, end);
  for (; i + 4 <= last; i += 4) productStep<4, false, T>(job, x, out, at, end);
  for (; i < last; i++) productStep<1, false, T>(job, x, out, at, end);
}

/** Four weight rows (or one) against X rows of x straight from memory: for few rows of x. */
template <int W, int X, class T>
inline void productFew(const ProductJob& job, int64_t firstX, int64_t firstW) {
  const T* weight[W];
  const float* x[X];
  float total[W * X];
  F acc[W * X];
  for (int r = 0; r < W; r++) weight[r] = (const T*)job.weight + (firstW + r) * job.k;
  for (int c = 0; c < X; c++) x[c] = job.x + (firstX + c) * job.k;
  UNROLL for (int i = 0; i < W * X; i++) acc[i] = V::zero();
  chain<W, X, false>(acc, weight, x, job.k, weight);
  sums(acc, total);
  for (int c = 0; c < X; c++)
    for (int r = 0; r < W; r++)
      job.out[(firstX + c) * job.n + firstW + r] = finish(job, total[c * W + r], firstW + r);
}

template <int X, class T>
void productFewRows(const ProductJob& job, int64_t firstX, int64_t first, int64_t last) {
  for (; first + 4 <= last; first += 4) productFew<4, X, T>(job, firstX, first);
  for (; first < last; first++) productFew<1, X, T>(job, firstX, first);
}

/** One register tile of a block: continues the chains kept in `state` over `depth` packed columns. */
template <int X>
inline void productTile(float* state, const float* packed, const float* x, int64_t k, int64_t depth) {
  F acc[4 * X];
  const float* weight[4];
  const float* rows[X];
  for (int r = 0; r < 4; r++) weight[r] = packed + r * blockDepth;
  for (int c = 0; c < X; c++) rows[c] = x + c * k;
  UNROLL for (int i = 0; i < 4 * X; i++) acc[i] = V::load(state + i * lanes);
  chain<4, X, false>(acc, weight, rows, depth, weight);
  UNROLL for (int i = 0; i < 4 * X; i++) V::store(state + i * lanes, acc[i]);
}

/** Widens `depth` columns of `count` weight rows to float32; the rows that are missing become zeros. */
template <class T>
inline void pack(float* packed, const T* weight, int64_t k, int64_t count, int64_t depth) {
  for (int64_t r = 0; r < blockWeights; r++) {
    float* out = packed + r * blockDepth;
    const T* row = weight + r * k;
    int64_t i = 0;
    if (r < count) {
      for (; i + lanes <= depth; i += lanes) V::store(out + i, V::load(row + i));
      if (int n = (int)(depth - i)) V::storeTail(out + i, V::loadTail(row + i, n), n);
    } else {
      for (; i < depth; i++) out[i] = 0;
    }
  }
}

/**
 * A block of up to blockRows x rows and blockWeights weight rows. Depth by depth, the weights are widened into L1 and
 * every group of x rows passes over them; the unfinished chains wait in scratch as whole vectors.
 */
template <class T>
void productBlock(const ProductJob& job, int64_t firstX, int64_t xCount, int64_t firstW, int64_t wCount, float* scratch) {
  constexpr int X = V::tileX;
  float* packed = scratch;                             // [blockWeights, blockDepth]
  float* state = scratch + blockWeights * blockDepth;  // [blockRows, blockWeights, lanes], tile by tile
  for (int64_t i = 0; i < blockRows * blockWeights * lanes; i++) state[i] = 0;
  for (int64_t at = 0; at < job.k; at += blockDepth) {
    int64_t depth = smaller(blockDepth, job.k - at);
    pack(packed, (const T*)job.weight + firstW * job.k + at, job.k, wCount, depth);
    for (int64_t c = 0; c < xCount; c += X)
      for (int64_t r = 0; r < wCount; r += 4) {
        const float* x = job.x + (firstX + c) * job.k + at;
        float* mine = state + (c * blockWeights + r * X) * lanes;
        if (c + X <= xCount)
          productTile<X>(mine, packed + r * blockDepth, x, job.k, depth);
        else
          for (int64_t j = c; j < xCount; j++, x += job.k)
            productTile<1>(mine + (j - c) * 4 * lanes, packed + r * blockDepth, x, job.k, depth);
      }
  }
  for (int64_t c = 0; c < xCount; c++)
    for (int64_t r = 0; r < wCount; r += 4) {
      F acc[4];
      float total[4];
      const float* mine = state + (c / X * X * blockWeights + r * X + c % X * 4) * lanes;
      UNROLL for (int i = 0; i < 4; i++) acc[i] = V::load(mine + i * lanes);
      sums(acc, total);
      float* out = job.out + (firstX + c) * job.n + firstW;
      for (int64_t i = r; i < smaller(r + 4, wCount); i++) out[i] = finish(job, total[i - r], firstW + i);
    }
}

template <class T>
void productTiles(const void* data, int64_t chunk, float* scratch) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t firstX = chunk / job.chunks * blockRows, xCount = smaller(blockRows, job.rows - firstX);
  int64_t first = chunk % job.chunks * job.chunkRows, last = smaller(first + job.chunkRows, job.n);
  if (xCount == 1) return productFewRows<1, T>(job, firstX, first, last);
  if (xCount == 2) return productFewRows<2, T>(job, firstX, first, last);
  if constexpr (V::tileX == 4) {
    if (xCount == 3) return productFewRows<3, T>(job, firstX, first, last);
    if (xCount == 4) return productFewRows<4, T>(job, firstX, first, last);
  }
  for (; first < last; first += blockWeights)
    productBlock<T>(job, firstX, xCount, first, smaller(blockWeights, last - first), scratch);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
