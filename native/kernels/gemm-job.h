/**
 * Products of many rows on a unit that multiplies bfloat16 pairs and adds in float32: what the planner in
 * native/gemm.cc hands to the kernels. Plain data only, as in table.h.
 *
 * One operand is rounded to bfloat16 once per op and packed for all threads (x, or the activations); the other, the
 * weights, is unpacked by each thread as it goes, a block at a time. An output is one sum over blocks of gemmDepth, in
 * order, whatever the threads and the number of rows.
 */
#pragma once
#include <cstdint>

#include "table.h"

namespace dejavu {

/** Rows, or columns, of a panel: two tiles of 16. */
constexpr int64_t gemmPanel = 32;
/** Steps of the sums whose operands one instruction takes, and those that a block holds. */
constexpr int64_t gemmStep = 32, gemmDepth = 512;
/** bfloat16 elements of a panel in one block. */
constexpr int64_t gemmPanelBlock = gemmPanel * gemmDepth;
/** Rows of x at once, and outputs of a chunk: a multiple of a group of columns, so that no group is cut. */
constexpr int64_t gemmRows = 512, gemmWidth = 256, gemmWidthStep = 64;

/**
 * Of the product: out[r, o] = activation(Σ_k x[r, k] · weight[o, k] + bias[o]), outputs are weight rows.
 * Of the accumulation: out[r, c] += bias[c] + Σ_i x[r, i] · weight[i, c], sums are over weight rows.
 */
struct GemmJob {
  float* out;            // [rows, outColumns]
  const float* x;        // [rows, xColumns]
  Weights weight;        // its columns: weightColumns
  const float* bias;     // [outColumns] or null
  const int32_t* index;  // the weight rows that take part, ascending; null: all
  uint16_t* packed;      // [blocks of depth, panels of rows, gemmPanelBlock]
  int64_t rows, outColumns, xColumns, weightColumns;
  int64_t width, depth;  // outputs of a row, and length of their sums
  int64_t chunkWidth;    // outputs of a chunk: a multiple of gemmWidthStep, at most gemmWidth
  int64_t stride;        // chunks from one to the next that the same thread is likely to do
  bool relu;
};

/** What one unit offers; null where a weight type is not for it. */
struct Gemm {
  Kernel packProduct;                  // chunk = (block of depth, 16 rows)
  Kernel packAccumulate[weightTypes];  // chunk = (block of depth, 16 rows)
  Kernel product[weightTypes];         // chunk = chunkWidth outputs
  Kernel accumulate[weightTypes];      // chunk = chunkWidth outputs
};

extern const Gemm amxGemm, avx512bf16Gemm;

}  // namespace dejavu
