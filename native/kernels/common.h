/** What all kernels share: how rows are found, and the two inner loops. Every sum below is one fused chain per output. */
#pragma once

namespace dejavu::DEJAVU_ISA {
namespace {

#define UNROLL _Pragma("GCC unroll 32")

using F = V::F;
using I = V::I;
constexpr int lanes = V::lanes;

/** A number as a type, so that it can be an argument and still choose code. */
template <int n>
struct Number {
  static constexpr int value = n;
};

inline uint32_t bitsOf(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float withBits(uint32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/** Walks the weight rows of the selected units in ascending order; position counts them from 0. */
struct Cursor {
  const int32_t* indices;  // this row's units, or null: all
  int64_t perUnit, slot, within;

  Cursor(const Units& set, int64_t row, int64_t position)
      : indices(set.indices ? set.indices + (set.shared ? 0 : row) * set.units : nullptr),
        perUnit(set.perUnit),
        slot(!indices || perUnit == 1 ? position : position / perUnit),
        within(!indices || perUnit == 1 ? 0 : position % perUnit) {}

  int64_t next() {
    if (!indices) return slot++;
    if (perUnit == 1) return indices[slot++];
    int64_t row = indices[slot] * perUnit + within;
    if (++within == perUnit) {
      within = 0;
      slot++;
    }
    return row;
  }
};

/** Number of weight rows that row `row` of x computes. */
inline int64_t selectedRows(const Units& set, int64_t row) {
  return (set.indices ? set.counts[set.shared ? 0 : row] : set.units) * set.perUnit;
}

/** A row of a weight matrix: its elements, or its codes. */
template <class T>
inline const T* rowOf(const Weights& weight, int64_t index) {
  return (const T*)(weight.data + index * weight.stride);
}

/** The cache row of a position; the tables were checked before. */
inline int64_t cacheRow(const Places& places, int64_t sequence, int64_t position) {
  int64_t page = places.pages[sequence * places.maxPages + position / places.pageRows];
  return page * places.pageRows + position % places.pageRows;
}

/** Vectors in a cache line of weights, where lines are to be prefetched once each. */
template <bool ahead, class T>
constexpr int perLine = ahead && lanes * sizeof(T) < 64 ? 64 / (lanes * sizeof(T)) : 1;

/**
 * acc[x * W + w] += Σ_i weight = Σ_i weight[w][i] · x[x][i]: lanes over i, one chain for each of the W · X outputs.
 * `next`, where not null, are rows that will be wanted soon.
 */
template <int W, int X, bool ahead, class T>
inline __attribute__((always_inline)) void chain(F (&acc)[W * X], const T* const* weight, const float* const* x,
                                                 int64_t k, const T* const* next) {
  constexpr int line = perLine<ahead, T>;
  int64_t i = 0;
  auto step = [&](bool fetch) __attribute__((always_inline)) {
    F b[X];
    UNROLL for (int c = 0; c < X; c++) b[c] = V::load(x[c] + i);
    UNROLL for (int r = 0; r < W; r++) {
      F a = V::load(weight[r] + i);
      if (ahead && fetch) V::prefetch(next[r] + i);
      UNROLL for (int c = 0; c < X; c++) acc[c * W + r] = V::fma(a, b[c], acc[c * W + r]);
    }
    i += lanes;
  };
  while (i + line * lanes <= k) UNROLL for (int v = 0; v < line; v++) step(v == 0);
  while (i + lanes <= k) step(true);
  if (int n = (int)(k - i)) {
    F b[X];
    UNROLL for (int c = 0; c < X; c++) b[c] = V::loadTail(x[c] + i, n);
    UNROLL for (int r = 0; r < W; r++) {
      F a = V::loadTail(weight[r] + i, n);
      UNROLL for (int c = 0; c < X; c++) acc[c * W + r] = V::fma(a, b[c], acc[c * W + r]);
    }
  }
}

/** The chains' lanes added by the fixed tree. */
template <int N>
inline __attribute__((always_inline)) void sums(const F (&acc)[N], float* out) {
  int i = 0;
  UNROLL for (; i + 4 <= N; i += 4) V::sum4(acc + i, out + i);
  UNROLL for (; i < N; i++) out[i] = V::sum(acc[i]);
}

/** out[w] = weight[w] · x for W rows. */
template <int W, bool ahead, class T>
inline __attribute__((always_inline)) void dots(float* out, const T* const* weight, const float* x, int64_t k,
                                                const T* const* next) {
  F acc[W];
  UNROLL for (int r = 0; r < W; r++) acc[r] = V::zero();
  chain<W, 1, ahead>(acc, weight, &x, k, next);
  sums(acc, out);
}

/** total[c] = fma(factor[0], row[0][c], …) and so on through the W rows, for every column c. */
template <int W, bool ahead, class T>
inline __attribute__((always_inline)) void addScaled(float* total, const T* const* row, const float* factor, int64_t columns,
                                                     const T* const* next) {
  F f[W];
  UNROLL for (int r = 0; r < W; r++) f[r] = V::broadcast(factor[r]);
  constexpr int line = perLine<ahead, T>;
  int64_t c = 0;
  auto step = [&](bool fetch) __attribute__((always_inline)) {
    F t = V::load(total + c);
    UNROLL for (int r = 0; r < W; r++) {
      if (ahead && fetch) V::prefetch(next[r] + c);
      t = V::fma(f[r], V::load(row[r] + c), t);
    }
    V::store(total + c, t);
    c += lanes;
  };
  while (c + line * lanes <= columns) UNROLL for (int v = 0; v < line; v++) step(v == 0);
  while (c + lanes <= columns) step(true);
  if (int n = (int)(columns - c)) {
    F t = V::loadTail(total + c, n);
    UNROLL for (int r = 0; r < W; r++) t = V::fma(f[r], V::loadTail(row[r] + c, n), t);
    V::storeTail(total + c, t, n);
  }
}

/** The value of a float that a kernel may not call std:: for. */
inline float largest(F v) {
  float lane[lanes];
  V::store(lane, v);
  float best = lane[0];
  for (int i = 1; i < lanes; i++) best = lane[i] > best ? lane[i] : best;
  return best;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
