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

/** Scratch of a chunk: a block of unpacked weights, then all sums, [panels of outputs, panels of rows]. */
struct Space {
  uint16_t* weights;
  float* sums;
  int64_t outputPanels, rowPanels;

  Space(const GemmJob& job, float* scratch, int64_t width)
      : weights((uint16_t*)scratch),
        sums(scratch + job.chunkWidth * gemmDepth / 2),
        outputPanels(quotient(width, gemmPanel)),
        rowPanels(quotient(job.rows, gemmPanel)) {}

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

template <class T>
void gemmProduct(const void* data, int64_t chunk, float* scratch) {
  const GemmJob& job = *(const GemmJob*)data;
  int64_t first = chunk * job.chunkWidth, width = smaller(job.chunkWidth, job.width - first);
  Space space(job, scratch, width);
  Unit unit;
  for (int64_t k = 0; k < job.depth; k += gemmDepth) {
    int64_t to = smaller(k + gemmDepth, job.depth), steps = quotient(to - k, gemmStep);
    unpackRows<T>(space.weights, job, first, width, k, to);
    // After the last block comes the first of another chunk, as a rule the one `stride` further on.
    bool last = to == job.depth;
    int64_t nextFirst = last ? first + job.stride * job.chunkWidth : first, nextK = last ? 0 : to;
    Next<T> next(job, nextFirst, smaller(job.chunkWidth, job.width - nextFirst), nextK,
                 smaller(gemmDepth, job.depth - nextK));
    for (int64_t r = 0; r < space.rowPanels; r++) {
      const uint16_t* right = packedTile(job, k / gemmDepth, r * gemmPanel);
      bool both = job.rows - r * gemmPanel > 16;
      for (int64_t o = 0; o < space.outputPanels; o++) {
        const uint16_t* left = space.weights + o * gemmPanelBlock;
        Ahead ahead = next.part(r * space.outputPanels + o, space.rowPanels * space.outputPanels);
        if (both)
          unit.template multiply<2, 2>(space.at(o, r), left, right, steps, k == 0, ahead);
        else
          unit.template multiply<2, 1>(space.at(o, r), left, right, steps, k == 0, ahead);
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
    unpackPairs<T>(space.weights, job, first, width, i, to);
    bool last = to == job.depth;
    int64_t nextFirst = last ? first + job.stride * job.chunkWidth : first, nextI = last ? 0 : to;
    Next<T> next(job, nextI, smaller(gemmDepth, job.depth - nextI), nextFirst,
                 smaller(job.chunkWidth, job.width - nextFirst));
    for (int64_t r = 0; r < space.rowPanels; r++) {
      const uint16_t* left = packedTile(job, i / gemmDepth, r * gemmPanel);
      bool both = job.rows - r * gemmPanel > 16;
      for (int64_t c = 0; c < space.outputPanels; c++) {
        const uint16_t* right = space.weights + c * gemmPanelBlock;
        Ahead ahead = next.part(r * space.outputPanels + c, space.rowPanels * space.outputPanels);
        if (both)
          unit.template multiply<2, 2>(space.at(c, r), left, right, steps, i == 0, ahead);
        else
          unit.template multiply<1, 2>(space.at(c, r), left, right, steps, i == 0, ahead);
      }
    }
  }
  finishAccumulate(job, space, first, width);
}

/** Without products with quantized weights where the tiles, which multiply bytes, are faster. */
constexpr Gemm makeGemm(bool multipliesQuantized) {
  return {
      packProduct,
      {nullptr, nullptr, packAccumulate<Brain>, packAccumulate<Int8>, packAccumulate<Int4>},
      {nullptr, nullptr, gemmProduct<Brain>, multipliesQuantized ? gemmProduct<Int8> : nullptr,
       multipliesQuantized ? gemmProduct<Int4> : nullptr},
      {nullptr, nullptr, gemmAccumulate<Brain>, gemmAccumulate<Int8>, gemmAccumulate<Int4>},
  };
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
