/**
 * Products with quantized weights: x is rounded to signed bytes, a scale for every 32 columns, and the products of codes
 * are summed as integers. What a product needs of x is laid out beforehand in the order in which the weights' codes meet
 * it: for every vector of codes the bytes of x, its scales, and what takes the offset of the weights' codes off again: in
 * int8 what integer sums start from, in int4 (whose codes are 8 too large) a number for each block.
 */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

constexpr int vectorBytes = 4 * lanes;

/** The weights' tags. A step is what one vector of codes holds, and x has one `Prepared` for each `Part`. */
struct Codes8 {
  static constexpr int parts = 1;  // vectors of codes in a part
  struct Part {
    int8_t x[vectorBytes];
    int32_t start[lanes];
    float scale[lanes];  // of the columns of each lane
  };
};
struct Codes4 {
  static constexpr int parts = 4;
  struct Part {
    int8_t x[4][2][vectorBytes];  // of the low halves of a vector's bytes, then of the high ones
    float scale[lanes];           // of a block each
    float correction[lanes];      // of a block each: -8 times the sum of x, which the weights' codes are too large by
  };
};

/** Bytes of codes that one part of x meets. */
template <class Q>
constexpr int64_t partBytes = Q::parts * vectorBytes;

static_assert(sizeof(Codes8::Part) <= vectorBytes * preparedBytes, "prepared rows are too short");
static_assert(sizeof(Codes4::Part) <= 2 * partBytes<Codes4> * preparedBytes, "prepared rows are too short");

/** The bits of the largest |x|: as integers they are in order, and NaN is above infinity, which is above all numbers. */
inline uint32_t largestBits(const float* x, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = bitsOf(x[i]) & 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  return most;
}

constexpr uint32_t infinityBits = 0x7f800000u;
constexpr float roundShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds |v| < 2^22 to an integer, in the low bits

/** The scale of `n` values, with which the largest becomes `most`: NaN where one is not finite. `inverse` may be zero. */
inline float scaleOf(const float* x, int64_t n, float most, float& inverse) {
  uint32_t bits = largestBits(x, n);
  inverse = most / withBits(bits);
  if (bits >= infinityBits) inverse = 0;
  if (bits >= infinityBits) return __builtin_nanf("");
  if (bits == 0 || bitsOf(inverse) >= infinityBits) inverse = 0;
  return inverse == 0 ? 0 : withBits(bits) / most;
}

/** Rounds n values to codes -127 … 127 and returns their scale; NaN where a value is not finite. */
inline float roundToCodes(int8_t* codes, const float* x, int64_t n) {
  float inverse, scale = scaleOf(x, n, 127, inverse);
  if (inverse == 0)
    for (int64_t i = 0; i < n; i++) codes[i] = 0;
  else
    for (int64_t i = 0; i < n; i++) codes[i] = (int8_t)(bitsOf(x[i] * inverse + roundShift) - bitsOf(roundShift));
  return scale;
}

/** Codes of `columns` values from `x` on and the scales of their blocks; those beyond the end are zeros. */
inline void roundBlocks(int8_t* codes, float* scales, const float* x, int64_t left, int64_t columns) {
  for (int64_t c = 0; c < columns; c += blockColumns) {
    float padded[blockColumns] = {};
    const float* from = x + c;
    if (left - c < blockColumns) {
      for (int64_t i = c; i < left; i++) padded[i - c] = x[i];
      from = padded;
    }
    scales[c / blockColumns] = roundToCodes(codes + c, from, blockColumns);
  }
}

/** What the sums of one vector of int8 start from. */
inline void startSums(int32_t* start, const int8_t* x) {
  V::store(start, V::minus(V::dot(V::none(), V::splat((int8_t)V::offset), V::bytes(x))));
}

