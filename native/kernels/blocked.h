/**
 * The product of several rows: every output is one chain of vectors over k and one tree at the end, as of a row alone.
 * Unfinished chains wait in scratch as whole vectors while the other rows pass over a block of weights.
 */
#pragma once
#include "blocked-weights.h"
#include "product.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Floats of a step of a packed panel of x and of a group of weight rows, and of the chains of a tile. */
constexpr int64_t stepX = blockedX * lanes, stepW = blockedW * lanes, tileSums = blockedW * blockedX * lanes;

/** A panel of rows of x: step by step, a vector of each. */
inline void packProductRows(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  float* out = job.packed + chunk * job.packedStride;
  for (int64_t r = 0; r < blockedX; r++) {
    int64_t row = chunk * blockedX + r, k = 0;
    const float* x = job.x + row * job.xColumns;
    float* to = out + r * lanes;
    if (row >= job.rows) {
      for (; k < job.depth; k += lanes, to += stepX) V::store(to, V::zero());
      continue;
    }
    for (; k + lanes <= job.depth; k += lanes, to += stepX) V::store(to, V::load(x + k));
    if (k < job.depth) V::store(to, V::loadTail(x + k, (int)(job.depth - k)));
  }
}

inline __attribute__((always_inline)) void productStep(F (&acc)[blockedW * blockedX], const float* w, const float* x) {
  F b[blockedX];
  UNROLL for (int c = 0; c < blockedX; c++) b[c] = V::load(x + c * lanes);
  UNROLL for (int r = 0; r < blockedW; r++) {
    F a = V::load(w + r * lanes);
    UNROLL for (int c = 0; c < blockedX; c++) acc[c * blockedW + r] = V::fma(a, b[c], acc[c * blockedW + r]);
  }
}

/** Continues (or starts) the chains of a tile over `steps`. */
inline void multiplyTile(float* sums, const float* w, const float* x, int64_t steps, bool isFirst) {
  F acc[blockedW * blockedX];
  UNROLL for (int i = 0; i < blockedW * blockedX; i++) acc[i] = isFirst ? V::zero() : V::load(sums + i * lanes);
  int64_t s = 0;
  for (; s + 2 <= steps; s += 2, w += 2 * stepW, x += 2 * stepX) {
    productStep(acc, w, x);
    productStep(acc, w + stepW, x + stepX);
  }
  if (s < steps) productStep(acc, w, x);
  UNROLL for (int i = 0; i < blockedW * blockedX; i++) V::store(sums + i * lanes, acc[i]);
}

template <class T>
inline float scaleOfRow(const Weights&, int64_t) {
  return 1.0f;
}
template <>
inline float scaleOfRow<int8_t>(const Weights& weight, int64_t row) {
  return *(const float*)(weight.scales + row * weight.scaleStride);
}

/** A group of weight rows, `count` of them, and all panels of x: what is left of chains at their end. */
template <class T>
void finishGroup(const BlockedJob& job, const float* sums, int64_t first, int64_t count) {
  for (int64_t r = 0; r < job.rows; r++) {
    const float* mine = sums + r / blockedX * tileSums + r % blockedX * stepW;
    F acc[blockedW];
    float total[blockedW];
    UNROLL for (int i = 0; i < blockedW; i++) acc[i] = V::load(mine + i * lanes);
    V::sum4(acc, total);
    for (int64_t i = 0; i < count; i++) {
      int64_t row = weightRow(job, first + i);
      if constexpr (sizeof(T) == 1) total[i] *= scaleOfRow<T>(job.weight, row);
      job.out[r * job.outColumns + row] = finish(job.bias, job.relu, total[i], row);
    }
  }
}

template <class T>
void multiplyProduct(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  int64_t first = chunk * job.chunkWidth, width = smaller(job.chunkWidth, job.width - first);
  int64_t panels = (job.rows + blockedX - 1) / blockedX;
  float *weights = scratch, *sums = scratch + productDepth * blockedW;
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    int64_t depth = smaller(productDepth, job.depth - k), steps = (depth + lanes - 1) / lanes;
    const float* x = job.packed + k * blockedX;
    for (int64_t o = 0; o < width; o += blockedW) {
      for (int64_t r = 0; r < blockedW; r++) {
        auto place = [&](int64_t v) { return weights + v * stepW + r * lanes; };
        if (o + r < width)
          Widen<T>::row(job.weight, weightRow(job, first + o + r), k, depth, place);
        else
          for (int64_t v = 0; v < steps; v++) V::store(place(v), V::zero());
      }
      bool isLast = o + blockedW >= width;
      int64_t next = isLast ? 0 : o + blockedW, nextK = isLast ? k + productDepth : k;
      Soon soon(job, first + next, nextK < job.depth ? smaller(blockedW, width - next) : 0, Widen<T>::bytes(nextK),
                Widen<T>::bytes(smaller(productDepth, job.depth - nextK)), panels);
      for (int64_t p = 0; p < panels; p++) {
        soon.fetch();
        multiplyTile(sums + (o / blockedW * panels + p) * tileSums, weights, x + p * job.packedStride, steps, k == 0);
      }
    }
  }
  for (int64_t o = 0; o < width; o += blockedW)
    finishGroup<T>(job, sums + o / blockedW * panels * tileSums, first + o, smaller(blockedW, width - o));
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
