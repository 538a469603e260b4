/**
 * Products with quantized weights: x is rounded to signed bytes, a scale for every 32 columns, and the products of codes
 * are summed as integers. What a product needs of x is laid out beforehand in the order in which the weights' codes meet
 * it: for every vector of codes the bytes of x, what the sums of that vector start from (minus the offset of the weights'
 * codes, times x) and the scales of x.
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
    int32_t start[4][2][lanes];
    float scale[lanes];  // of a block each
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

/** Rounds n values to codes -127 … 127 and returns their scale; NaN where a value is not finite. */
inline float roundToCodes(int8_t* codes, const float* x, int64_t n) {
  uint32_t bits = largestBits(x, n);
  float most = withBits(bits), inverse = 127.0f / most, scale = most / 127.0f;
  if (bits >= infinityBits) scale = __builtin_nanf(""), inverse = 0;
  if (bits == 0 || bitsOf(inverse) >= infinityBits) scale = inverse = 0;
  if (inverse == 0) {
    for (int64_t i = 0; i < n; i++) codes[i] = 0;
    return scale;
  }
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

/** What the sums of one vector start from. */
inline void startSums(int32_t* start, const int8_t* x, int offset) {
  V::store(start, V::minus(V::dot(V::none(), V::splat((int8_t)offset), V::bytes(x))));
}

inline void prepareRow(Codes8::Part* part, const float* x, int64_t k) {
  for (int64_t c = 0; c < k; c += groupColumns) {
    int8_t codes[groupColumns];
    float scales[groupColumns / blockColumns];
    roundBlocks(codes, scales, x + c, k - c, groupColumns);
    for (int64_t i = 0; i < groupColumns; i += vectorBytes, part++) {
      __builtin_memcpy(part->x, codes + i, vectorBytes);
      for (int l = 0; l < lanes; l++) part->scale[l] = scales[(i + 4 * l) / blockColumns];
      startSums(part->start, part->x, V::offset);
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
    for (int step = 0; step < 4; step++)
      for (int half = 0; half < 2; half++) startSums(part->start[step][half], part->x[step][half], 8);
  }
}

template <class Q>
void prepare(const void* data, int64_t row, float*) {
  const PrepareJob& job = *(const PrepareJob*)data;
  prepareRow((typename Q::Part*)(job.out + row * job.stride), job.x + row * job.k, job.k);
}

/** The integer sums of one vector, where they start from what was prepared. */
template <bool isSigned>
inline __attribute__((always_inline)) F sumsOf(I w, const int8_t* x, const int32_t* start) {
  if constexpr (isSigned && V::offset == 0) return V::floats(V::dotSigned(V::none(), w, V::bytes(x)));
  if constexpr (isSigned) return V::floats(V::dotSigned(V::bytes(start), w, V::bytes(x)));
  return V::floats(V::dot(V::bytes(start), w, V::bytes(x)));
}

/** A weight row and, where it is to be fetched ahead, one that will be wanted soon. */
struct QuantizedRow {
  const uint8_t* codes;
  const uint8_t* scales;
  const uint8_t* nextCodes;
  const uint8_t* nextScales;
};

/** Two chains a row: of even and of odd vectors in int8, of low and of high halves in int4. */
template <int X>
struct Chains {
  F sum[2][X];
};

template <int X, bool ahead>
inline __attribute__((always_inline)) void chainRow(Chains<X>& acc, const QuantizedRow& row, const Codes8::Part* const* x,
                                                    int64_t bytes) {
  constexpr int line = vectorBytes < 64 ? 64 / vectorBytes : 1;
  int64_t steps = bytes / vectorBytes, i = 0;
  auto step = [&](int which) __attribute__((always_inline)) {
    I w = V::bytes(row.codes + i * vectorBytes);
    UNROLL for (int c = 0; c < X; c++) {
      const Codes8::Part& part = x[c][i];
      acc.sum[which][c] = V::fma(sumsOf<true>(w, part.x, part.start), V::load(part.scale), acc.sum[which][c]);
    }
    i++;
  };
  if constexpr (ahead) V::prefetch(row.nextScales);
  constexpr int stride = line > 2 ? line : 2;
  while (i + stride <= steps) {
    if constexpr (ahead)
      UNROLL for (int b = 0; b < stride * vectorBytes; b += 64) V::prefetch(row.nextCodes + i * vectorBytes + b);
    UNROLL for (int j = 0; j < stride; j++) step(j % 2);
  }
  for (int which = 0; i < steps; which ^= 1) {
    if (which) step(1);
    else step(0);
  }
}

/** A whole part, or (tail) the vectors that `bytes` reach into. */
template <int X, bool tail, bool ahead>
inline __attribute__((always_inline)) void chainPart(Chains<X>& acc, const QuantizedRow& row, const Codes4::Part* const* x,
                                                     int64_t index, int64_t bytes) {
  const uint8_t* codes = row.codes + index * partBytes<Codes4>;
  const Half* scales = (const Half*)row.scales + index * lanes;
  F weightScale, factor[X];
  if constexpr (tail) weightScale = V::loadTail(scales, (int)(bytes / (blockColumns / 2)));
  else weightScale = V::load(scales);
  UNROLL for (int c = 0; c < X; c++) factor[c] = V::mul(weightScale, V::load(x[c][index].scale));
  if constexpr (ahead) {
    V::prefetch(row.nextScales + index * lanes * sizeof(Half));
    UNROLL for (int b = 0; b < partBytes<Codes4>; b += 64) V::prefetch(row.nextCodes + index * partBytes<Codes4> + b);
  }
  auto step = [&](auto number) __attribute__((always_inline)) {
    constexpr int s = decltype(number)::value;
    if (tail && s * vectorBytes >= bytes) return;
    I w = tail ? V::bytesTail(codes + s * vectorBytes, (int)smaller(bytes - s * vectorBytes, vectorBytes))
               : V::bytes(codes + s * vectorBytes);
    I low = V::low(w), high = V::high(w);
    UNROLL for (int c = 0; c < X; c++) {
      const Codes4::Part& part = x[c][index];
      acc.sum[0][c] = V::fma(sumsOf<false>(low, part.x[s][0], part.start[s][0]), V::template spread<s, 0>(factor[c]),
                             acc.sum[0][c]);
      acc.sum[1][c] = V::fma(sumsOf<false>(high, part.x[s][1], part.start[s][1]), V::template spread<s, 1>(factor[c]),
                             acc.sum[1][c]);
    }
  };
  step(Number<0>{});
  step(Number<1>{});
  step(Number<2>{});
  step(Number<3>{});
}

template <int X, bool ahead>
inline __attribute__((always_inline)) void chainRow(Chains<X>& acc, const QuantizedRow& row, const Codes4::Part* const* x,
                                                    int64_t bytes) {
  int64_t whole = bytes / partBytes<Codes4>;
  for (int64_t i = 0; i < whole; i++) chainPart<X, false, ahead>(acc, row, x, i, partBytes<Codes4>);
  if (int64_t left = bytes - whole * partBytes<Codes4>) chainPart<X, true, ahead>(acc, row, x, whole, left);
}

inline float rowScale(Codes8, const uint8_t* scales) { return *(const float*)scales; }
inline float rowScale(Codes4, const uint8_t*) { return 1.0f; }

/** out[c] = the weight row times x[c], for X rows of x. */
template <int X, bool ahead, class Q>
inline __attribute__((always_inline)) void quantizedDots(float* out, const QuantizedRow& row, const uint8_t* const* prepared,
                                                         int64_t bytes) {
  const typename Q::Part* x[X];
  Chains<X> acc;
  for (int c = 0; c < X; c++) x[c] = (const typename Q::Part*)prepared[c];
  UNROLL for (int c = 0; c < X; c++) acc.sum[0][c] = acc.sum[1][c] = V::zero();
  chainRow<X, ahead>(acc, row, x, bytes);
  float scale = rowScale(Q{}, row.scales);
  UNROLL for (int c = 0; c < X; c++) out[c] = V::sum(V::add(acc.sum[0][c], acc.sum[1][c])) * scale;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