inline void prepareRow(Codes8::Part* part, const float* x, int64_t k) {
  for (int64_t c = 0; c < k; c += groupColumns) {
    int8_t codes[groupColumns];
    float scales[groupColumns / blockColumns];
    roundBlocks(codes, scales, x + c, k - c, groupColumns);
    for (int64_t i = 0; i < groupColumns; i += vectorBytes, part++) {
      __builtin_memcpy(part->x, codes + i, vectorBytes);
      for (int l = 0; l < lanes; l++) part->scale[l] = scales[(i + 4 * l) / blockColumns];
      startSums(part->start, part->x);
    }
  }
}

inline void prepareRow(Codes4::Part* part, const float* x, int64_t k) {
  constexpr int64_t columns = 2 * partBytes<Codes4>;
  constexpr int run = 16;  // bytes of weights whose columns follow each other, on every vector width
  for (int64_t c = 0; c < k; c += columns, part++) {
    int8_t codes[columns];
    roundBlocks(codes, part->scale, x + c, k - c, columns);
    for (int64_t byte = 0; byte < partBytes<Codes4>; byte += run) {
      const int8_t* from = codes + byte / blockColumns * groupColumns + byte % blockColumns;
      int8_t* to = part->x[byte / vectorBytes][0] + byte % vectorBytes;
      __builtin_memcpy(to, from, run);
      __builtin_memcpy(to + vectorBytes, from + blockColumns, run);
    }
    for (int block = 0; block < lanes; block++) {
      int32_t sum = 0;
      for (int64_t i = 0; i < blockColumns; i++) sum += codes[block * blockColumns + i];
      part->correction[block] = part->scale[block] * (float)(-8 * sum);
    }
  }
}

template <class Q>
void prepare(const void* data, int64_t row, float*) {
  const PrepareJob& job = *(const PrepareJob*)data;
  prepareRow((typename Q::Part*)(job.out + row * job.stride), job.x + row * job.k, job.k);
}

/** The integer sums of one vector of int8, and of one half of a vector of int4. */
inline __attribute__((always_inline)) F sumsOf(I w, const Codes8::Part& part) {
  return V::floats(V::dotSigned(V::offset == 0 ? V::none() : V::bytes(part.start), w, V::bytes(part.x)));
}
inline __attribute__((always_inline)) F sumsOf(I codes, const int8_t* x) {
  return V::floats(V::dot(V::none(), codes, V::bytes(x)));
}

struct QuantizedRow {
  const uint8_t* codes;
  const uint8_t* scales;
};

/** Two chains for each of W weight rows and X rows of x: of even and odd vectors in int8, of low and high halves in int4. */
template <int W, int X>
struct Chains {
  F sum[2][W * X];
};

template <int W, int X, class Fetch>
inline __attribute__((always_inline)) void chainRows(Chains<W, X>& acc, const QuantizedRow* rows,
                                                     const Codes8::Part* const* x, int64_t from, int64_t to, Fetch& fetch) {
  constexpr int stride = vectorBytes < 32 ? 64 / vectorBytes : 2;  // vectors at a time: an even number, a whole line
  int64_t i = from / vectorBytes, steps = to / vectorBytes;
  UNROLL for (int r = 0; r < W; r++) fetch.scale(r, 0);
  auto step = [&](int which) __attribute__((always_inline)) {
    UNROLL for (int r = 0; r < W; r++) {
      I w = V::bytes(rows[r].codes + i * vectorBytes);
      UNROLL for (int c = 0; c < X; c++) {
        const Codes8::Part& part = x[c][i];
        F& sum = acc.sum[which][c * W + r];
        sum = V::fma(sumsOf(w, part), V::load(part.scale), sum);
      }
    }
    i++;
  };
  while (i + stride <= steps) {
    UNROLL for (int b = 0; b < stride * vectorBytes; b += 64)
      UNROLL for (int r = 0; r < W; r++) fetch.line(r, i * vectorBytes + b);
    UNROLL for (int j = 0; j < stride; j++) step(j % 2);
  }
  for (int which = 0; i < steps; which ^= 1) {
    if (which) step(1);
    else step(0);
  }
}

