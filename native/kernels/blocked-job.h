/**
 * Products of several rows in ordinary vectors: what the planner in native/blocked.cc hands to the kernels. Plain data
 * only, as in table.h.
 *
 * Of many rows, x is packed once per op for all threads; weights are widened to float32 by each thread as it goes, a block at a
 * time, and kept in the first caches while all rows of x pass. With weights in floats an output is the very chain that
 * a row alone gets.
 */
#pragma once
#include <cstdint>

#include "table.h"

namespace dejavu {

/**
 * Of the product: out[r, o] = activation(Σ_k x[r, k] · weight[o, k] + bias[o]), outputs are weight rows.
 * Of the accumulation: out[r, c] += bias[c] + Σ_i x[r, i] · weight[i, c], sums are over weight rows.
 */
struct BlockedJob {
  float* out;            // [rows, outColumns]
  const float* x;        // [rows, xColumns]
  Weights weight;        // its columns: weightColumns
  const float* bias;     // [outColumns] or null
  const int32_t* index;  // the weight rows that take part, ascending; null: all
  float* rowScales;      // of the weight rows of an accumulation in integers
  float* packed;         // x: block after block of the sums, in each panel after panel of rows
  int64_t rows, outColumns, xColumns, weightColumns;
  int64_t width, depth;  // outputs of a row, and length of their sums
  int64_t chunkWidth;    // outputs of a chunk
  int64_t strands;       // of the accumulation: chains that are added in order at the end
  int64_t strand[strandCount + 1];  // where they start, and the end of the last
  bool relu;
};

/** One of the two ops, and how it wants to be cut. */
struct BlockedOp {
  int64_t panelRows;           // rows of x that a tile multiplies at once
  int64_t mostRows;            // that a chunk keeps in the second cache
  int64_t leastWidth, width, widthStep;  // outputs of a chunk: enough to please the prefetcher, at most, a multiple of
  int64_t perChunk, perOutput, perSum;  // floats of scratch: of a chunk, of each output and of each sum
  Kernel pack[weightTypes];      // chunk = panel of rows; null where x is read where it is
  Kernel multiply[weightTypes];  // chunk = chunkWidth outputs; null where a weight type is not for it
};

/**
 * `few`: of so few rows (at most fewRows) that widening weights apart, and packing x, costs more than widening weights for
 * each panel.
 */
struct Blocked {
  BlockedOp product, accumulate, fewProduct, fewAccumulate;
};
constexpr int64_t fewRows = 24;

}  // namespace dejavu
