/** product: out = activation(x · weightᵀ + bias). Whatever the tile, an output is one chain over k and one tree. */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline float finish(const float* bias, bool relu, float sum, int64_t row) {
  float v = bias ? sum + bias[row] : sum;
  return relu && v < 0 ? 0.0f : v;
}

/** The weight rows of one step, for one row of x. */
template <int W, class T, class Fetch>
inline __attribute__((always_inline)) void productStep(const ProductJob& job, const float* x, float* out,
                                                       const int64_t* index, Fetch& fetch) {
  const T* rows[W];
  float total[W];
  for (int r = 0; r < W; r++) rows[r] = rowOf<T>(job.weight, index[r]);
  dots<W>(total, rows, x, job.k, fetch);
  for (int r = 0; r < W; r++) out[index[r]] = finish(job.bias, job.relu, total[r], index[r]);
}

template <class T>
void productRows(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkRows;
  int64_t last = smaller(first + job.chunkRows, selectedRows(job.set, row));
  if (first >= last) return;
  const float* x = job.x + row * job.k;
  float* out = job.out + row * job.n;
  constexpr int W = 4;
  NoFetch none;
  RowSteps<W> steps(job.weight, Cursor(job.set, row, first), last - first, 0);
  while (steps.step()) productStep<W, T>(job, x, out, steps.index, steps);
  while (steps.last()) productStep<1, T>(job, x, out, steps.index, none);
}

/** Up to blockRows rows of x, wherever they are, against chosen rows of one weight matrix: out[c][row] for each. */
template <class T>
struct Panel {
  Weights weight;
  const float* bias;
  int64_t k;
  bool relu;
  int64_t count;  // rows of x
  const float* x[blockRows];
  float* out[blockRows];

  const T* row(int64_t index) const { return rowOf<T>(weight, index); }
};

/** W weight rows against X rows of x, from `c` on, straight from memory. */
template <int W, int X, class T>
inline void productFew(const Panel<T>& panel, int64_t c, const int64_t* index) {
  const T* weight[W];
  const float* x[X];
  float total[W * X];
  F acc[W * X];
  for (int r = 0; r < W; r++) weight[r] = panel.row(index[r]);
  for (int i = 0; i < X; i++) x[i] = panel.x[c + i];
  UNROLL for (int i = 0; i < W * X; i++) acc[i] = V::zero();
  // Rows that follow each other are followed by those of the next step.
  RowsBehind<T> next{weight, index[W - 1] - index[0] == W - 1 ? W * panel.weight.stride : 0};
  chain<W, X>(acc, weight, x, panel.k, next);
  sums(acc, total);
  for (int i = 0; i < X; i++)
    for (int r = 0; r < W; r++)
      panel.out[c + i][index[r]] = finish(panel.bias, panel.relu, total[i * W + r], index[r]);
}

/** W weight rows against the rows of x from `c` to `last`: tiles, then those that do not fill one. */
template <int W, class T>
inline void productFewRows(const Panel<T>& panel, int64_t c, int64_t last, const int64_t* index) {
  constexpr int X = V::tileX;
  overPanels<X>(last - c, [&](int64_t p, auto count) { productFew<W, decltype(count)::value>(panel, c + p * X, index); });
}

/** One register tile of a block: continues the chains kept in `state` over `depth` packed columns. */
template <int X>
inline void productTile(float* state, const float* packed, const float* const* x, int64_t at, int64_t depth) {
  F acc[4 * X];
  const float* weight[4];
  const float* rows[X];
  for (int r = 0; r < 4; r++) weight[r] = packed + r * blockDepth;
  for (int c = 0; c < X; c++) rows[c] = x[c] + at;
  UNROLL for (int i = 0; i < 4 * X; i++) acc[i] = V::load(state + i * lanes);
  NoFetch none;
  chain<4, X>(acc, weight, rows, depth, none);
  UNROLL for (int i = 0; i < 4 * X; i++) V::store(state + i * lanes, acc[i]);
}

/** Widens `depth` columns of `count` weight rows from `at` on to float32; the rows that are missing become zeros. */
template <class T>
inline void pack(float* packed, const Panel<T>& panel, const int64_t* index, int64_t count, int64_t at, int64_t depth) {
  for (int64_t r = 0; r < blockWeights; r++) {
    float* out = packed + r * blockDepth;
    int64_t i = 0;
    if (r < count) {
      const T* row = panel.row(index[r]) + at;
      for (; i + lanes <= depth; i += lanes) V::store(out + i, V::load(row + i));
      if (int n = (int)(depth - i)) V::storeTail(out + i, V::loadTail(row + i, n), n);
    } else {
      for (; i < depth; i++) out[i] = 0;
    }
  }
}

