/** AVX2 with FMA and F16C: 8 lanes, 16 registers. */
#include <immintrin.h>

#include <cstdint>

#define DEJAVU_ISA avx2
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Loading 8 words from 8 - n on gives a mask of the first n lanes. */
alignas(64) const int32_t lanesOn[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct V {
  using F = __m256;
  static constexpr int lanes = 8;
  static constexpr int wide = 4;   // weight rows of a tile for one x row
  static constexpr int tileX = 2;  // x rows of a tile of 4 weight rows

  static F zero() { return _mm256_setzero_ps(); }
  static F broadcast(float v) { return _mm256_set1_ps(v); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
  static F load(const Brain* p) { return widen(_mm_loadu_si128((const __m128i*)p)); }
  static F loadTail(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
  static F loadTail(const Half* p, int n) { return _mm256_cvtph_ps(tail16(p, n)); }
  static F loadTail(const Brain* p, int n) { return widen(tail16(p, n)); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void storeTail(float* p, F v, int n) { _mm256_maskstore_ps(p, first(n), v); }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  /** b where either is NaN. */
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }

  /** Tree: halves, pairs two apart, the last pair. `sum4` gives the same bits for four vectors at once. */
  static float sum(F v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static void sum4(const F* v, float* out) {
    F s01 = add(_mm256_permute2f128_ps(v[0], v[1], 0x20), _mm256_permute2f128_ps(v[0], v[1], 0x31));
    F s23 = add(_mm256_permute2f128_ps(v[2], v[3], 0x20), _mm256_permute2f128_ps(v[2], v[3], 0x31));
    F d = add(_mm256_shuffle_ps(s01, s23, 0x44), _mm256_shuffle_ps(s01, s23, 0xee));
    d = add(d, _mm256_permute_ps(d, 0xb1));  // lanes 0, 2, 4, 6: the sums of v[0], v[2], v[1], v[3]
    __m128 t = _mm_shuffle_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1), 0x88);
    _mm_storeu_ps(out, _mm_permute_ps(t, 0xd8));
  }

  /** 2^n for the integer n in the low bits of `n + 1.5 * 2^23`. */
  static F pow2(F shifted) {
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(127 << 23)));
  }

  static uint32_t greater(F a, F b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
  static uint32_t equal(F a, F b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
  static uint32_t atLeast(F a, F b) { return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
  /** Appends base + i for every set bit i; `out` has room for that many and no more. */
  static int append(int32_t* out, int32_t base, uint32_t bits) {
    int count = 0;
    for (; bits; bits &= bits - 1) out[count++] = base + __builtin_ctz(bits);
    return count;
  }
  __attribute__((always_inline)) static void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

  // Codes of quantized weights: 32 bytes, of which four neighbours share each 32-bit lane.

  using I = __m256i;
  static constexpr int offset = 0;
  static I bytes(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
  static void store(int32_t* p, I v) { _mm256_storeu_si256((__m256i*)p, v); }
  static I splat(int8_t v) { return _mm256_set1_epi8(v); }
  static I none() { return _mm256_setzero_si256(); }
  static I low(I v) { return _mm256_and_si256(v, splat(15)); }
  static I high(I v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), splat(15)); }
  static F floats(I v) { return _mm256_cvtepi32_ps(v); }
  static I dotSigned(I start, I w, I x) { return dot(start, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w)); }
  /** Codes 0 … 127 of w: pairs of products fit in 16 bits as long as x is not -128. */
  static I dot(I start, I w, I x) {
    return _mm256_add_epi32(start, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
  }
  /** Of up to eight vectors of codes 0 … 15, whose sums of pairs fit in 16 bits; `sumOfFew` makes them sums of four. */
  static I dotFew(I sum, I w, I x) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x)); }
  static I sumOfFew(I start, I sum) { return _mm256_add_epi32(start, _mm256_madd_epi16(sum, _mm256_set1_epi16(1))); }
  static constexpr int wideCodes = 1;

  // Int4 rows in fours and eights: two rows share each 16-bit lane.

  static constexpr bool quads = true;
  /**
   * For the lower and the upper half of each 128 bits of bytes: factors of W rows, two bytes for each pair of them, what sums
   * start from, and the scale, in the lanes of the columns that they are for.
   */
  template <int W>
  struct Factors {
    alignas(32) int32_t pairs[W / 2][2][8];
    alignas(32) int32_t start[2][8];
    alignas(32) float scale[2][8];
  };
  /** Of factors for 8 blocks. The scale is NaN where a factor is not finite. */
  template <int W>
  static inline __attribute__((always_inline)) Factors<W> roundTogether(const F* factor) {
    const I magnitude = _mm256_set1_epi32(0x7fffffff), byte = _mm256_set1_epi32(255);
    I most = none();
    for (int r = 0; r < W; r++) most = _mm256_max_epu32(most, _mm256_and_si256((I)factor[r], magnitude));
    // Where the inverse would be infinite, what is lost is nothing beside any number of use.
    I some = _mm256_cmpgt_epi32(most, _mm256_set1_epi32(0x03000000));
    I infinite = _mm256_cmpgt_epi32(most, _mm256_set1_epi32(0x7f7fffff));
    I finite = _mm256_andnot_si256(infinite, some);
    F inverse = _mm256_and_ps((F)finite, _mm256_div_ps(broadcast(127), (F)most));
    F scale = _mm256_and_ps((F)some, mul((F)most, broadcast(1.0f / 127)));
    Factors<W> result;
    store(result.scale[0], result.scale[1], _mm256_blendv_ps(scale, broadcast(__builtin_nanf("")), (F)infinite));
    I sum = none();
    for (int q = 0; q < W / 2; q++) {
      I a = _mm256_and_si256(finite, _mm256_cvtps_epi32(mul(factor[2 * q], inverse)));
      I b = _mm256_and_si256(finite, _mm256_cvtps_epi32(mul(factor[2 * q + 1], inverse)));
      sum = _mm256_add_epi32(sum, _mm256_add_epi32(a, b));
      I pair = twice(_mm256_or_si256(_mm256_and_si256(a, byte), _mm256_slli_epi32(_mm256_and_si256(b, byte), 8)));
      store((float*)result.pairs[q][0], (float*)result.pairs[q][1], (F)pair);
    }
    I start = twice(_mm256_sub_epi32(none(), _mm256_slli_epi32(sum, 3)));
    store((float*)result.start[0], (float*)result.start[1], (F)start);
    return result;
  }
  /**
   * total += the factors times a vector of codes of each row, of which `codes(r)` gives row r. Sums fit in 16 bits: eight codes
   * of -8 … 7 times bytes. What goes beyond on the way wraps around and comes back.
   */
  template <int W, class Codes, class FetchLine>
  static inline __attribute__((always_inline)) void addTogether(float* total, const Factors<W>& factors, Codes codes,
                                                                FetchLine fetchLine) {
    for (int r = 0; r < W; r++) fetchLine(r);
    I sum[2][2];  // of the low and the high halves of the bytes
    for (int h = 0; h < 2; h++)
      for (int u = 0; u < 2; u++) sum[h][u] = bytes(factors.start[u]);
#pragma GCC unroll 4
    for (int q = 0; q < W / 2; q++) {
      I a = codes(2 * q), b = codes(2 * q + 1);
      I both[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
      for (int u = 0; u < 2; u++) {
        I factor = bytes(factors.pairs[q][u]);
        sum[0][u] = _mm256_add_epi16(sum[0][u], _mm256_maddubs_epi16(low(both[u]), factor));
        sum[1][u] = _mm256_add_epi16(sum[1][u], _mm256_maddubs_epi16(high(both[u]), factor));
      }
    }
    const I even = _mm256_set1_epi32(1), odd = _mm256_set1_epi32(1 << 16);
    for (int h = 0; h < 2; h++)
      for (int u = 0; u < 2; u++, total += 16) {
        F scale = load(factors.scale[u]);
        store(total, fma(floats(_mm256_madd_epi16(sum[h][u], even)), scale, load(total)));
        store(total + 8, fma(floats(_mm256_madd_epi16(sum[h][u], odd)), scale, load(total + 8)));
      }
  }
  /** Sums of a line, from the order in which `addTogether` leaves those of its vectors into that of the columns. */
  static void orderWoven(const float* sums, float* out) {
    for (int part = 0; part < 8; part++)  // vectors, low and high halves, lower and upper bytes of each 128 bits
      for (int odd = 0; odd < 2; odd++)
        for (int i = 0; i < 8; i++)
          out[part / 2 % 2 * 64 + part / 4 * 32 + i / 4 * 16 + part % 2 * 8 + i % 4 * 2 + odd] = sums[part * 16 + odd * 8 + i];
  }

  // Pairs of 16-bit numbers, for products of many rows.

  /** Whether they are faster than floats. */
  static constexpr bool fastPairs = true;

  /** sum + the products of two neighbours each; as one, for compilers put all products first and run out of registers. */
  static I addPairs(I sum, I a, I b) {
    I product;
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(a), "xm"(b));
    return sum;
  }
  static I splat32(int32_t v) { return _mm256_set1_epi32(v); }
  static I integers(F v) { return _mm256_cvtps_epi32(v); }
  static void storeShorts(int16_t* p, I v) { _mm256_storeu_si256((__m256i*)p, v); }
  /** Two vectors of floats, times a and b. */
  template <class T>
  static I shorts(const T* x, F a, F b) {
    return inOrder(_mm256_packs_epi32(integers(mul(load(x), a)), integers(mul(load(x + 8), b))));
  }
  static I shorts(const int8_t* codes) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)codes)); }
  /** Codes of 16 bytes minus 8, times 128, times what is given in 32768ths. */
  static void shortsOfCodes(const uint8_t* p, const int16_t* share, I& low, I& high) {
    I wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p)), eight = _mm256_set1_epi16(8 << 7);
    I a = _mm256_sub_epi16(_mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(15 << 7)), eight);
    I b = _mm256_sub_epi16(_mm256_slli_epi16(_mm256_srli_epi16(wide, 4), 7), eight);
    low = _mm256_mulhrs_epi16(a, bytes(share));
    high = _mm256_mulhrs_epi16(b, bytes(share));
  }
  /** Columns of two rows side by side, 16 of them. */
  static void weavePairs(const I* rows, int32_t* out) {
    I a = inOrder(rows[0]), b = inOrder(rows[1]);
    store(out, _mm256_unpacklo_epi16(a, b));
    store(out + 8, _mm256_unpackhi_epi16(a, b));
  }

  static F load(const int8_t* p) { return floats(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
  static F loadTail(const int8_t* p, int n) {
    alignas(8) int8_t padded[8] = {};
    for (int i = 0; i < n; i++) padded[i] = p[i];
    return load(padded);
  }
  static void nibbles(const uint8_t* p, F& low, F& high) {
    const __m256i eight = _mm256_set1_epi32(8), mask = _mm256_set1_epi32(15);
    __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
    low = floats(_mm256_sub_epi32(_mm256_and_si256(v, mask), eight));
    high = floats(_mm256_sub_epi32(_mm256_srli_epi32(v, 4), eight));
  }

 private:
  /** The second quarter of a vector and the third one change places. */
  static I inOrder(I v) { return _mm256_permute4x64_epi64(v, 0xd8); }
  /** Lanes 0 and 1 of each 128 bits twice, and lanes 2 and 3. */
  static void store(float* lower, float* upper, F v) {
    store(lower, _mm256_permute_ps(v, 0x50));
    store(upper, _mm256_permute_ps(v, 0xfa));
  }
  /** The lower 16 bits in both halves of each lane. */
  static I twice(I v) {
    return _mm256_or_si256(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(v, 16));
  }
  static __m256i first(int n) { return _mm256_loadu_si256((const __m256i*)(lanesOn + 8 - n)); }
  static F widen(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }
  static __m128i tail16(const void* p, int n) {
    alignas(16) uint16_t padded[8] = {};
    for (int i = 0; i < n; i++) padded[i] = ((const uint16_t*)p)[i];
    return _mm_load_si128((const __m128i*)padded);
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
const Table avx2Table = DEJAVU_ISA::makeTable("avx2");
}
