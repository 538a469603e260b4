/** Products of bfloat16 pairs in ordinary registers, for AMD's machines with AVX512_BF16. */
#include <immintrin.h>

#define DEJAVU_ISA avx512bf16
#include "../kernels/gemm-pack.h"

namespace dejavu::DEJAVU_ISA {
namespace {

struct Unit {
  template <int L, int R>
  void multiply(float* sums, const uint16_t* left, const uint16_t* right, int64_t steps, bool fresh, const Ahead& ahead) {
    for (int64_t s = 0; s < steps; s++) ahead.fetch(s);
    for (int l = 0; l < L; l++)
      for (int row = 0; row < 16; row += rowsAtOnce)
        rows<R>(sums + l * 512 + row * 16, left + l * tileWords + row * lineWords, right, steps, fresh);
  }

 private:
  static constexpr int rowsAtOnce = 8;

  /** A function of its own: constants of the loops around it would take registers, and chains would wait on the stack. */
  template <int R>
  static __attribute__((noinline)) void rows(float* sums, const uint16_t* left, const uint16_t* right, int64_t steps, bool fresh) {
    __m512 acc[rowsAtOnce * R];
    UNROLL for (int i = 0; i < rowsAtOnce; i++)
      UNROLL for (int r = 0; r < R; r++)
        acc[i * R + r] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * 256 + i * 16);
    for (int64_t s = 0; s < steps; s++, left += stepWords, right += stepWords)
      for (int pair = 0; pair < 16; pair++) {
        __m512bh b[R];
        UNROLL for (int r = 0; r < R; r++) b[r] = (__m512bh)_mm512_load_si512(right + r * tileWords + pair * lineWords);
        UNROLL for (int i = 0; i < rowsAtOnce; i++) {
          int32_t two;
          __builtin_memcpy(&two, left + i * lineWords + pair * 2, sizeof two);
          __m512bh a = (__m512bh)_mm512_set1_epi32(two);
          UNROLL for (int r = 0; r < R; r++) acc[i * R + r] = _mm512_dpbf16_ps(acc[i * R + r], a, b[r]);
        }
      }
    UNROLL for (int i = 0; i < rowsAtOnce; i++)
      UNROLL for (int r = 0; r < R; r++) _mm512_store_ps(sums + r * 256 + i * 16, acc[i * R + r]);
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/gemm.h"

namespace dejavu {
const Gemm avx512bf16Gemm = DEJAVU_ISA::makeGemm(false);
}
