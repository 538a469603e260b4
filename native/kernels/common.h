/** What all kernels share: how rows are found, and the two inner loops. Every sum below is one fused chain per output. */
#pragma once

namespace dejavu::DEJAVU_ISA {
namespace {

#define UNROLL _Pragma("GCC unroll 32")

using F = V::F;
using I = V::I;
constexpr int lanes = V::lanes;

/** A number as a type, so that it can be an argument and still choose code. */
template <int n>
struct Number {
  static constexpr int value = n;
};

inline uint32_t bitsOf(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float withBits(uint32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

/** Of what only fetches: GCC takes that for no effect and drops calls of it, unless they were inlined before. */
#define FETCH inline __attribute__((always_inline))

/**
 * Which cache rows ahead are fetched into; both: rows twice as far ahead into the second. Where the first cache has few buffers
 * for lines on their way (Intel's has 16, and threads of a core share them), those wait there a shorter time, or not at all.
 */
enum class Into { first, second, both };

FETCH void fetchSecond(const void* p) { __builtin_prefetch(p, 0, 2); }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/** Walks the weight rows of the selected units in ascending order; position counts them from 0. */
struct Cursor {
  const int32_t* indices;  // this row's units, or null: all
  int64_t perUnit, slot, within;

  Cursor(const Units& set, int64_t row, int64_t position)
      : indices(set.indices ? set.indices + (set.shared ? 0 : row) * set.units : nullptr),
        perUnit(set.perUnit),
        slot(!indices || perUnit == 1 ? position : position / perUnit),
        within(!indices || perUnit == 1 ? 0 : position % perUnit) {}

  int64_t next() {
    if (!indices) return slot++;
    if (perUnit == 1) return indices[slot++];
    int64_t row = indices[slot] * perUnit + within;
    if (++within == perUnit) {
      within = 0;
      slot++;
    }
    return row;
  }
};

/** Calls `each(Number<count>)` unless the count, which is at most `most`, is zero. */
template <int most, class Each>
inline __attribute__((always_inline)) void withRows(int64_t count, Each each) {
  if (count == most) each(Number<most>{});
  else if constexpr (most > 1) withRows<most - 1>(count, each);
}

/** Panels of X rows of what is left, then those that do not fill one: `each(panel, Number<rows>)`. */
template <int X, class Each>
inline __attribute__((always_inline)) void overPanels(int64_t rows, Each each) {
  int64_t p = 0;
  for (; rows >= X; rows -= X) each(p++, Number<X>{});
  if constexpr (X > 1) withRows<X - 1>(rows, [&](auto count) __attribute__((always_inline)) { each(p, count); });
}

/** A row of a weight matrix: its elements, or its codes. */
template <class T>
inline const T* rowOf(const Weights& weight, int64_t index) {
  return (const T*)(weight.data + index * weight.stride);
}

/** For loops that fetch nothing ahead. */
struct NoFetch {
  void line(int, int64_t) {}
  void scale(int, int64_t) {}
};

/**
 * Goes through weight rows W at a time, and fetches those of a later step line by line while those of one are read: as many
 * streams on their way as rows, each in a page of its own, which one stream that runs ahead does not give.
 */
template <int W, Into cache = Into::first>
class RowSteps {
  static constexpr bool twice = cache == Into::both;

 public:
  static constexpr int wide = W;
  int64_t index[W];

  /** The `count` next rows of the cursor; of those `ahead` further on, what lies from byte `offset` on is fetched. */
  RowSteps(const Weights& weight, const Cursor& at, int64_t count, int64_t offset, int64_t ahead = W)
      : weight_(weight), at_(at), later_(at), farther_(at), left_(count), ahead_(ahead), offset_(offset) {
    for (int64_t r = 0; r < smaller(ahead, count); r++) later_.next();
    for (int64_t r = 0; twice && r < smaller(2 * ahead, count); r++) farther_.next();
  }

  /** Whether W more rows are at hand: in `index`. */
  inline __attribute__((always_inline)) bool step() {
    if (left_ < W) return false;
    UNROLL for (int r = 0; r < W; r++) {
      index[r] = at_.next();
      // Where none is left, lines that were just read.
      int64_t row = left_ - r > ahead_ ? later_.next() : index[r];
      line_[r] = weight_.data + row * weight_.stride + offset_;
      scale_[r] = weight_.scales + row * weight_.scaleStride;
      if constexpr (twice)
        far_[r] = weight_.data + (left_ - r > 2 * ahead_ ? farther_.next() : row) * weight_.stride + offset_;
    }
    left_ -= W;
    return true;
  }
  /** The rows at the end that are fewer than W, one by one. */
  inline bool last() {
    if (left_ <= 0) return false;
    left_--;
    index[0] = at_.next();
    return true;
  }

  FETCH void line(int r, int64_t byte) {
    if constexpr (cache != Into::first) fetchSecond((twice ? far_ : line_)[r] + byte);
    if constexpr (cache != Into::second) V::prefetch(line_[r] + byte);
  }
  FETCH void scale(int r, int64_t byte) { V::prefetch(scale_[r] + byte); }

 private:
  const Weights& weight_;
  Cursor at_, later_, farther_;
  int64_t left_, ahead_, offset_;
  const uint8_t* line_[W];
  const uint8_t* scale_[W];
  const uint8_t* far_[W];
};

/**
 * The same for short rows in sequence, of whole lines: they are one stretch, of which what lies `ahead` rows further on is
 * fetched. Finding rows one by one takes as long as multiplying them.
 */
template <int W>
class StretchSteps {
 public:
  static constexpr int wide = W;
  int64_t index[W];

  StretchSteps(const Weights& weight, int64_t first, int64_t count, int64_t ahead)
      : weight_(weight), next_(first), left_(count), ahead_(ahead) {}

  inline __attribute__((always_inline)) bool step() {
    if (left_ < W) return false;
    UNROLL for (int r = 0; r < W; r++) index[r] = next_ + r;
    int64_t row = next_ + (left_ >= ahead_ + W ? ahead_ : 0);
    lines_ = weight_.data + row * weight_.stride;
    scales_ = weight_.scales + row * weight_.scaleStride;
    next_ += W;
    left_ -= W;
    return true;
  }
  inline bool last() {
    if (left_ <= 0) return false;
    left_--;
    index[0] = next_++;
    return true;
  }

  FETCH void line(int r, int64_t byte) { V::prefetch(lines_ + byte * W + r * 64); }
  FETCH void scale(int r, int64_t byte) {
    int64_t at = r * weight_.scaleStride;
    if (at % 64 < weight_.scaleStride) V::prefetch(scales_ + at + byte);  // the first row in a line
  }

 private:
  const Weights& weight_;
  int64_t next_, left_, ahead_;
  const uint8_t* lines_;
  const uint8_t* scales_;
};

/** Fetches what lies `ahead` bytes behind rows while those are read. */
template <class T>
struct RowsBehind {
  const T* const* rows;
  int64_t ahead;

  FETCH void line(int r, int64_t byte) { V::prefetch((const uint8_t*)rows[r] + ahead + byte); }
  void scale(int, int64_t) {}
};

/** Where a head's part of a position starts in a cache of so many heads, counted in parts. The tables were checked before. */
inline int64_t cachePart(const Places& places, int64_t heads, int64_t sequence, int64_t position, int64_t head) {
  int64_t page = places.pages[sequence * places.maxPages + position / places.pageRows];
  return (page * heads + head) * places.pageRows + position % places.pageRows;
}

/** Vectors in a cache line of weights. */
template <class T>
constexpr int perLine = lanes * sizeof(T) < 64 ? 64 / (lanes * sizeof(T)) : 1;

/**
 * acc[x * W + w] += Σ_i weight = Σ_i weight[w][i] · x[x][i]: lanes over i, one chain for each of the W · X outputs.
 * For every line of every row, one line of `fetch` is fetched.
 */
template <int W, int X, class T, class Fetch>
inline __attribute__((always_inline)) void chain(F (&acc)[W * X], const T* const* weight, const float* const* x,
                                                 int64_t k, Fetch& fetch) {
  constexpr int line = perLine<T>;
  int64_t i = 0;
  auto step = [&]() __attribute__((always_inline)) {
    F b[X];
    UNROLL for (int c = 0; c < X; c++) b[c] = V::load(x[c] + i);
    UNROLL for (int r = 0; r < W; r++) {
      F a = V::load(weight[r] + i);
      UNROLL for (int c = 0; c < X; c++) acc[c * W + r] = V::fma(a, b[c], acc[c * W + r]);
    }
    i += lanes;
  };
  while (i + line * lanes <= k) {
    UNROLL for (int r = 0; r < W; r++) fetch.line(r, (int64_t)sizeof(T) * i);
    UNROLL for (int v = 0; v < line; v++) step();
  }
  while (i + lanes <= k) step();
  if (int n = (int)(k - i)) {
    F b[X];
    UNROLL for (int c = 0; c < X; c++) b[c] = V::loadTail(x[c] + i, n);
    UNROLL for (int r = 0; r < W; r++) {
      F a = V::loadTail(weight[r] + i, n);
      UNROLL for (int c = 0; c < X; c++) acc[c * W + r] = V::fma(a, b[c], acc[c * W + r]);
    }
  }
}

/** The chains' lanes added by the fixed tree. */
template <int N>
inline __attribute__((always_inline)) void sums(const F (&acc)[N], float* out) {
  int i = 0;
  UNROLL for (; i + 4 <= N; i += 4) V::sum4(acc + i, out + i);
  UNROLL for (; i < N; i++) out[i] = V::sum(acc[i]);
}

/** out[w] = weight[w] · x for W rows. */
template <int W, class T, class Fetch>
inline __attribute__((always_inline)) void dots(float* out, const T* const* weight, const float* x, int64_t k,
                                                Fetch& fetch) {
  F acc[W];
  UNROLL for (int r = 0; r < W; r++) acc[r] = V::zero();
  chain<W, 1>(acc, weight, &x, k, fetch);
  sums(acc, out);
}

/** total[c] = fma(factor[0], row[0][c], …) and so on through the W rows, for every column c. */
template <int W, class T, class Fetch>
inline __attribute__((always_inline)) void addScaled(float* total, const T* const* row, const float* factor, int64_t columns,
                                                     Fetch& fetch) {
  F f[W];
  UNROLL for (int r = 0; r < W; r++) f[r] = V::broadcast(factor[r]);
  constexpr int line = perLine<T>;
  int64_t c = 0;
  auto step = [&]() __attribute__((always_inline)) {
    F t = V::load(total + c);
    UNROLL for (int r = 0; r < W; r++) t = V::fma(f[r], V::load(row[r] + c), t);
    V::store(total + c, t);
    c += lanes;
  };
  while (c + line * lanes <= columns) {
    UNROLL for (int r = 0; r < W; r++) fetch.line(r, (int64_t)sizeof(T) * c);
    UNROLL for (int v = 0; v < line; v++) step();
  }
  while (c + lanes <= columns) step();
  if (int n = (int)(columns - c)) {
    F t = V::loadTail(total + c, n);
    UNROLL for (int r = 0; r < W; r++) t = V::fma(f[r], V::loadTail(row[r] + c, n), t);
    V::storeTail(total + c, t, n);
  }
}

/** The value of a float that a kernel may not call std:: for. */
inline float largest(F v) {
  float lane[lanes];
  V::store(lane, v);
  float best = lane[0];
  for (int i = 1; i < lanes; i++) best = lane[i] > best ? lane[i] : best;
  return best;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
