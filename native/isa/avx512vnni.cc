/** AVX-512 with dot products of bytes (VNNI) and of bfloat16 (BF16). */
#include <immintrin.h>

#include <cstdint>

#define DEJAVU_ISA avx512vnni
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#include "vector16.h"

/** -8 … 7 as bfloat16, twice: the look-up takes five bits of an index. */
alignas(64) const uint16_t codeValues[32] = {
    0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
    0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0,
};

struct V : Vector16 {
  /** What `dotSigned` adds to the weights' codes, times x: `prepare` takes it off beforehand. */
  static constexpr int offset = 128;

  /** start + the products of four codes each; w, which the instruction takes as unsigned, is moved up by 128. */
  static I dotSigned(I start, I w, I x) { return dot(start, _mm512_xor_si512(w, splat(-128)), x); }
  static I dot(I start, I w, I x) { return _mm512_dpbusd_epi32(start, w, x); }

  // Pairs of int4 rows: neighbouring words of a vector belong to the first and the second row.

  static constexpr bool pairs = true;
  /** The factors of 16 blocks as bfloat16: the first row's in the lower half. */
  static I joinFactors(F a, F b) { return (I)_mm512_cvtne2ps_pbh(b, a); }
  /** The factors of both rows, for the blocks that `spread` would choose. */
  template <int step, int which>
  static I spreadPair(I factors) {
    constexpr int a = (4 * step + which) * 0x10001 + 0x100000, b = a + 0x20002;
    return _mm512_permutexvar_epi16(_mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b), factors);
  }
  /** 64 bytes of codes of two rows, as bfloat16 pairs: of each half of the words even and odd low, even and odd high. */
  static void decodePair(I a, I b, I* out) {
    const __m512i table = _mm512_loadu_si512(codeValues);
    I words[2] = {_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)};
    for (int h = 0; h < 2; h++) {
      out[4 * h] = _mm512_permutexvar_epi16(words[h], table);
      out[4 * h + 1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words[h], 8), table);
      out[4 * h + 2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words[h], 4), table);
      out[4 * h + 3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(words[h], 12), table);
    }
  }
  static F fmaPair(I codes, I factors, F sum) { return _mm512_dpbf16_ps(sum, (__m512bh)codes, (__m512bh)factors); }
  /** Sums of 128 columns, from the order of `decodePair` into that of the columns. */
  static void orderPairs(const float* sums, float* out) {
    for (int v = 0; v < 4; v++) {
      F even = load(sums + 32 * v), odd = load(sums + 32 * v + 16);
      float* to = out + v / 2 * 8 + v % 2 * 32;
      F first = _mm512_unpacklo_ps(even, odd), second = _mm512_unpackhi_ps(even, odd);
      put<0>(to, first, second);
      put<1>(to + 16, first, second);
      put<2>(to + 64, first, second);
      put<3>(to + 80, first, second);
    }
  }

 private:
  template <int quarter>
  static void put(float* to, F first, F second) {
    _mm_storeu_ps(to, _mm512_extractf32x4_ps(first, quarter));
    _mm_storeu_ps(to + 4, _mm512_extractf32x4_ps(second, quarter));
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
const Table avx512vnniTable = DEJAVU_ISA::makeTable("avx512vnni");
}
