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

/** Codes are looked up among sixteen numbers, and four columns share a scale. */
template <>
struct BrainRows<Int4> {
  static constexpr bool scaledRows = false;
  const uint8_t* codes;
  const uint8_t* scales;
  int64_t stride, scaleStride;

  explicit BrainRows(const GemmJob& job)
      : codes(job.weight.data), scales(job.weight.scales), stride(job.weight.stride), scaleStride(job.weight.scaleStride) {}

  Group group(int64_t row, int64_t column) const {
    const __m256i* half = (const __m256i*)(scales + row * scaleStride + column / partColumns * partBlocks * 2);
    __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(half));
    const uint8_t* line = codes + row * stride + column / lineColumns4 * 64;
    int shift = column % lineColumns4 < groupColumns ? 0 : 4;
    __m512 part[4];
    UNROLL for (int q = 0; q < 4; q++) {
      const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
      const __m512i fourTimes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
      __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(line + 16 * q)));
      __m512 value = _mm512_permutexvar_ps(_mm512_srli_epi32(code, (unsigned)shift), values);
      part[q] = _mm512_mul_ps(value, _mm512_permutexvar_ps(_mm512_add_epi32(fourTimes, _mm512_set1_epi32(4 * q)), scale));
    }
    return {{roundPair(part[0], part[1]), roundPair(part[2], part[3])}};
  }
  const char* address(int64_t row, int64_t column) const { return (const char*)(codes + row * stride + column / lineColumns4 * 64); }
  static constexpr int64_t groupBytes = 32;
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
