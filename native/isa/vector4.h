/**
 * Four lanes in the compilers' own vector types, for every machine: the whole of the portable set and the base of NEON.
 * Included inside the namespace of the instruction set.
 */

typedef float F4 __attribute__((vector_size(16)));
typedef uint32_t U4 __attribute__((vector_size(16)));
typedef uint16_t H4 __attribute__((vector_size(8)));

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
  static void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

 private:
  static F choose(U4 which, F a, F b) { return (F)((which & (U4)a) | (~which & (U4)b)); }
  static uint32_t mask(U4 v) {
    v &= U4{1, 2, 4, 8};
    return v[0] | v[1] | v[2] | v[3];
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
