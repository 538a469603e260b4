/** AVX-512 with dot products of bytes (VNNI) and of bfloat16 (BF16). */
#include <immintrin.h>

#include <cstdint>

#define DEJAVU_ISA avx512vnni
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#include "vector16.h"

struct V : Vector16 {
  /** What `dotSigned` adds to the weights' codes, times x: `prepare` takes it off beforehand. */
  static constexpr int offset = 128;

  /** start + the products of four codes each; w, which the instruction takes as unsigned, is moved up by 128. */
  static I dotSigned(I start, I w, I x) { return dot(start, _mm512_xor_si512(w, splat(-128)), x); }
  static I dot(I start, I w, I x) { return _mm512_dpbusd_epi32(start, w, x); }

  static constexpr bool fastPairs = true;
  /** Written out, because GCC 12 copies the sums of a tile to and fro, by way of the stack. */
  static I addPairs(I sum, I a, I b) {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b));
    return sum;
  }
  static I dotFew(I sum, I w, I x) { return dot(sum, w, x); }
  static I sumOfFew(I start, I sum) { return _mm512_add_epi32(start, sum); }

  // Int4 rows in fours: the bytes of a lane belong to one row each.

  static constexpr bool quads = true;
  /**
   * For each vector that `weave` makes, in the lanes of the columns that they are for: bytes of four rows each, what sums start
   * from, and their scale. Sums with whole bytes, 16 times the high half and the low one, are as cheap as sums with halves.
   */
  template <int W>
  struct Factors {
    I bytes[W / 4][4];
    I start[4], startWhole[4];  // -8 times all bytes, and -8 · 17 times
    F scale[4];
  };
  /** Of factors for 16 blocks. The scale is NaN where a factor is not finite. */
  template <int W>
  static inline __attribute__((always_inline)) Factors<W> roundTogether(const F* factor) {
    const I magnitude = _mm512_set1_epi32(0x7fffffff);
    I most = _mm512_setzero_si512();
    for (int r = 0; r < W; r++) most = _mm512_max_epu32(most, _mm512_and_si512((I)factor[r], magnitude));
    // Where the inverse would be infinite, what is lost is nothing beside any number of use.
    __mmask16 some = _mm512_cmp_epu32_mask(most, _mm512_set1_epi32(0x03000000), _MM_CMPINT_NLE);
    __mmask16 infinite = _mm512_cmp_epu32_mask(most, _mm512_set1_epi32(0x7f800000), _MM_CMPINT_NLT);
    F inverse = _mm512_maskz_div_ps(some & ~infinite, broadcast(127), (F)most);
    F scale = _mm512_maskz_mul_ps(some, (F)most, broadcast(1.0f / 127));
    Factors<W> result;
    spread((I)_mm512_mask_mov_ps(scale, infinite, broadcast(__builtin_nanf(""))), (I*)result.scale);
    const F shift = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
    const I first = _mm512_set1_epi32(0xff), firstTwo = _mm512_set1_epi32(0xffff);
    I sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int q = 0; q < W / 4; q++) {
      I code[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++) code[r] = (I)fma(factor[4 * q + r], inverse, shift);
      I lower = choose(first, code[0], _mm512_slli_epi32(code[1], 8));
      I quad = choose(firstTwo, lower, _mm512_slli_epi32(choose(first, code[2], _mm512_slli_epi32(code[3], 8)), 16));
      sum = dot(sum, splat(8), quad);
      spread(quad, result.bytes[q]);
    }
    I start = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
    spread(start, result.start);
    spread(_mm512_add_epi32(start, _mm512_slli_epi32(start, 4)), result.startWhole);
    return result;
  }
  /** The bits of a where the mask has ones, of b where it has none. */
  static I choose(I mask, I a, I b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xca); }
  /** out[v] has lane v of each 128 bits in all four lanes: bytes 16 L + 4 v + k, of which `weave` makes vector v, are its block. */
  static void spread(I blocks, I* out) {
    out[0] = _mm512_shuffle_epi32(blocks, (_MM_PERM_ENUM)0x00);
    out[1] = _mm512_shuffle_epi32(blocks, (_MM_PERM_ENUM)0x55);
    out[2] = _mm512_shuffle_epi32(blocks, (_MM_PERM_ENUM)0xaa);
    out[3] = _mm512_shuffle_epi32(blocks, (_MM_PERM_ENUM)0xff);
  }
  /**
   * total += the factors times a vector of codes of each row, of which `codes(r)` gives row r: the columns in low halves, then
   * those of whole bytes. `fetchLine(r)` is called between the products: fetched at once, the lines wait for each other.
   */
  template <int W, class Codes, class FetchLine>
  static inline __attribute__((always_inline)) void addTogether(float* total, const Factors<W>& factors, Codes codes,
                                                                FetchLine fetchLine) {
    I below[4], whole[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) below[v] = factors.start[v], whole[v] = factors.startWhole[v];
    overWoven<W>(codes, [&](int q, int v, I quad) __attribute__((always_inline)) {
      fetchLine(4 * q + v);
      below[v] = dot(below[v], low(quad), factors.bytes[q][v]);
      whole[v] = dot(whole[v], quad, factors.bytes[q][v]);
    });
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++, total += 16) {
      store(total, fma(floats(below[v]), factors.scale[v], load(total)));
      store(total + 64, fma(floats(whole[v]), factors.scale[v], load(total + 64)));
    }
  }
  /** What was loaded, as it is: GCC 12 would copy every other row to the stack and read it from there. */
  static I inRegister(I v) {
    asm("" : "+v"(v));
    return v;
  }
  /** 64 bytes of four rows from `first` on: out[v] has, in lane 4 L + k, byte 16 L + 4 v + k of each row. */
  template <class Codes>
  static inline __attribute__((always_inline)) void weave(Codes codes, int first, I* out) {
    I row0 = inRegister(codes(first)), row1 = inRegister(codes(first + 1));
    I a = _mm512_unpacklo_epi8(row0, row1), b = _mm512_unpackhi_epi8(row0, row1);
    I row2 = inRegister(codes(first + 2)), row3 = inRegister(codes(first + 3));
    I c = _mm512_unpacklo_epi8(row2, row3), d = _mm512_unpackhi_epi8(row2, row3);
    out[0] = _mm512_unpacklo_epi16(a, c);
    out[1] = _mm512_unpackhi_epi16(a, c);
    out[2] = _mm512_unpacklo_epi16(b, d);
    out[3] = _mm512_unpackhi_epi16(b, d);
  }
  /** W rows in fours: `each(q, v, vector)` for vector v that `weave` makes of four q. */
  template <int W, class Codes, class Each>
  static inline __attribute__((always_inline)) void overWoven(Codes codes, Each each) {
#pragma GCC unroll 4
    for (int q = 0; q < W / 4; q++) {
      I quad[4];
      weave(codes, 4 * q, quad);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) each(q, v, quad[v]);
    }
  }
  /** Sums of a line, of low halves and of whole bytes, into those of low and high halves in the order of the columns. */
  static void orderWoven(const float* sums, float* out) {
    unweave(sums, out);
    unweave(sums + 64, out + 64);
    for (int c = 0; c < 64; c++) out[64 + c] = (out[64 + c] - out[c]) * (1.0f / 16);
  }
  /** Of 64 columns, from the order of `weave` into their own. */
  static void unweave(const float* sums, float* out) {
    for (int v = 0; v < 4; v++)
      for (int quarter = 0; quarter < 4; quarter++)
        for (int k = 0; k < 4; k++) out[quarter * 16 + 4 * v + k] = sums[v * 16 + 4 * quarter + k];
  }

  // Int8 rows in fours: factors are two bytes each, in all lanes.

  template <int W>
  struct ByteFactors {
    I high[W / 4], low[W / 4], start;
    F scale;
  };
  /** Of `RoundedFactors`. Weights moved up by 128 take the sum of the codes 128 times too often. */
  template <int W, class Rounded>
  static inline ByteFactors<W> spreadFactors(const Rounded& rounded) {
    ByteFactors<W> result;
    for (int q = 0; q < W / 4; q++) {
      result.high[q] = splat32((int32_t)rounded.high[q]);
      result.low[q] = splat32((int32_t)rounded.low[q]);
    }
    result.start = splat32((int32_t)(0u - offset * rounded.sum));
    result.scale = broadcast(rounded.scale);
    return result;
  }
  /** total += the factors times 64 codes of each row, of which `codes(r)` gives row r; in the order of `weave`. */
  template <int W, class Codes>
  static inline __attribute__((always_inline)) void addBytes(float* total, const ByteFactors<W>& factors, Codes codes) {
    I high[4], low[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) high[v] = none(), low[v] = factors.start;
    overWoven<W>(codes, [&](int q, int v, I quad) __attribute__((always_inline)) {
      I moved = _mm512_xor_si512(quad, splat(-128));
      high[v] = dot(high[v], moved, factors.high[q]);
      low[v] = dot(low[v], moved, factors.low[q]);
    });
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++, total += 16)
      store(total, fma(floats(_mm512_add_epi32(_mm512_slli_epi32(high[v], 7), low[v])), factors.scale, load(total)));
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
namespace DEJAVU_ISA {
namespace {

/** What changes where the first cache has few buffers for lines on their way: int4 rows are added sixteen at a time. */
constexpr Table fetchingIntoSecond(Table table) {
  constexpr int int8 = (int)WeightType::int8, int4 = (int)WeightType::int4;
  table.productRows[int8] = productRowsQuantized<Codes8, Into::both>;
  table.productRows[int4] = productRowsQuantized<Codes4, Into::both>;
  table.recover[0][int8] = recoverQuantized<float, Codes8, Into::both>;
  table.recover[0][int4] = recoverQuantized<float, Codes4, Into::both>;
  table.recover[1][int8] = recoverQuantized<Half, Codes8, Into::both>;
  table.recover[1][int4] = recoverQuantized<Half, Codes4, Into::both>;
  table.accumulateRows[int4] = accumulateRows<RowsTogether<Step4<16>, Into::second>>;
  table.accumulateTiles[int4] = accumulateTogether<Step4<16>>;
  return table;
}

}  // namespace
}  // namespace DEJAVU_ISA

const Table avx512vnniTable = DEJAVU_ISA::makeTable("avx512vnni");
const Table avx512vnniSecondTable = DEJAVU_ISA::fetchingIntoSecond(DEJAVU_ISA::makeTable("avx512vnni"));
}
