/** Rows of weights as bfloat16, 64 columns at a time. Layouts: src/tensor/quantized.ts. Needs AVX-512 BW and BF16. */
#pragma once
#include <immintrin.h>

#include "gemm-job.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#define UNROLL _Pragma("GCC unroll 32")

struct Int8 {};
struct Int4 {};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }

/** Two times 32 bfloat16 numbers. */
struct Group {
  __m512i half[2];
};

inline __m512i roundPair(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
inline __mmask32 firstWords(int64_t n) { return n >= 32 ? ~0u : n <= 0 ? 0u : (1u << n) - 1; }

/** `group(row, column)`: columns from a multiple of 64 on. What lies beyond the last is zero, or not to be used. */
template <class T>
struct BrainRows;

template <>
struct BrainRows<Brain> {
  static constexpr bool scaledRows = false;
  const uint16_t* bits;
  int64_t columns;

  explicit BrainRows(const GemmJob& job) : bits((const uint16_t*)job.weight.data), columns(job.weightColumns) {}

  Group group(int64_t row, int64_t column) const {
    const uint16_t* from = bits + row * columns + column;
    int64_t left = columns - column;
    if (left >= groupColumns) return {{_mm512_loadu_si512(from), _mm512_loadu_si512(from + 32)}};
    return {{_mm512_maskz_loadu_epi16(firstWords(left), from),
             left > 32 ? _mm512_maskz_loadu_epi16(firstWords(left - 32), from + 32) : _mm512_setzero_si512()}};
  }
  const char* address(int64_t row, int64_t column) const { return (const char*)(bits + row * columns + column); }
  static constexpr int64_t groupBytes = 128;
};

/** Codes are exact in bfloat16; the scale of the row is for the float32 side. */
template <>
struct BrainRows<Int8> {
  static constexpr bool scaledRows = true;
  const int8_t* codes;
  const float* scales;  // [weight rows]
  int64_t stride;

  explicit BrainRows(const GemmJob& job)
      : codes((const int8_t*)job.weight.data), scales((const float*)job.weight.scales), stride(job.weight.stride) {}

  Group group(int64_t row, int64_t column) const {
    const int8_t* from = codes + row * stride + column;
    return {{widen(from), widen(from + 32)}};
  }
  static __m512i widen(const int8_t* from) {
    __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from)));
    __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)(from + 16))));
    return roundPair(low, high);
  }
  const char* address(int64_t row, int64_t column) const { return (const char*)(codes + row * stride + column); }
  static constexpr int64_t groupBytes = 64;
};

/** Sixteen codes times the two scales of a group are two tables of bfloat16, in which codes are looked up. */
template <>
struct BrainRows<Int4> {
  static constexpr bool scaledRows = false;
  const uint8_t* codes;
  const uint8_t* scales;  // [weight rows, groups] pairs of float16
  int64_t groups;

  explicit BrainRows(const GemmJob& job)
      : codes(job.weight.data), scales(job.weight.scales), groups(quotient(job.weightColumns, groupColumns)) {}

  Group group(int64_t row, int64_t column) const {
    int64_t at = row * groups + column / groupColumns;
    uint32_t pair;
    __builtin_memcpy(&pair, scales + at * 4, sizeof pair);
    __m128 scale = _mm_cvtph_ps(_mm_cvtsi32_si128((int)pair));
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512i table = roundPair(_mm512_mul_ps(values, _mm512_broadcastss_ps(scale)),
                              _mm512_mul_ps(values, _mm512_broadcastss_ps(_mm_movehdup_ps(scale))));
    __m512i packed = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)(codes + at * 32)));
    __m512i low = _mm512_and_si512(packed, _mm512_set1_epi16(15));
    __m512i high = _mm512_or_si512(_mm512_srli_epi16(packed, 4), _mm512_set1_epi16(16));
    return {{_mm512_permutexvar_epi16(low, table), _mm512_permutexvar_epi16(high, table)}};
  }
  const char* address(int64_t row, int64_t column) const {
    return (const char*)(codes + (row * groups + column / groupColumns) * 32);
  }
  static constexpr int64_t groupBytes = 32;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