/**
 * A panel and up to blockWeights weight rows. Depth by depth, the weights are widened into L1 and every group of x rows
 * passes over them; the unfinished chains wait in scratch as whole vectors.
 */
template <class T>
void productBlock(const Panel<T>& panel, const int64_t* index, int64_t count, float* scratch) {
  constexpr int X = V::tileX;
  float* packed = scratch;                             // [blockWeights, blockDepth]
  float* state = scratch + blockWeights * blockDepth;  // [blockRows, blockWeights, lanes], tile by tile
  int64_t used = (panel.count + X - 1) / X * X * blockWeights * lanes;
  for (int64_t i = 0; i < used; i++) state[i] = 0;
  for (int64_t at = 0; at < panel.k; at += blockDepth) {
    int64_t depth = smaller(blockDepth, panel.k - at);
    pack(packed, panel, index, count, at, depth);
    for (int64_t c = 0; c < panel.count; c += X)
      for (int64_t r = 0; r < count; r += 4) {
        float* mine = state + (c * blockWeights + r * X) * lanes;
        if (c + X <= panel.count)
          productTile<X>(mine, packed + r * blockDepth, panel.x + c, at, depth);
        else
          for (int64_t j = c; j < panel.count; j++)
            productTile<1>(mine + (j - c) * 4 * lanes, packed + r * blockDepth, panel.x + j, at, depth);
      }
  }
  for (int64_t c = 0; c < panel.count; c++)
    for (int64_t r = 0; r < count; r += 4) {
      F acc[4];
      float total[4];
      const float* mine = state + (c / X * X * blockWeights + r * X + c % X * 4) * lanes;
      UNROLL for (int i = 0; i < 4; i++) acc[i] = V::load(mine + i * lanes);
      sums(acc, total);
      for (int64_t i = r; i < smaller(r + 4, count); i++)
        panel.out[c][index[i]] = finish(panel.bias, panel.relu, total[i - r], index[i]);
    }
}

/** The panel against up to blockWeights weight rows, which come from memory once for all rows of x. */
template <class T>
inline void productPanel(const Panel<T>& panel, const int64_t* index, int64_t count, float* scratch) {
  // Where chains are short, or x rows few, setting up blocks costs more than it saves: groups of x rows that L1 holds.
  constexpr int64_t few = 2 * V::tileX, groupFloats = 4096;
  if (panel.count > few && panel.k > blockDepth / 2) return productBlock<T>(panel, index, count, scratch);
  int64_t group = panel.k * few < groupFloats ? groupFloats / panel.k / V::tileX * V::tileX : few;
  for (int64_t c = 0; c < panel.count; c += group) {
    int64_t last = smaller(c + group, panel.count), i = 0;
    if (last - c == 1)
      for (; i + V::wide <= count; i += V::wide)
        productFew<V::wide, 1>(panel, c, index + i);
    for (; i + 4 <= count; i += 4) productFewRows<4>(panel, c, last, index + i);
    for (; i < count; i++) productFewRows<1>(panel, c, last, index + i);
  }
}

template <class T>
void productTiles(const void* data, int64_t chunk, float* scratch) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t firstX = chunk / job.chunks * blockRows;
  int64_t first = chunk % job.chunks * job.chunkRows, last = smaller(first + job.chunkRows, selectedRows(job.set, 0));
  Panel<T> panel;
  panel.weight = job.weight;
  panel.bias = job.bias;
  panel.k = job.k;
  panel.relu = job.relu;
  panel.count = smaller(blockRows, job.rows - firstX);
  for (int64_t c = 0; c < panel.count; c++) {
    panel.x[c] = job.x + (firstX + c) * job.k;
    panel.out[c] = job.out + (firstX + c) * job.n;
  }
  Cursor at(job.set, 0, first);
  while (first < last) {
    int64_t index[blockWeights], count = smaller(blockWeights, last - first);
    for (int64_t i = 0; i < count; i++) index[i] = at.next();
    productPanel(panel, index, count, scratch);
    first += count;
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
