/** convert, and rows of quantized tables: everything goes through a row, or a group, of float32. */
#pragma once
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline float widenHalf(const uint8_t* p) { return V::sum(V::loadTail((const Half*)p, 1)); }

/** The scales of a part of int4, each for the four columns of every line's halves that it stands for. */
inline void widenScales(float* out, const uint8_t* scales, int64_t part) {
  float scale[partBlocks];
  for (int64_t b = 0; b < partBlocks; b += lanes) V::store(scale + b, V::load((const Half*)scales + part * partBlocks + b));
  spreadBlocks(out, scale);
}

/** The values of one line of a quantized row. */
inline void widenLine(Codes8, float* out, const uint8_t* codes, const uint8_t* scales, int64_t line) {
  F scale = V::broadcast(*(const float*)scales);
  for (int64_t i = 0; i < groupColumns; i += lanes)
    V::store(out + i, V::mul(V::load((const int8_t*)codes + line * lineBytes + i), scale));
}
inline void widenLine(Codes4, float* out, const uint8_t* codes, const uint8_t* scales, int64_t line) {
  float scale[groupColumns];
  widenScales(scale, scales, line * lineColumns4 / partColumns);
  for (int64_t i = 0; i < groupColumns; i += lanes) {
    F low, high;
    V::nibbles(codes + line * lineBytes + i, low, high);
    V::store(out + i, V::mul(low, V::load(scale + i)));
    V::store(out + groupColumns + i, V::mul(high, V::load(scale + i)));
  }
}

/** Calls `each(values, column, count)` for the lines of a row. */
template <class Q, class Each>
inline void overLines(const Weights& from, int64_t row, int64_t columns, Each each) {
  for (int64_t c = 0; c < columns; c += Q::lineColumns) {
    float values[Q::lineColumns];
    widenLine(Q{}, values, rowOf<uint8_t>(from, row), from.scales + row * from.scaleStride, c / Q::lineColumns);
    each(values, c, smaller(Q::lineColumns, columns - c));
  }
}

template <class Q>
void embeddingRowQuantized(const RowsJob& job, int64_t row) {
  float* out = job.out + row * job.columns;
  overLines<Q>(job.table, job.ids[row], job.columns, [&](const float* values, int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[at + i] = values[i];
  });
}

template <class Q>
void addRowQuantized(const RowsJob& job, int64_t row) {
  float* out = job.out + row * job.columns;
  overLines<Q>(job.table, job.ids[row] + job.k, job.columns, [&](const float* values, int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[at + i] += values[i];
  });
}

template <class T>
inline void widenElements(float* out, const T* from, int64_t columns) {
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) V::store(out + c, V::load(from + c));
  if (int n = (int)(columns - c)) V::storeTail(out + c, V::loadTail(from + c, n), n);
}

template <class Q>
inline void widenQuantized(float* out, const Weights& from, int64_t row, int64_t columns) {
  overLines<Q>(from, row, columns, [&](const float* values, int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[at + i] = values[i];
  });
}

/**
 * Bits of float16 for those of float32, one or a vector of them: to nearest even, as numberToF16 in src/tensor/dtype.ts.
 * `shifted`: the bits of the magnitude + 0.5, for it is that addition that rounds to units of 2^-24.
 */
template <class Bits>
inline Bits halfBits(Bits bits, Bits shifted) {
  Bits magnitude = bits & 0x7fffffffu;
  Bits usual = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  Bits half = magnitude < 0x38800000u ? shifted - 0x3f000000u : usual;
  half = magnitude >= 0x477ff000u ? half - half + 0x7c00u : half;  // rounds past 65504
  half = magnitude > infinityBits ? half - half + 0x7e00u : half;
  return (bits >> 16 & 0x8000u) | half;
}
inline uint16_t narrowToHalf(float v) {
  return (uint16_t)halfBits(bitsOf(v), bitsOf(withBits(bitsOf(v) & 0x7fffffffu) + 0.5f));
}
typedef uint32_t BitsOfLanes __attribute__((vector_size(lanes * sizeof(float))));
typedef uint16_t HalvesOfLanes __attribute__((vector_size(lanes * sizeof(uint16_t))));

inline void narrowElements(Half* out, const float* from, int64_t columns) {
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    BitsOfLanes bits = (BitsOfLanes)V::load(from + c);
    F shifted = V::add((F)(bits & 0x7fffffffu), V::broadcast(0.5f));
    HalvesOfLanes halves = __builtin_convertvector(halfBits(bits, (BitsOfLanes)shifted), HalvesOfLanes);
    __builtin_memcpy(out + c, &halves, sizeof halves);
  }
  for (; c < columns; c++) out[c].bits = narrowToHalf(from[c]);
}
inline uint16_t narrowToBrain(float v) {
  uint32_t bits = bitsOf(v);
  uint32_t quiet = bits >> 16 | 0x40u, rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > infinityBits ? quiet : rounded);
}

