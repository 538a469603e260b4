/**
 * The many-row product and accumulation on `Unit`, which a file of native/isa defines before it includes this one:
 * - `Unit` itself is constructed at the start of a chunk and destroyed at its end;
 * - `Unit::multiply<L, R>(sums, left, right, steps, fresh)`: sums[l][r] (+)= left[l] · right[r] for L tiles of rows and R
 *   tiles of pairs, over `steps`; a tile of sums is [16, 16] floats and sums[l][r] lies at (2 l + r) tiles.
 */
#pragma once
#include "gemm-pack.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Floats of a tile of sums, and of the four that two panels make. */
constexpr int64_t tileFloats = 256, panelFloats = 1024;

/** Scratch of a chunk: the planes of a block of unpacked weights, then all sums, [panels of outputs, panels of rows]. */
struct Space {
  uint16_t* weights;
  int64_t plane;
  float* sums;
  int64_t outputPanels, rowPanels;

  Space(const GemmJob& job, float* scratch, int64_t width)
      : weights((uint16_t*)scratch),
        plane(job.chunkWidth * gemmDepth),
        sums(scratch + gemmPlanes * plane / 2),
        outputPanels(quotient(width, gemmPanel)),
        rowPanels(quotient(job.rows, gemmPanel)) {}

  /** A plane of the weights of a panel of outputs. */
  uint16_t* weightsOf(int64_t output, int number) const { return weights + number * plane + output * gemmPanelBlock; }
  /** The sums of a panel of outputs and a panel of rows. */
  float* at(int64_t output, int64_t row) const { return sums + (output * rowPanels + row) * panelFloats; }
  /** One of the four tiles where an output and a row meet. */
  const float* tile(int64_t output, int64_t row, int64_t number) const {
    return at(output / gemmPanel, row / gemmPanel) + number * tileFloats;
  }
};

/** The bias, or zeros, of 16 outputs that are positions in `index` or columns. */
inline __m512 perOutput(const float* values, const int32_t* index, int64_t first, __mmask16 mask) {
  if (!index) return _mm512_maskz_loadu_ps(mask, values + first);
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, _mm512_maskz_loadu_epi32(mask, index + first), values, 4);
}

/** Sums of a product stand as [outputs, rows]: they are turned, and leave with scale, bias and activation. */
template <class T>
void finishProduct(const GemmJob& job, const Space& space, int64_t first, int64_t width) {
  for (int64_t o = 0; o < width; o += 16) {
    __mmask16 mask = firstFloats(width - o);
    __m512 bias = job.bias ? perOutput(job.bias, job.index, first + o, mask) : _mm512_setzero_ps();
    __m512 scale = _mm512_set1_ps(1);
    if constexpr (BrainRows<T>::scaledRows) scale = perOutput(BrainRows<T>(job).scales, job.index, first + o, mask);
    __m512i index = job.index ? _mm512_maskz_loadu_epi32(mask, job.index + first + o) : _mm512_setzero_si512();
    for (int64_t r = 0; r < job.rows; r += 16) {
      const float* tile = space.tile(o, r, o % gemmPanel / 16 * 2 + r % gemmPanel / 16);
      __m512i lines[16];
      UNROLL for (int i = 0; i < 16; i++) lines[i] = _mm512_load_si512(tile + i * 16);
      transpose(lines);
      int64_t count = smaller(16, job.rows - r);
      for (int64_t i = 0; i < count; i++) {
        __m512 v = _mm512_castsi512_ps(lines[i]);
        if constexpr (BrainRows<T>::scaledRows) v = _mm512_mul_ps(v, scale);
        if (job.bias) v = _mm512_add_ps(v, bias);
        const __m512 zero = _mm512_setzero_ps();
        if (job.relu) v = _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ), zero);  // NaN stays
        float* out = job.out + (r + i) * job.outColumns;
        if (job.index)
          _mm512_mask_i32scatter_ps(out, mask, index, v, 4);
        else
          _mm512_mask_storeu_ps(out + first + o, mask, v);
      }
    }
  }
}

/** `each(plane of one, plane of the other)` of all products but that of both rests, which is too small to matter. */
template <class T, class Each>
inline __attribute__((always_inline)) void overPlanes(Each each) {
  constexpr int planes = BrainRows<T>::planes;
  UNROLL for (int a = 0; a < planes; a++)
    UNROLL for (int b = 0; a + b < planes; b++) each(a, b);
}

