/**
 * The two forms of a packed panel of 32, by steps of 32 numbers of depth; in each step two tiles of 16 by 64 bytes:
 * `rows`: a line holds 32 numbers of one row. `pairs`: a line holds two numbers each of 16 columns.
 * A tile instruction multiplies a tile of rows by a tile of pairs.
 */
#pragma once
#include "gemm-weights.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** bfloat16 elements of a line, a tile and a step of a panel. */
constexpr int64_t lineWords = 32, tileWords = 512, stepWords = 1024;

inline __mmask16 firstFloats(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }
inline void storeLine(uint16_t* to, __m512i line) { _mm512_store_si512(to, line); }

/** lines[i] word j becomes lines[j] word i. */
inline void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  UNROLL for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    v[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    v[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    v[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    v[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
  UNROLL for (int i = 0; i < 8; i++) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

/** Where the tile of 16 rows from `row` on starts in `packed`, for a block of depth. */
inline uint16_t* packedTile(const GemmJob& job, int64_t block, int64_t row) {
  int64_t panels = quotient(job.rows, gemmPanel);
  return job.packed + (block * panels + row / gemmPanel) * gemmPanelBlock + row % gemmPanel / 16 * tileWords;
}

/** What a chunk of a packing kernel packs: 16 rows of x, some missing, and a block of depth. */
struct PackPart {
  int64_t block, row, rows, from, to;
  uint16_t* out;

  PackPart(const GemmJob& job, int64_t chunk) {
    int64_t tiles = quotient(job.rows, 16);
    block = chunk / tiles;
    row = chunk % tiles * 16;
    rows = smaller(16, job.rows - row);
    from = block * gemmDepth;
    to = smaller(from + gemmDepth, job.depth);
    out = packedTile(job, block, row);
  }
};

/** x of the product, in pairs: a column of the panel is a row of x. */
inline void packProduct(const void* data, int64_t chunk, float*) {
  const GemmJob& job = *(const GemmJob*)data;
  PackPart part(job, chunk);
  uint16_t* out = part.out;
  for (int64_t k = part.from; k < part.to; k += gemmStep, out += stepWords) {
    __m512i lines[16];
    for (int64_t r = 0; r < 16; r++) {
      if (r >= part.rows) {
        lines[r] = _mm512_setzero_si512();
        continue;
      }
      const float* x = job.x + (part.row + r) * job.xColumns + k;
      lines[r] = roundPair(_mm512_maskz_loadu_ps(firstFloats(part.to - k), x),
                           _mm512_maskz_loadu_ps(firstFloats(part.to - k - 16), x + 16));
    }
    transpose(lines);
    for (int64_t r = 0; r < 16; r++) storeLine(out + r * lineWords, lines[r]);
  }
}

/** Up to 16 activations for the steps from i on, times the scales of their weight rows where rows have scales. */
template <class T>
inline __m512 activations(const GemmJob& job, const float* x, int64_t i, int64_t to) {
  __mmask16 mask = firstFloats(to - i);
  __m512 a;
  __m512i index = _mm512_setzero_si512();
  if (job.index) {
    index = _mm512_maskz_loadu_epi32(mask, job.index + i);
    a = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, index, x, 4);
  } else {
    a = _mm512_maskz_loadu_ps(mask, x + i);
  }
  if constexpr (BrainRows<T>::scaledRows) {
    const float* scales = BrainRows<T>(job).scales;
    __m512 scale = job.index ? _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, index, scales, 4)
                             : _mm512_maskz_loadu_ps(mask, scales + i);
    a = _mm512_mul_ps(a, scale);
  }
  return a;
}

/** The activations of the accumulation, in rows. */
template <class T>
void packAccumulate(const void* data, int64_t chunk, float*) {
  const GemmJob& job = *(const GemmJob*)data;
  PackPart part(job, chunk);
  for (int64_t r = 0; r < 16; r++) {
    const float* x = job.x + (part.row + r) * job.xColumns;
    uint16_t* out = part.out + r * lineWords;
    for (int64_t i = part.from; i < part.to; i += gemmStep, out += stepWords) {
      __m512i line = _mm512_setzero_si512();
      if (r < part.rows) line = roundPair(activations<T>(job, x, i, part.to), activations<T>(job, x, i + 16, part.to));
      storeLine(out, line);
    }
  }
}

/** `count` weight rows from position `first` on, columns `from` … `to`, as panels of rows: one weight row a line. */
template <class T>
inline void unpackRows(uint16_t* out, const GemmJob& job, int64_t first, int64_t count, int64_t from, int64_t to) {
  BrainRows<T> weights(job);
  for (int64_t r = 0; r < quotient(count, gemmPanel) * gemmPanel; r++) {
    uint16_t* line = out + r / gemmPanel * gemmPanelBlock + r % gemmPanel / 16 * tileWords + r % 16 * lineWords;
    int64_t row = r >= count ? 0 : job.index ? job.index[first + r] : first + r;
    for (int64_t k = from; k < to; k += groupColumns, line += 2 * stepWords) {
      Group group = r < count ? weights.group(row, k) : Group{{_mm512_setzero_si512(), _mm512_setzero_si512()}};
      storeLine(line, group.half[0]);
      if (k + gemmStep < to) storeLine(line + stepWords, group.half[1]);
    }
  }
}

/** Two rows of 32 columns to two lines of 16 pairs. */
inline void storePairs(uint16_t* out, __m512i even, __m512i odd) {
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,  //
                                       39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  storeLine(out, _mm512_permutex2var_epi16(even, low, odd));
  storeLine(out + tileWords, _mm512_permutex2var_epi16(even, high, odd));
}

/** The weight rows at positions `from` … `to`, `count` columns from `first` on, as panels of pairs: two rows a line. */
template <class T>
inline void unpackPairs(uint16_t* out, const GemmJob& job, int64_t first, int64_t count, int64_t from, int64_t to) {
  BrainRows<T> weights(job);
  const Group none{{_mm512_setzero_si512(), _mm512_setzero_si512()}};
  for (int64_t i = 0; i < quotient(to - from, gemmStep) * gemmStep; i += 2) {
    uint16_t* line = out + i / gemmStep * stepWords + i % gemmStep / 2 * lineWords;
    int64_t at[2];
    for (int64_t j = 0; j < 2; j++)
      at[j] = from + i + j >= to ? -1 : job.index ? job.index[from + i + j] : from + i + j;
    for (int64_t c = 0; c < count; c += groupColumns, line += 2 * gemmPanelBlock) {
      Group even = at[0] < 0 ? none : weights.group(at[0], first + c);
      Group odd = at[1] < 0 ? none : weights.group(at[1], first + c);
      storePairs(line, even.half[0], odd.half[0]);
      if (c + gemmPanel < count) storePairs(line + gemmPanelBlock, even.half[1], odd.half[1]);
    }
  }
}

/** Brings rows of weights that are wanted soon near, a line of each at every step of a multiplication. */
struct Ahead {
  static constexpr int64_t most = gemmPanel;
  const char* rows[most];
  int64_t count = 0, lines = 0;

  __attribute__((always_inline)) void fetch(int64_t step) const {
    if (step < lines)
      for (int64_t r = 0; r < count; r++) _mm_prefetch(rows[r] + step * 64, _MM_HINT_T1);
  }
};

/** The block of weights that is wanted next: `count` weight rows from position `first` on, some of their columns. */
template <class T>
struct Next {
  const GemmJob& job;
  BrainRows<T> weights;
  int64_t first, count, column, columns;

  Next(const GemmJob& job, int64_t first, int64_t count, int64_t column, int64_t columns)
      : job(job), weights(job), first(first), count(count), column(column), columns(columns) {}

  /** What the multiplication number `call` of `calls` fetches of it. */
  Ahead part(int64_t call, int64_t calls) const {
    Ahead ahead;
    if (count <= 0 || columns <= 0) return ahead;
    int64_t share = smaller(quotient(count, calls), Ahead::most), from = first + call * share;
    ahead.lines = quotient(quotient(columns, groupColumns) * BrainRows<T>::groupBytes, 64);
    ahead.count = smaller(share, first + count - from);
    for (int64_t r = 0; r < ahead.count; r++)
      ahead.rows[r] = weights.address(job.index ? job.index[from + r] : from + r, column);
    return ahead;
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
