/**
 * Sixteen lanes of AVX-512 (F, BW, VL, DQ) with FMA and F16C: the base of the sets that have it. Included inside the
 * namespace of the instruction set.
 */

struct Vector16 {
  using F = __m512;
  static constexpr int lanes = 16;
  static constexpr int wide = 8;   // weight rows of a tile for one x row
  static constexpr int tileX = 4;  // x rows of a tile of 4 weight rows

  static F zero() { return _mm512_setzero_ps(); }
  static F broadcast(float v) { return _mm512_set1_ps(v); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
  static F load(const Brain* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }
  static F loadTail(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static F loadTail(const Half* p, int n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p)); }
  static F loadTail(const Brain* p, int n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static void storeTail(float* p, F v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  /** b where either is NaN. */
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }

  /** Tree: halves, quarters, pairs two apart, the last pair. `sum4` gives the same bits for four vectors at once. */
  static float sum(F v) {
    return sum128(_mm_add_ps(_mm512_castps512_ps128(fold(v)), _mm256_extractf128_ps(_mm512_castps512_ps256(fold(v)), 1)));
  }
  static void sum4(const F* v, float* out) {
    F s01 = add(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    F s23 = add(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    F t = add(_mm512_shuffle_f32x4(s01, s23, 0x88), _mm512_shuffle_f32x4(s01, s23, 0xdd));
    t = add(t, _mm512_permute_ps(t, 0x4e));
    t = add(t, _mm512_permute_ps(t, 0xb1));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, t)));
  }

  /** 2^n for the integer n in the low bits of `n + 1.5 * 2^23`. */
  static F pow2(F shifted) {
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23)));
  }

  static uint32_t greater(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static uint32_t equal(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static uint32_t atLeast(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  /** Appends base + i for every set bit i; `out` has room for that many and no more. */
  static int append(int32_t* out, int32_t base, uint32_t bits) {
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int count = __builtin_popcount(bits);
    __m512i kept = _mm512_maskz_compress_epi32(bits, _mm512_add_epi32(lane, _mm512_set1_epi32(base)));
    _mm512_mask_storeu_epi32(out, first(count), kept);
    return count;
  }
  __attribute__((always_inline)) static void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }

  // Codes of quantized weights: 64 bytes, of which four neighbours share each 32-bit lane.

  using I = __m512i;
  static I bytes(const void* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, I v) { _mm512_storeu_si512(p, v); }
  static I splat(int8_t v) { return _mm512_set1_epi8(v); }
  static I none() { return _mm512_setzero_si512(); }
  static I low(I v) { return _mm512_and_si512(v, splat(15)); }
  static I high(I v) { return _mm512_and_si512(_mm512_srli_epi16(v, 4), splat(15)); }
  static F floats(I v) { return _mm512_cvtepi32_ps(v); }
  static constexpr int wideCodes = 4;

  // Pairs of 16-bit numbers, for products of many rows.

  /** Whether they are faster than floats: on Intel's processors two instructions for each are not. */
  static constexpr bool fastPairs = false;

  /** sum + the products of two neighbours each; as one, for compilers put all products first and run out of registers. */
  static I addPairs(I sum, I a, I b) {
    I product;
    asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(product) : "v"(a), "vm"(b));
    return sum;
  }
  static I splat32(int32_t v) { return _mm512_set1_epi32(v); }
  static I integers(F v) { return _mm512_cvtps_epi32(v); }
  static void storeShorts(int16_t* p, I v) { _mm512_storeu_si512(p, v); }
  /** Two vectors of floats, times a and b. */
  template <class T>
  static I shorts(const T* x, F a, F b) {
    __m256i first = _mm512_cvtepi32_epi16(integers(mul(load(x), a)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm512_cvtepi32_epi16(integers(mul(load(x + 16), b))), 1);
  }
  static I shorts(const int8_t* codes) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)codes)); }
  /** Codes of 32 bytes minus 8, times 128, times what is given in 32768ths. */
  static void shortsOfCodes(const uint8_t* p, const int16_t* share, I& low, I& high) {
    I wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)p)), eight = _mm512_set1_epi16(8 << 7);
    I a = _mm512_sub_epi16(_mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16(15 << 7)), eight);
    I b = _mm512_sub_epi16(_mm512_slli_epi16(_mm512_srli_epi16(wide, 4), 7), eight);
    low = _mm512_mulhrs_epi16(a, bytes(share));
    high = _mm512_mulhrs_epi16(b, bytes(share));
  }
  /** Columns of two rows side by side, 32 of them. */
  static void weavePairs(const I* rows, int32_t* out) {
    const I quarters = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    I a = _mm512_permutexvar_epi64(quarters, rows[0]), b = _mm512_permutexvar_epi64(quarters, rows[1]);
    store(out, _mm512_unpacklo_epi16(a, b));
    store(out + 16, _mm512_unpackhi_epi16(a, b));
  }
  static F load(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
  }
  static F loadTail(const int8_t* p, int n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p)));
  }
  /** The codes of 16 bytes, those of the low halves and those of the high halves. */
  static void nibbles(const uint8_t* p, F& low, F& high) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
    low = _mm512_permutexvar_ps(v, values);  // looks at four bits only
    high = _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4), values);
  }

 protected:
  static __mmask16 first(int n) { return (__mmask16)((1u << n) - 1); }
  static F widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  static F fold(F v) { return add(v, _mm512_shuffle_f32x4(v, v, 0x4e)); }
  static float sum128(__m128 v) {
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
  }
};
