/** How much work is worth sharing, and the check of what an active set holds. */
#pragma once
#include "words.h"

namespace dejavu {

/** Work below this is done at once by the caller: sharing it costs more than reading half of it from cache. */
constexpr int64_t inlineBytes = 32 << 10;
/** A piece has at least this much, or claiming it costs too much beside doing it. */
constexpr int64_t pieceBytes = 36 << 10;
/** Floats that a panel of the many-row product keeps: widened weights, and chains of up to 16 lanes. */
constexpr size_t panelScratch = blockWeights * blockDepth + blockRows * blockWeights * 16;

inline int64_t multiple(int64_t a, int64_t b) { return (a + b - 1) / b * b; }
inline int64_t quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }

/** Columns of an accumulation's chunks come in multiples of this. */
inline int64_t stepOf(Dtype weight) { return weight == Dtype::int4 ? columnStep4 : columnStep; }

/** Where the strands of the first row's set start among its weight rows, and where the last ends. The set has been checked. */
inline void findStrands(const Units& set, int64_t* from) {
  for (int64_t s = 0; s <= strandsOf(set); s++) from[s] = strandStart(set, 0, s);
}

/** Bytes of a row of x that was made ready for products with quantized weights. */
inline int64_t preparedBytes(int64_t columns) {
  return quotient(columns, partColumns) * static_cast<int64_t>(sizeof(PreparedPart));
}

inline Weights rowsFrom(const Matrix& matrix, int64_t row) {
  Weights weights = matrix.weights();
  weights.data += row * weights.stride;
  if (weights.scales) weights.scales += row * weights.scaleStride;
  return weights;
}

/** Throws unless every row's units are ascending and in range; returns the largest number of units. */
inline int64_t checkUnits(const Units& set, int64_t rows) {
  if (!set.indices) return set.units;
  if (set.shared && rows > 1) rows = 1;
  int64_t most = 0;
  for (int64_t r = 0; r < rows; r++) {
    int32_t count = set.counts[r];
    need(count >= 0 && count <= set.units, "an active set holds more units than there are");
    const int32_t* unit = set.indices + r * set.units;
    int32_t bad = 0;
    for (int32_t i = 1; i < count; i++) bad |= unit[i] <= unit[i - 1];
    if (count > 0) bad |= unit[0] < 0 || unit[count - 1] >= set.units;
    need(!bad, "an active set is not ascending or out of range");
    if (count > most) most = count;
  }
  return most;
}

}  // namespace dejavu
