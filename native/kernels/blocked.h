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

/** Rows of x, those that fill the last panel included. */
inline int64_t paddedRows(const BlockedJob& job) { return (job.rows + blockedX - 1) / blockedX * blockedX; }

/** A panel of rows of x: step by step, a vector of each. */
inline void packProductRows(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    int64_t depth = smaller(productDepth, job.depth - k), steps = (depth + lanes - 1) / lanes;
    float* out = job.packed + k * paddedRows(job) + chunk * steps * stepX;
    for (int64_t r = 0; r < blockedX; r++) {
      int64_t row = chunk * blockedX + r, c = 0;
      const float* x = job.x + row * job.xColumns + k;
      float* to = out + r * lanes;
      if (row >= job.rows) {
        for (; c < depth; c += lanes, to += stepX) V::store(to, V::zero());
        continue;
      }
      for (; c + lanes <= depth; c += lanes, to += stepX) V::store(to, V::load(x + c));
      if (c < depth) V::store(to, V::loadTail(x + c, (int)(depth - c)));
    }
  }
}

/** A group of weight rows for a tile: widened, step by step a vector of each … */
struct WidenedRows {
  const float* at;
  F load(int r, int64_t s) const { return V::load(at + (s * blockedW + r) * lanes); }
  F last(int r, int64_t s) const { return load(r, s); }
};
/** … or where they are, with `tail` columns at the last step. */
template <class T>
struct DirectRows {
  const T* rows[blockedW];
  int tail;
  F load(int r, int64_t s) const { return V::load(rows[r] + s * lanes); }
  F last(int r, int64_t s) const {
    return tail == lanes ? load(r, s) : V::loadTail(rows[r] + s * lanes, tail);
  }
};

/** Continues (or starts) the chains of a tile over `steps`. */
template <class Rows>
inline __attribute__((always_inline)) void multiplyTile(float* sums, const Rows& w, const float* x, int64_t steps,
                                                        bool isFirst, Soon& soon) {
  F acc[blockedW * blockedX];
  UNROLL for (int i = 0; i < blockedW * blockedX; i++) acc[i] = isFirst ? V::zero() : V::load(sums + i * lanes);
  auto step = [&](int64_t s, auto isLast) __attribute__((always_inline)) {
    F b[blockedX];
    UNROLL for (int c = 0; c < blockedX; c++) b[c] = V::load(x + s * stepX + c * lanes);
    UNROLL for (int r = 0; r < blockedW; r++) {
      F a = decltype(isLast)::value ? w.last(r, s) : w.load(r, s);
      UNROLL for (int c = 0; c < blockedX; c++) acc[r * blockedX + c] = V::fma(a, b[c], acc[r * blockedX + c]);
    }
  };
  int64_t s = 0;
  for (; s + 4 < steps; s += 4) {
    soon.step();
    UNROLL for (int i = 0; i < 4; i++) step(s + i, Number<0>{});
  }
  for (; s + 1 < steps; s++) step(s, Number<0>{});
  step(s, Number<1>{});
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
  for (int64_t r = 0; r < job.rows; r += blockedX, sums += tileSums)
    for (int64_t i = 0; i < count; i++) {
      F acc[blockedX];
      float total[blockedX];
      UNROLL for (int c = 0; c < blockedX; c++) acc[c] = V::load(sums + i * stepX + c * lanes);
      ::dejavu::DEJAVU_ISA::sums(acc, total);
      int64_t row = weightRow(job, first + i), rows = smaller(blockedX, job.rows - r);
      float scale = scaleOfRow<T>(job.weight, row);
      for (int64_t c = 0; c < rows; c++)
        job.out[(r + c) * job.outColumns + row] = finish(job.bias, job.relu, total[c] * scale, row);
    }
}

/** A part of the sums, and the groups of a chunk. */
struct ProductPart {
  int64_t first, width, panels, k, depth, steps;
  const float* x;

  ProductPart(const BlockedJob& job, int64_t chunk)
      : first(chunk * job.chunkWidth),
        width(smaller(job.chunkWidth, job.width - first)),
        panels(paddedRows(job) / blockedX) {}

  void enter(const BlockedJob& job, int64_t from) {
    k = from;
    depth = smaller(productDepth, job.depth - k);
    steps = (depth + lanes - 1) / lanes;
    x = job.packed + k * paddedRows(job);
  }

  /** What follows the group from o on, of so many steps: the next one, or the first of the next part. */
  template <class T>
  Soon after(const BlockedJob& job, int64_t o, int64_t steps) const {
    bool isLast = o + blockedW >= width;
    int64_t next = isLast ? 0 : o + blockedW, nextK = isLast ? k + productDepth : k, left = job.depth - nextK;
    return Soon(job, first + next, left > 0 ? smaller(blockedW, width - next) : 0, bytesOf<T>(nextK),
                bytesOf<T>(smaller(productDepth, left)), panels * (steps / 4));
  }

  /** All panels of x over the group from o on. */
  template <class Rows>
  inline __attribute__((always_inline)) void multiply(float* sums, int64_t o, const Rows& rows, Soon& soon) const {
    float* mine = sums + o / blockedW * panels * tileSums;
    for (int64_t p = 0; p < panels; p++)
      multiplyTile(mine + p * tileSums, rows, x + p * steps * stepX, steps, k == 0, soon);
  }

  template <class T>
  void finish(const BlockedJob& job, const float* sums) const {
    for (int64_t o = 0; o < width; o += blockedW)
      finishGroup<T>(job, sums + o / blockedW * panels * tileSums, first + o, smaller(blockedW, width - o));
  }
};

template <class T>
void multiplyProduct(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  ProductPart part(job, chunk);
  float *weights = scratch, *sums = scratch + productDepth * blockedW;
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    part.enter(job, k);
    for (int64_t o = 0; o < part.width; o += blockedW) {
      for (int64_t r = 0; r < blockedW; r++) {
        auto place = [&](int64_t v) { return weights + (v * blockedW + r) * lanes; };
        if (o + r < part.width)
          widenRow<T>(job.weight, weightRow(job, part.first + o + r), k, part.depth, place);
        else
          for (int64_t v = 0; v < part.steps; v++) V::store(place(v), V::zero());
      }
      Soon soon = part.after<T>(job, o, part.steps);
      part.multiply(sums, o, WidenedRows{weights}, soon);
    }
  }
  part.finish<T>(job, sums);
}

/** The same with weights where they are; where a group lacks rows its last one stands in for them. */
template <class T>
void multiplyFew(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  ProductPart part(job, chunk);
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    part.enter(job, k);
    for (int64_t o = 0; o < part.width; o += blockedW) {
      DirectRows<T> rows;
      for (int64_t r = 0; r < blockedW; r++)
        rows.rows[r] = rowOf<T>(job.weight, weightRow(job, part.first + smaller(o + r, part.width - 1))) + k;
      rows.tail = (int)(part.depth - (part.steps - 1) * lanes);
      Soon soon = part.after<T>(job, o, part.steps);
      part.multiply(scratch, o, rows, soon);
    }
  }
  part.finish<T>(job, scratch);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
