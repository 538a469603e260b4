/** Rows of quantized weights, and of what they are multiplied with, as 16-bit numbers of one scale. */
#pragma once
#include "blocked-accumulate.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Columns of a vector of shorts. */
constexpr int shortLanes = 2 * lanes;
/** What x is rounded to: a part's products with 1024 fit in the 32 bits of every lane. */
constexpr float mostX = lanes < 8 ? 16383 : 32767;
static_assert(productDepth / lanes * 1024 * (int64_t)mostX < (1ll << 31), "sums of a part are too long");
/** Of the largest code of int4, 8, in shorts. */
constexpr float code4Unit = 128;

/** Values times `factor` as shorts, a vector of them at a time to `place(column, shorts)`; zeros behind the last. */
template <class T, class Place>
inline __attribute__((always_inline)) void roundToShorts(const T* x, int64_t n, float factor, Place place) {
  const F times = V::broadcast(factor);
  int64_t c = 0;
  for (; c + shortLanes <= n; c += shortLanes) place(c, V::shorts(x + c, times, times));
  if (c == n) return;
  T padded[shortLanes] = {};
  for (int64_t i = c; i < n; i++) padded[i - c] = x[i];
  place(c, V::shorts(padded, times, times));
}

/** The largest |scale| of some blocks of int4; NaN where one is not finite. */
inline float largestScale(const Half* scales, int64_t blocks) {
  F most = V::zero(), sum = V::zero();
  for (int64_t b = 0; b < blocks; b += lanes) {
    F scale = b + lanes <= blocks ? V::load(scales + b) : V::loadTail(scales + b, (int)(blocks - b));
    F size = V::max(scale, V::sub(V::zero(), scale));
    most = V::max(most, size);
    sum = V::add(sum, size);
  }
  float all[lanes], largest = 0;
  V::store(all, most);
  for (int i = 0; i < lanes; i++) largest = all[i] > largest ? all[i] : largest;
  return bitsOf(V::sum(sum)) < infinityBits ? largest : __builtin_nanf("");
}

/** Columns of weight rows as shorts, where all of a row have one scale. */
template <class T>
struct Shorts;

/** Columns of a block of rows that have scales, so that columns need none. */
template <class T>
struct PlainColumns {
  PlainColumns(const BlockedJob&, int64_t, int64_t, int64_t, int64_t) {}
  static const float* scales(int64_t) { return nullptr; }
  template <class Place>
  static void load(const Weights& weight, const int64_t (&index)[2], const float* scale, int64_t first, int64_t n, Place place) {
    Shorts<T>::load(weight, index, scale, first, n, place);
  }
};

template <>
struct Shorts<int8_t> {
  using Columns = PlainColumns<int8_t>;
  static constexpr int64_t depth = productDepth;
  static float scaleOfX(const float* x, int64_t n, float& inverse) { return scaleOf(x, n, mostX, inverse); }
  static float scaleOfFactors(const float* x, int64_t n, float& inverse) { return scaleOf(x, n, 32767, inverse); }

  /** What the factors of the row's shorts are, beside that of `finishTile`. */
  static float scaleOfPart(const Weights&, int64_t, int64_t, int64_t) { return 1; }
  static float scaleOfRow(const BlockedJob& job, int64_t row) { return ::dejavu::DEJAVU_ISA::scaleOfRow<int8_t>(job.weight, row); }

  template <int rows, class Place>
  static inline void load(const Weights& weight, const int64_t (&index)[rows], const float*, int64_t first, int64_t n, Place place) {
    for (int64_t c = 0; c < n; c += shortLanes) {
      I shorts[rows];
      for (int r = 0; r < rows; r++) shorts[r] = V::shorts(rowOf<int8_t>(weight, index[r]) + first + c);
      place(c, shorts);
    }
  }
};

template <>
struct Shorts<Codes4> {
  using Columns = PlainColumns<Codes4>;
  static constexpr int64_t depth = productDepth;
  static constexpr float mostFactor = 8191;
  static_assert(ManyTile::depth * 1024 * (int64_t)mostFactor < (1ll << 31), "sums of a block are too long");
  static float scaleOfX(const float* x, int64_t n, float& inverse) { return scaleOf(x, n, mostX, inverse); }
  static float scaleOfFactors(const float* x, int64_t n, float& inverse) { return scaleOf(x, n, mostFactor, inverse); }

  static const Half* scalesOf(const Weights& weight, int64_t index, int64_t first) {
    return (const Half*)(weight.scales + index * weight.scaleStride) + first / partColumns * partBlocks;
  }
  static float scaleOfPart(const Weights& weight, int64_t index, int64_t first, int64_t n) {
    int64_t parts = (first % partColumns + n + partColumns - 1) / partColumns;
    return largestScale(scalesOf(weight, index, first), parts * partBlocks) * (1 / code4Unit);
  }
  static float scaleOfRow(const BlockedJob& job, int64_t row) { return scaleOfPart(job.weight, row, 0, job.weightColumns); }

  /** `scale`: of each row, as above. */
  template <int rows, class Place>
  static inline void load(const Weights& weight, const int64_t (&index)[rows], const float* scale, int64_t first, int64_t n, Place place) {
    F inverse[rows];
    for (int r = 0; r < rows; r++) {
      float most = scale[r] * code4Unit;
      inverse[r] = V::broadcast(most > 0 ? 32767 / most : 0);
    }
    int16_t share[rows][groupColumns];  // of the scales in the largest one, in 32768ths
    for (int64_t c = 0; c < n; c += lineColumns4) {
      if (c == 0 || (first + c) % partColumns == 0)
        for (int r = 0; r < rows; r++) shareScales(share[r], scalesOf(weight, index[r], first + c), inverse[r]);
      for (int64_t b = 0; b < groupColumns; b += shortLanes) {
        I low[rows], high[rows];
        for (int r = 0; r < rows; r++)
          V::shortsOfCodes(rowOf<uint8_t>(weight, index[r]) + (first + c) / 2 + b, share[r] + b, low[r], high[r]);
        if (c + b < n) place(c + b, low);
        if (c + b + groupColumns < n) place(c + b + groupColumns, high);
      }
    }
  }

 private:
  static void shareScales(int16_t* share, const Half* scales, F inverse) {
    int32_t block[partBlocks];
    for (int64_t b = 0; b < partBlocks; b += lanes) V::store(block + b, V::integers(V::mul(V::load(scales + b), inverse)));
    spreadBlocks(share, block);
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