/** A whole part, or (tail) the vectors that `bytes` reach into. */
template <int W, int X, bool tail, class Fetch>
inline __attribute__((always_inline)) void chainPart(Chains<W, X>& acc, const QuantizedRow* rows,
                                                     const Codes4::Part* const* x, int64_t index, int64_t bytes,
                                                     Fetch& fetch) {
  typename V::Spread factor[W * X];
  UNROLL for (int r = 0; r < W; r++) {
    const Half* scales = (const Half*)rows[r].scales + index * lanes;
    fetch.scale(r, index * lanes * (int64_t)sizeof(Half));
    F scale;
    if constexpr (tail) scale = V::loadTail(scales, (int)(bytes / (blockColumns / 2)));
    else scale = V::load(scales);
    UNROLL for (int c = 0; c < X; c++) {
      F& sum = acc.sum[0][c * W + r];
      sum = V::fma(scale, V::load(x[c][index].correction), sum);
      factor[c * W + r] = V::mul(scale, V::load(x[c][index].scale));
    }
  }
  auto step = [&](auto number) __attribute__((always_inline)) {
    constexpr int s = decltype(number)::value;
    if (tail && s * vectorBytes >= bytes) return;
    UNROLL for (int r = 0; r < W; r++) {
      const uint8_t* codes = rows[r].codes + index * partBytes<Codes4> + s * vectorBytes;
      I w = tail ? V::bytesTail(codes, (int)smaller(bytes - s * vectorBytes, vectorBytes)) : V::bytes(codes);
      if constexpr (s * vectorBytes % 64 == 0) fetch.line(r, index * partBytes<Codes4> + s * vectorBytes);
      I low = V::low(w), high = V::high(w);
      UNROLL for (int c = 0; c < X; c++) {
        const Codes4::Part& part = x[c][index];
        F &first = acc.sum[0][c * W + r], &second = acc.sum[1][c * W + r];
        first = V::fma(sumsOf(low, part.x[s][0]), V::template spread<s, 0>(factor[c * W + r]), first);
        second = V::fma(sumsOf(high, part.x[s][1]), V::template spread<s, 1>(factor[c * W + r]), second);
      }
    }
  };
  step(Number<0>{});
  step(Number<1>{});
  step(Number<2>{});
  step(Number<3>{});
}

template <int W, int X, class Fetch>
inline __attribute__((always_inline)) void chainRows(Chains<W, X>& acc, const QuantizedRow* rows,
                                                     const Codes4::Part* const* x, int64_t from, int64_t to, Fetch& fetch) {
  int64_t i = from / partBytes<Codes4>, whole = to / partBytes<Codes4>;
  for (; i < whole; i++) chainPart<W, X, false>(acc, rows, x, i, partBytes<Codes4>, fetch);
  if (int64_t left = to - whole * partBytes<Codes4>) chainPart<W, X, true>(acc, rows, x, whole, left, fetch);
}

inline float rowScale(Codes8, const uint8_t* scales) { return *(const float*)scales; }
inline float rowScale(Codes4, const uint8_t*) { return 1.0f; }

/** out[c * W + r] = weight row r times x[c]. `run` goes through the chains, in one part or more. */
template <int W, int X, class Q, class Run>
inline __attribute__((always_inline)) void quantizedDots(float* out, const QuantizedRow* rows,
                                                         const uint8_t* const* prepared, Run run) {
  const typename Q::Part* x[X];
  Chains<W, X> acc;
  F all[W * X];
  for (int c = 0; c < X; c++) x[c] = (const typename Q::Part*)prepared[c];
  UNROLL for (int i = 0; i < W * X; i++) acc.sum[0][i] = acc.sum[1][i] = V::zero();
  run(acc, x);
  UNROLL for (int i = 0; i < W * X; i++) all[i] = V::add(acc.sum[0][i], acc.sum[1][i]);
  sums(all, out);
  UNROLL for (int i = 0; i < W * X; i++) out[i] *= rowScale(Q{}, rows[i % W].scales);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
