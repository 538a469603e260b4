/** AVX-512 (F, BW, VL, DQ) with FMA and F16C: 16 lanes, 32 registers. */
#include <immintrin.h>

#include <cstdint>

#define DEJAVU_ISA avx512
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#include "vector16.h"

struct V : Vector16 {
  static constexpr bool quads = false;
  /** What `dotSigned` adds to the weights' codes, times x: `prepare` takes it off beforehand. */
  static constexpr int offset = 0;

  /** start + the products of four signed codes each. */
  static I dotSigned(I start, I w, I x) {
    I signedX = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), none(), x);
    return dot(start, _mm512_abs_epi8(w), signedX);
  }
  /** The same for codes 0 … 127 of w; pairs of products fit in 16 bits as long as x is not -128. */
  static I dot(I start, I w, I x) {
    return _mm512_add_epi32(start, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)));
  }
  /** Of up to eight vectors of codes 0 … 15, whose sums of pairs fit in 16 bits; `sumOfFew` makes them sums of four. */
  static I dotFew(I sum, I w, I x) { return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x)); }
  static I sumOfFew(I start, I sum) { return _mm512_add_epi32(start, _mm512_madd_epi16(sum, _mm512_set1_epi16(1))); }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
const Table avx512Table = DEJAVU_ISA::makeTable("avx512");
}
