/**
 * Products with quantized weights: x is rounded to signed bytes, with a scale for every block of columns, and the products of
 * codes are summed as integers. A block is what meets one 32-bit lane of the lines of a part (src/tensor/quantized.ts): a part's
 * sums stay integers to the end, and are scaled once, all blocks side by side.
 */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

constexpr int vectorBytes = 4 * lanes;
/** Whether one instruction multiplies and adds four bytes: it takes weights as unsigned, so they are moved up. */
constexpr bool multipliesBytes = V::offset != 0;

/** The weights' tags: columns of a line of 64 bytes, and what their codes are moved up by when they are multiplied. */
struct Codes8 {
  static constexpr int64_t lineColumns = groupColumns;
  static constexpr int offset = V::offset;
};
struct Codes4 {
  static constexpr int64_t lineColumns = lineColumns4;
  static constexpr int offset = 8;
};
constexpr int lineBytes = 64;
/** Vectors of a line, whose lanes are blocks of their own. */
constexpr int lineVectors = lineBytes / vectorBytes;
template <class Q>
constexpr int64_t partBytes = partColumns / Q::lineColumns * lineBytes;

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
inline int32_t rounded(float v) { return (int32_t)(bitsOf(v + roundShift) - bitsOf(roundShift)); }

/** The scale of values of which the largest, given by its bits, becomes `most`: NaN if not finite. `inverse` may be zero. */
inline float scaleOf(uint32_t bits, float most, float& inverse) {
  inverse = most / withBits(bits);
  if (bits >= infinityBits) inverse = 0;
  if (bits >= infinityBits) return __builtin_nanf("");
  if (bits == 0 || bitsOf(inverse) >= infinityBits) inverse = 0;
  return inverse == 0 ? 0 : withBits(bits) / most;
}

inline float scaleOf(const float* x, int64_t n, float most, float& inverse) { return scaleOf(largestBits(x, n), most, inverse); }

/** What the blocks of a part have, for each of the columns that repeat in its lines. */
template <class Out, class Value>
inline void spreadBlocks(Out* out, const Value* blocks) {
  for (int64_t i = 0; i < groupColumns; i++) out[i] = (Out)blocks[i / runColumns];
}

/** Rounds a part of x, of which `columns` are there, to codes -127 … 127. Whatever is not finite makes a scale NaN. */
inline void preparePart(PreparedPart& part, const float* x, int64_t columns, int offset) {
  float padded[partColumns];
  if (columns < partColumns) {
    for (int64_t i = 0; i < partColumns; i++) padded[i] = i < columns ? x[i] : 0;
    x = padded;
  }
  uint32_t most[groupColumns] = {};
  float inverseOf[partBlocks], inverse[groupColumns];
  int32_t sum[groupColumns] = {};
  for (int64_t c = 0; c < partColumns; c += groupColumns)
    for (int64_t i = 0; i < groupColumns; i++) {
      uint32_t bits = bitsOf(x[c + i]) & 0x7fffffffu;
      most[i] = bits > most[i] ? bits : most[i];
    }
  for (int64_t b = 0; b < partBlocks; b++) {
    const uint32_t* of = most + b * runColumns;
    uint32_t left = of[0] > of[1] ? of[0] : of[1], right = of[2] > of[3] ? of[2] : of[3];
    part.scale[b] = scaleOf(left > right ? left : right, 127, inverseOf[b]);
  }
  spreadBlocks(inverse, inverseOf);
  for (int64_t c = 0; c < partColumns; c += groupColumns)
    for (int64_t i = 0; i < groupColumns; i++) {
      int32_t code = rounded(x[c + i] * inverse[i]);
      part.x[c + i] = (int8_t)code;
      sum[i] += code;
    }
  for (int64_t b = 0; b < partBlocks; b++) {
    const int32_t* of = sum + b * runColumns;
    part.start[b] = -offset * (of[0] + of[1] + of[2] + of[3]);
  }
}

template <class Q>
inline void prepareRow(PreparedPart* parts, const float* x, int64_t k) {
  for (int64_t c = 0; c < k; c += partColumns) preparePart(*parts++, x + c, smaller(partColumns, k - c), Q::offset);
}

template <class Q>
void prepare(const void* data, int64_t row, float*) {
  const PrepareJob& job = *(const PrepareJob*)data;
  prepareRow<Q>((PreparedPart*)(job.out + row * job.stride), job.x + row * job.k, job.k);
}

struct QuantizedRow {
  const uint8_t* codes;
  const uint8_t* scales;
};