template <class T>
void gemmProduct(const void* data, int64_t chunk, float* scratch) {
  const GemmJob& job = *(const GemmJob*)data;
  int64_t first = chunk * job.chunkWidth, width = smaller(job.chunkWidth, job.width - first);
  Space space(job, scratch, width);
  Unit unit;
  for (int64_t k = 0; k < job.depth; k += gemmDepth) {
    int64_t to = smaller(k + gemmDepth, job.depth), steps = quotient(to - k, gemmStep);
    for (int plane = 0; plane < BrainRows<T>::planes; plane++)
      unpackRows<T>(space.weightsOf(0, plane), job, first, width, k, to, plane);
    // After the last block comes the first of another chunk, as a rule the one `stride` further on.
    bool last = to == job.depth;
    int64_t nextFirst = last ? first + job.stride * job.chunkWidth : first, nextK = last ? 0 : to;
    Next<T> next(job, nextFirst, smaller(job.chunkWidth, job.width - nextFirst), nextK,
                 smaller(gemmDepth, job.depth - nextK));
    for (int64_t r = 0; r < space.rowPanels; r++) {
      bool both = job.rows - r * gemmPanel > 16;
      for (int64_t o = 0; o < space.outputPanels; o++) {
        Ahead ahead = next.part(r * space.outputPanels + o, space.rowPanels * space.outputPanels);
        overPlanes<T>([&](int a, int b) __attribute__((always_inline)) {
          const uint16_t *left = space.weightsOf(o, a), *right = packedTile(job, b, k / gemmDepth, r * gemmPanel);
          bool isFirst = k == 0 && a + b == 0;
          if (both)
            unit.template multiply<2, 2>(space.at(o, r), left, right, steps, isFirst, ahead);
          else
            unit.template multiply<2, 1>(space.at(o, r), left, right, steps, isFirst, ahead);
          ahead.count = 0;  // is fetched by now
        });
      }
    }
  }
  finishProduct<T>(job, space, first, width);
}

/** Sums of an accumulation stand as [rows, columns]. */
inline void finishAccumulate(const GemmJob& job, const Space& space, int64_t first, int64_t width) {
  for (int64_t r = 0; r < job.rows; r++) {
    float* out = job.out + r * job.outColumns + first;
    for (int64_t c = 0; c < width; c += 16) {
      __mmask16 mask = firstFloats(width - c);
      const float* tile = space.tile(c, r, r % gemmPanel / 16 * 2 + c % gemmPanel / 16);
      __m512 v = _mm512_load_ps(tile + r % 16 * 16);
      if (job.bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, job.bias + first + c));
      _mm512_mask_storeu_ps(out + c, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out + c), v));
    }
  }
}

template <class T>
void gemmAccumulate(const void* data, int64_t chunk, float* scratch) {
  const GemmJob& job = *(const GemmJob*)data;
  int64_t first = chunk * job.chunkWidth, width = smaller(job.chunkWidth, job.width - first);
  Space space(job, scratch, width);
  Unit unit;
  for (int64_t i = 0; i < job.depth; i += gemmDepth) {
    int64_t to = smaller(i + gemmDepth, job.depth), steps = quotient(to - i, gemmStep);
    for (int plane = 0; plane < BrainRows<T>::planes; plane++)
      unpackPairs<T>(space.weightsOf(0, plane), job, first, width, i, to, plane);
    bool last = to == job.depth;
    int64_t nextFirst = last ? first + job.stride * job.chunkWidth : first, nextI = last ? 0 : to;
    Next<T> next(job, nextI, smaller(gemmDepth, job.depth - nextI), nextFirst,
                 smaller(job.chunkWidth, job.width - nextFirst));
    for (int64_t r = 0; r < space.rowPanels; r++) {
      bool both = job.rows - r * gemmPanel > 16;
      for (int64_t c = 0; c < space.outputPanels; c++) {
        Ahead ahead = next.part(r * space.outputPanels + c, space.rowPanels * space.outputPanels);
        overPlanes<T>([&](int a, int b) __attribute__((always_inline)) {
          const uint16_t *left = packedTile(job, a, i / gemmDepth, r * gemmPanel), *right = space.weightsOf(c, b);
          bool isFirst = i == 0 && a + b == 0;
          if (both)
            unit.template multiply<2, 2>(space.at(c, r), left, right, steps, isFirst, ahead);
          else
            unit.template multiply<1, 2>(space.at(c, r), left, right, steps, isFirst, ahead);
          ahead.count = 0;
        });
      }
    }
  }
  finishAccumulate(job, space, first, width);
}

/** A unit much faster than vectors are, which float16 in two planes is for as well; other units leave to vectors what they do faster. */
constexpr Gemm makeGemm(bool isFast) {
  return {
      {nullptr, packProduct<Half>, packProduct<Brain>, packProduct<Int8>, packProduct<Int4>},
      {nullptr, packAccumulate<Half>, packAccumulate<Brain>, packAccumulate<Int8>, packAccumulate<Int4>},
      {nullptr, isFast ? gemmProduct<Half> : nullptr, gemmProduct<Brain>, isFast ? gemmProduct<Int8> : nullptr,
       isFast ? gemmProduct<Int4> : nullptr},
      {nullptr, isFast ? gemmAccumulate<Half> : nullptr, gemmAccumulate<Brain>, gemmAccumulate<Int8>, gemmAccumulate<Int4>},
  };
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
