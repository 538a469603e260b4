/**
 * Four lanes in the compilers' own vector types, for every machine: the whole of the portable set and the base of NEON.
 * Included inside the namespace of the instruction set.
 */

typedef float F4 __attribute__((vector_size(16)));
typedef uint32_t U4 __attribute__((vector_size(16)));
typedef uint16_t H4 __attribute__((vector_size(8)));
typedef int32_t S4 __attribute__((vector_size(16)));
typedef int16_t S8 __attribute__((vector_size(16)));
typedef int8_t B8 __attribute__((vector_size(8)));

struct Vector4 {
  using F = F4;
  static constexpr int lanes = 4;

  static F zero() { return F{}; }
  static F broadcast(float v) { return F{v, v, v, v}; }
  static F load(const float* p) {
    F v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static F load(const Half* p) { return widen(p, words(p)); }
  static F load(const Brain* p) { return widen(p, words(p)); }
  static F loadTail(const float* p, int n) {
    F v{};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
  }
  static F loadTail(const Half* p, int n) { return widen(p, words(p, n)); }
  static F loadTail(const Brain* p, int n) { return widen(p, words(p, n)); }
  static void store(float* p, F v) { __builtin_memcpy(p, &v, sizeof v); }
  static void storeTail(float* p, F v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
  }

  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  /** b where either is NaN. */
  static F max(F a, F b) { return choose((U4)(a > b), a, b); }
  static F min(F a, F b) { return choose((U4)(a < b), a, b); }

  static float sum(F v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static void sum4(const F* v, float* out) {
    for (int i = 0; i < 4; i++) out[i] = sum(v[i]);
  }

  /** 2^n for the integer n in the low bits of `n + 1.5 * 2^23`. */
  static F pow2(F shifted) { return (F)(((U4)shifted << 23) + (127u << 23)); }

  static uint32_t greater(F a, F b) { return mask((U4)(a > b)); }
  static uint32_t equal(F a, F b) { return mask((U4)(a == b)); }
  static uint32_t atLeast(F a, F b) { return mask((U4)(a >= b)); }
  /** Appends base + i for every set bit i; `out` has room for that many and no more. */
  static int append(int32_t* out, int32_t base, uint32_t bits) {
    int count = 0;
    for (; bits; bits &= bits - 1) out[count++] = base + __builtin_ctz(bits);
    return count;
  }
  __attribute__((always_inline)) static void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

  // Codes of quantized weights: 16 bytes, of which four neighbours share each 32-bit lane.

  using I = S4;
  static constexpr int offset = 0;
  static constexpr bool quads = false;
  static I bytes(const void* p) {
    I v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(int32_t* p, I v) { __builtin_memcpy(p, &v, sizeof v); }
  static I splat(int8_t v) { return I{} + (int32_t)((uint8_t)v * 0x01010101u); }
  static I none() { return I{}; }
  static I low(I v) { return v & splat(15); }
  static I high(I v) { return (I)((U4)v >> 4) & splat(15); }
  static F floats(I v) { return __builtin_convertvector(v, F); }
  static I dotSigned(I start, I w, I x) { return dot(start, w, x); }
  static I dot(I start, I w, I x) {
    S4 a = sumPairs(w, x, 0), b = sumPairs(w, x, 1);
    return start + (S4{a[0], a[2], b[0], b[2]} + S4{a[1], a[3], b[1], b[3]});
  }
  static I dotFew(I sum, I w, I x) { return dot(sum, w, x); }
  static I sumOfFew(I start, I sum) { return start + sum; }
  static constexpr int wideCodes = 1;

  // Pairs of 16-bit numbers, for products of many rows.

  /** Whether they are faster than floats. */
#ifdef __SSE2__
  static constexpr bool fastPairs = true;
#else
  static constexpr bool fastPairs = false;
#endif

  /** sum + the products of two neighbours each. */
  static I addPairs(I sum, I a, I b) {
#ifdef __SSE2__
    return sum + (I)__builtin_ia32_pmaddwd128((S8)a, (S8)b);
#else
    return sum + ((I)((U4)a << 16) >> 16) * ((I)((U4)b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
  }
  static I splat32(int32_t v) { return I{} + v; }
  /** The nearest integers, of |v| < 2^22. */
  static I integers(F v) { return (I)(v + 12582912.0f) - (I)broadcast(12582912.0f); }
  static void storeShorts(int16_t* p, I v) { __builtin_memcpy(p, &v, sizeof v); }
  /** Two vectors of floats, times f and g. */
  template <class T>
  static I shorts(const T* x, F f, F g) {
    I a = integers(load(x) * f), b = integers(load(x + 4) * g);
    return (I)S8{short(a[0]), short(a[1]), short(a[2]), short(a[3]), short(b[0]), short(b[1]), short(b[2]), short(b[3])};
  }
  static I shorts(const int8_t* codes) {
    B8 v;
    __builtin_memcpy(&v, codes, sizeof v);
    return (I)__builtin_convertvector(v, S8);
  }
  /** Codes of 8 bytes minus 8, times 128, times what is given in 32768ths. */
  static void shortsOfCodes(const uint8_t* p, const int16_t* share, I& low, I& high) {
    S8 a, b;
    for (int i = 0; i < 8; i++) {
      a[i] = (short)(((((p[i] & 15) - 8) << 7) * share[i] + (1 << 14)) >> 15);
      b[i] = (short)(((((p[i] >> 4) - 8) << 7) * share[i] + (1 << 14)) >> 15);
    }
    low = (I)a, high = (I)b;
  }
  /** Columns of two rows side by side, 8 of them. */
  static void weavePairs(const I* rows, int32_t* out) {
    S8 a = (S8)rows[0], b = (S8)rows[1];
    store(out, (I)S8{a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]});
    store(out + 4, (I)S8{a[4], b[4], a[5], b[5], a[6], b[6], a[7], b[7]});
  }

  static F load(const int8_t* p) { return loadTail(p, 4); }
  static F loadTail(const int8_t* p, int n) {
    F v{};
    for (int i = 0; i < n; i++) v[i] = (float)p[i];
    return v;
  }
  static void nibbles(const uint8_t* p, F& low, F& high) {
    low = F{code(p[0] & 15), code(p[1] & 15), code(p[2] & 15), code(p[3] & 15)};
    high = F{code(p[0] >> 4), code(p[1] >> 4), code(p[2] >> 4), code(p[3] >> 4)};
  }

 private:
  static F choose(U4 which, F a, F b) { return (F)((which & (U4)a) | (~which & (U4)b)); }
  static uint32_t mask(U4 v) {
    v &= U4{1, 2, 4, 8};
    return v[0] | v[1] | v[2] | v[3];
  }
  static float code(int nibble) { return (float)(nibble - 8); }
  /** Sums of two neighbouring products, of one half of the bytes. */
  static S4 sumPairs(I w, I x, int half) {
    B8 a, b;
    __builtin_memcpy(&a, (const char*)&w + 8 * half, sizeof a);
    __builtin_memcpy(&b, (const char*)&x + 8 * half, sizeof b);
    S4 products = (S4)(__builtin_convertvector(a, S8) * __builtin_convertvector(b, S8));
    return ((S4)((U4)products << 16) >> 16) + (products >> 16);
  }
  static U4 words(const void* p, int n = 4) {
    H4 v{};
    __builtin_memcpy(&v, p, (unsigned)n * 2);
    return __builtin_convertvector(v, U4);
  }
  static F widen(const Brain*, U4 v) { return (F)(v << 16); }
  /** Moves exponent and fraction into place and lets a product by 2^112 shift the bias: subnormals come out right. */
  static F widen(const Half*, U4 v) {
    F scaled = (F)((v & 0x7fffu) << 13) * 0x1p112f;
    U4 special = (U4)((v & 0x7c00u) == 0x7c00u) & 0x7f800000u;  // infinity and NaN
    return (F)((U4)scaled | special | ((v & 0x8000u) << 16));
  }
};