/** What the sums of W rows of weights and X of x are, of vector v of a part's lines: integers. */
template <int W, int X, class Fetch>
inline __attribute__((always_inline)) void sumLines(I (&sum)[W * X], Codes8, const QuantizedRow* rows, const PreparedPart* const* x,
                                                    int64_t part, int v, int64_t lines, Fetch& fetch) {
  int64_t at = part * partBytes<Codes8>;
  UNROLL for (int c = 0; c < X; c++)
    UNROLL for (int r = 0; r < W; r++) sum[c * W + r] = Codes8::offset ? V::bytes(x[c][part].start + v * lanes) : V::none();
  for (int64_t u = 0; u < lines; u++) {
    if (v == 0) UNROLL for (int r = 0; r < W; r++) fetch.line(r, at + u * lineBytes);
    UNROLL for (int r = 0; r < W; r++) {
      I w = V::bytes(rows[r].codes + at + u * lineBytes + v * vectorBytes);
      UNROLL for (int c = 0; c < X; c++) {
        const int8_t* from = x[c][part].x + u * lineBytes + v * vectorBytes;
        sum[c * W + r] = V::dotSigned(sum[c * W + r], w, V::bytes(from));
      }
    }
  }
}

template <int W, int X, class Fetch>
inline __attribute__((always_inline)) void sumLines(I (&sum)[W * X], Codes4, const QuantizedRow* rows, const PreparedPart* const* x,
                                                    int64_t part, int v, int64_t lines, Fetch& fetch) {
  int64_t at = part * partBytes<Codes4>;
  UNROLL for (int i = 0; i < W * X; i++) sum[i] = V::none();
  for (int64_t u = 0; u < lines; u++) {
    if (v == 0) UNROLL for (int r = 0; r < W; r++) fetch.line(r, at + u * lineBytes);
    UNROLL for (int r = 0; r < W; r++) {
      I w = V::bytes(rows[r].codes + at + u * lineBytes + v * vectorBytes), low = V::low(w), high = V::high(w);
      UNROLL for (int c = 0; c < X; c++) {
        const int8_t* from = x[c][part].x + u * lineColumns4 + v * vectorBytes;
        sum[c * W + r] = V::dotFew(sum[c * W + r], low, V::bytes(from));
        sum[c * W + r] = V::dotFew(sum[c * W + r], high, V::bytes(from + groupColumns));
      }
    }
  }
  UNROLL for (int c = 0; c < X; c++)
    UNROLL for (int r = 0; r < W; r++)
      sum[c * W + r] = V::sumOfFew(V::bytes(x[c][part].start + v * lanes), sum[c * W + r]);
}

/** The scales of the blocks of vector v of a part's lines; those of int8, one for the whole row, come at the end. */
inline F timesScales(Codes8, const QuantizedRow&, int64_t, int, F scaleOfX) { return scaleOfX; }
inline F timesScales(Codes4, const QuantizedRow& row, int64_t part, int v, F scaleOfX) {
  return V::mul(V::load((const Half*)row.scales + part * partBlocks + v * lanes), scaleOfX);
}

/** acc[c * W + r] += the part of weight row r times x[c], of which so many lines are there. */
template <int W, int X, class Q, class Fetch>
inline __attribute__((always_inline)) void chainPart(F (&acc)[W * X], const QuantizedRow* rows, const PreparedPart* const* x,
                                                     int64_t part, int64_t lines, Fetch& fetch) {
  UNROLL for (int v = 0; v < lineVectors; v++) {
    I sum[W * X];
    sumLines<W, X>(sum, Q{}, rows, x, part, v, lines, fetch);
    UNROLL for (int c = 0; c < X; c++) {
      F scale = V::load(x[c][part].scale + v * lanes);
      UNROLL for (int r = 0; r < W; r++) {
        F& chain = acc[c * W + r];
        chain = V::fma(V::floats(sum[c * W + r]), timesScales(Q{}, rows[r], part, v, scale), chain);
      }
    }
  }
}

/** Bytes of scales for a part. */
constexpr int64_t scaleBytes(Codes8) { return 0; }
constexpr int64_t scaleBytes(Codes4) { return partBlocks * (int64_t)sizeof(Half); }
inline float rowScale(Codes8, const uint8_t* scales) { return *(const float*)scales; }
inline float rowScale(Codes4, const uint8_t*) { return 1.0f; }

/** out[c * W + r] = weight row r, of so many bytes, times x[c]. */
template <int W, int X, class Q, class Fetch>
inline __attribute__((always_inline)) void quantizedDots(float* out, const QuantizedRow* rows, const PreparedPart* const* x,
                                                         int64_t bytes, Fetch& fetch) {
  constexpr int64_t lines = partBytes<Q> / lineBytes;
  F acc[W * X];
  UNROLL for (int i = 0; i < W * X; i++) acc[i] = V::zero();
  int64_t whole = bytes / partBytes<Q>, left = bytes % partBytes<Q>;
  for (int64_t part = 0; part < whole; part++) {
    if (part == 0 || (scaleBytes(Q{}) && part * scaleBytes(Q{}) % 64 == 0))
      UNROLL for (int r = 0; r < W; r++) fetch.scale(r, part * scaleBytes(Q{}));
    chainPart<W, X, Q>(acc, rows, x, part, lines, fetch);
  }
  if (left > 0) chainPart<W, X, Q>(acc, rows, x, whole, left / lineBytes, fetch);
  sums(acc, out);
  UNROLL for (int i = 0; i < W * X; i++) out[i] *= rowScale(Q{}, rows[i % W].scales);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