/** An integer from low to high, the nearest to v; any of them for NaN. */
inline int32_t nearest(float v, float low, float high) {
  v = v > low ? v : low;
  v = v < high ? v : high;
  return rounded(v);
}

/** `x` is padded with zeros to whole lines. */
inline void narrowTo8(uint8_t* codes, float* scale, const float* x, int64_t columns) {
  columns = (columns + groupColumns - 1) / groupColumns * groupColumns;
  float most = withBits(largestBits(x, columns)), inverse = 127.0f / most;
  bool none = !(most > 0) || bitsOf(inverse) >= infinityBits;
  *scale = none ? 0 : most / 127.0f;
  if (none) inverse = 0;
  for (int64_t i = 0; i < columns; i++) codes[i] = (uint8_t)nearest(x[i] * inverse, -127, 127);
}
/** The divisors of the largest value that are tried for a scale: `int4Divisors` of src/tensor/quantized.ts. */
constexpr int tries = 8;
constexpr float divisors[tries] = {-8, -7.5f, -7, -8.5f, -9, 8, 7.5f, 7};

/** The scale of least squared error for a block of int4, the first of equals. The tries stand side by side in vectors. */
inline Half scaleOf(const float* x) {
  uint32_t most = largestBits(x, blockColumns);
  int64_t at = 0;
  while ((bitsOf(x[at]) & 0x7fffffffu) != most) at++;
  Half halves[tries];
  float scale[tries], error[tries] = {};
  for (int t = 0; t < tries; t++) {
    halves[t].bits = narrowToHalf(x[at] / divisors[t]);
    if (halves[t].bits == 0x8000u) halves[t].bits = 0;
    scale[t] = widenHalf((const uint8_t*)(halves + t));
  }
  for (int64_t i = 0; i < blockColumns; i++)
    for (int t = 0; t < tries; t++) {
      float code = scale[t] == 0 ? 0.0f : (float)nearest(x[i] / scale[t], -8, 7);
      float difference = x[i] - code * scale[t];
      error[t] += difference * difference;
    }
  int best = 0;
  for (int t = 1; t < tries; t++)
    if (error[t] < error[best]) best = t;
  return halves[best];
}

/** `x` is padded with zeros to whole parts. */
inline void narrowTo4(uint8_t* codes, Half* scales, const float* x, int64_t columns) {
  for (int64_t c = 0; c < columns; c += partColumns, scales += partBlocks) {
    uint8_t code[partColumns];
    for (int64_t b = 0; b < partBlocks; b++) {
      float from[blockColumns];
      auto columnOf = [&](int64_t i) { return i / runColumns * groupColumns + b * runColumns + i % runColumns; };
      for (int64_t i = 0; i < blockColumns; i++) from[i] = x[c + columnOf(i)];
      scales[b] = scaleOf(from);
      float divisor = widenHalf((const uint8_t*)(scales + b));
      for (int64_t i = 0; i < blockColumns; i++)
        code[columnOf(i)] = (uint8_t)(divisor == 0 ? 8 : nearest(from[i] / divisor, -8, 7) + 8);
    }
    for (int64_t at = 0; at < smaller(partColumns, columns - c); at += lineColumns4, codes += lineBytes)
      for (int64_t i = 0; i < lineBytes; i++) codes[i] = (uint8_t)(code[at + i] | code[at + groupColumns + i] << 4);
  }
}

/** Rows from any type to any other. */
void convert(const void* data, int64_t chunk, float* scratch) {
  const ConvertJob& job = *(const ConvertJob*)data;
  int64_t columns = job.columns, padded = (columns + partColumns - 1) / partColumns * partColumns;
  int64_t last = smaller((chunk + 1) * job.chunkRows, job.rows);
  for (int64_t c = columns; c < padded; c++) scratch[c] = 0;
  for (int64_t row = chunk * job.chunkRows; row < last; row++) {
    switch (job.from) {
      case WeightType::f32: widenElements(scratch, rowOf<float>(job.x, row), columns); break;
      case WeightType::f16: widenElements(scratch, rowOf<Half>(job.x, row), columns); break;
      case WeightType::bf16: widenElements(scratch, rowOf<Brain>(job.x, row), columns); break;
      case WeightType::int8: widenQuantized<Codes8>(scratch, job.x, row, columns); break;
      case WeightType::int4: widenQuantized<Codes4>(scratch, job.x, row, columns); break;
    }
    uint8_t* out = (uint8_t*)rowOf<uint8_t>(job.out, row);
    uint8_t* scales = (uint8_t*)job.out.scales + row * job.out.scaleStride;
    switch (job.to) {
      case WeightType::f32: widenElements((float*)out, scratch, columns); break;
      case WeightType::f16: narrowElements((Half*)out, scratch, columns); break;
      case WeightType::bf16: for (int64_t c = 0; c < columns; c++) ((Brain*)out)[c].bits = narrowToBrain(scratch[c]); break;
      case WeightType::int8: narrowTo8(out, (float*)scales, scratch, columns); break;
      case WeightType::int4: narrowTo4(out, (Half*)scales, scratch, columns); break;
    }
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
