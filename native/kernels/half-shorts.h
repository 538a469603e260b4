/**
 * Rows of floats of 16 bits as 16-bit integers. By Cauchy and Schwarz the sum of products is at most the product of both
 * norms; so weights and x are scaled by the norms of what is summed in 32 bits, which leaves them three bits more than
 * their largest values would: what is rounded away is some 2^-14 of the root of the mean square.
 */
#pragma once
#include "shorts.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Norms of weights and of x before they are rounded, by which each number may change by a half. */
constexpr int64_t mostNormOfWeights = 32700, mostNormOfX = 65500, mostOfRounding = 8;
static_assert((mostNormOfWeights + mostOfRounding) * (mostNormOfX + mostOfRounding) < (1ll << 31), "sums do not fit");
/** Columns of a part of the sums of a product: as shorts they take the place of half as many floats. */
constexpr int64_t halfDepth = 2 * productDepth;
static_assert(ManyTile::depth <= 4 * mostOfRounding * mostOfRounding && halfDepth / lanes <= 4 * mostOfRounding * mostOfRounding,
              "so many halves make no larger norm");

/** Squares of values times `factor`, summed for each of the columns of a vector of shorts. */
template <class T>
inline void sumSquares(float* sums, const T* x, int64_t n, float factor) {
  F lower = V::zero(), upper = V::zero();
  const F times = V::broadcast(factor);
  auto add = [&](F& sum, F v) __attribute__((always_inline)) {
    v = V::mul(v, times);
    sum = V::fma(v, v, sum);
  };
  int64_t c = 0;
  for (; c + shortLanes <= n; c += shortLanes) {
    add(lower, V::load(x + c));
    add(upper, V::load(x + c + lanes));
  }
  if (c < n) add(lower, c + lanes <= n ? V::load(x + c) : V::loadTail(x + c, (int)(n - c)));
  if (c + lanes < n) add(upper, V::loadTail(x + c + lanes, (int)(n - c - lanes)));
  V::store(sums, lower);
  V::store(sums + lanes, upper);
}

/** The largest norm of what shares a lane: neighbours of each vector of shorts. NaN where something is not finite. */
template <class T>
inline float largestLaneNorm(const T* x, int64_t n, float factor) {
  float squares[shortLanes], largest = 0, all = 0;
  sumSquares(squares, x, n, factor);
  for (int i = 0; i < lanes; i++) {
    float both = squares[2 * i] + squares[2 * i + 1];
    largest = both > largest ? both : largest;
    all += both;
  }
  return bitsOf(all) < infinityBits ? __builtin_sqrtf(largest) : __builtin_nanf("");
}

inline float norm(const float* x, int64_t n, float factor) {
  float squares[shortLanes], all = 0;
  sumSquares(squares, x, n, factor);
  for (float square : squares) all += square;
  return __builtin_sqrtf(all);
}

/** The scale of x whose norm, of which `normOf(factor)` gives that of x times a factor, is no longer than allowed. */
template <class Norm>
inline float scaleByNorm(const float* x, int64_t n, float& inverse, Norm normOf) {
  float scale = scaleOf(x, n, 32767, inverse), length = normOf(inverse);
  if (!(length > mostNormOfX)) return scale;
  inverse *= mostNormOfX / length;
  return scale * (length / mostNormOfX);
}

inline float inverseOf(float scale) { return scale > 0 ? 1 / scale : 0; }

/** Columns `first` … `first + n` of a block of weight rows: every column has a scale, by its norm. */
template <class T>
class NormedColumns {
 public:
  NormedColumns(const BlockedJob& job, int64_t from, int64_t to, int64_t first, int64_t n) {
    for (int64_t c = 0; c < n; c += ManyTile::columns) {
      F sum[ManyTile::c];
      UNROLL for (int v = 0; v < ManyTile::c; v++) sum[v] = V::zero();
      int64_t columns = smaller(ManyTile::columns, n - c);
      for (int64_t i = from; i < to; i++) {
        const T* row = rowOf<T>(job.weight, weightRow(job, i)) + first + c;
        T padded[ManyTile::columns];
        if (columns < ManyTile::columns) row = pad(padded, row, columns, ManyTile::columns);
        UNROLL for (int v = 0; v < ManyTile::c; v++) {
          F w = V::load(row + v * lanes);
          sum[v] = V::fma(w, w, sum[v]);
        }
      }
      UNROLL for (int v = 0; v < ManyTile::c; v++) V::store(scale_ + c + v * lanes, sum[v]);
    }
    for (int64_t c = 0; c < n; c++) {
      scale_[c] = __builtin_sqrtf(scale_[c]) * (1.0f / mostNormOfWeights);
      inverse_[c] = inverseOf(scale_[c]);
    }
    for (int64_t c = n; c < most; c++) scale_[c] = inverse_[c] = 0;
  }

  const float* scales(int64_t column) const { return scale_ + column; }

  template <class Place>
  void load(const Weights& weight, const int64_t (&index)[2], const float*, int64_t first, int64_t n, Place place) const {
    for (int64_t c = 0; c < n; c += shortLanes) {
      I shorts[2];
      for (int r = 0; r < 2; r++) {
        const T* row = rowOf<T>(weight, index[r]) + first + c;
        T padded[shortLanes];
        if (n - c < shortLanes) row = pad(padded, row, n - c, shortLanes);
        shorts[r] = V::shorts(row, V::load(inverse_ + c), V::load(inverse_ + c + lanes));
      }
      place(c, shorts);
    }
  }

 private:
  static const T* pad(T* padded, const T* row, int64_t n, int64_t columns) {
    for (int64_t i = 0; i < columns; i++) padded[i] = i < n ? row[i] : T{};
    return padded;
  }

  static constexpr int64_t most = mostManyColumns + ManyTile::columns;
  float scale_[most], inverse_[most];
};

template <class T>
struct FloatShorts {
  using Columns = NormedColumns<T>;
  static constexpr int64_t depth = halfDepth;
  static float scaleOfX(const float* x, int64_t n, float& inverse) {
    return scaleByNorm(x, n, inverse, [&](float factor) { return largestLaneNorm(x, n, factor); });
  }
  static float scaleOfFactors(const float* x, int64_t n, float& inverse) {
    return scaleByNorm(x, n, inverse, [&](float factor) { return norm(x, n, factor); });
  }
  static float scaleOfPart(const Weights& weight, int64_t index, int64_t first, int64_t n) {
    return largestLaneNorm(rowOf<T>(weight, index) + first, n, 1) * (1.0f / mostNormOfWeights);
  }
  static float scaleOfRow(const BlockedJob&, int64_t) { return 1; }

  template <class Place>
  static void load(const Weights& weight, const int64_t (&index)[1], const float* scale, int64_t first, int64_t n, Place place) {
    roundToShorts(rowOf<T>(weight, index[0]) + first, n, inverseOf(*scale), [&](int64_t c, I shorts) { place(c, &shorts); });
  }
};

template <>
struct Shorts<Half> : FloatShorts<Half> {};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
