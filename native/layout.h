/** How matrices lie in memory: of quantized ones, the codes of all rows and then the scales of all rows. */
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/table.h"

namespace dejavu {

/** Bytes; `columns` are padded to whole lines of codes. */
struct Layout {
  int64_t stride;       // of a row of elements, or of codes
  int64_t scaleStride;  // of a row of scales
  int64_t scaleOffset;  // where the scales start
  int64_t bytes;        // of the whole matrix
};

inline Layout layoutOf(Dtype dtype, int64_t rows, int64_t columns) {
  auto wholes = [&](int64_t size) { return (columns + size - 1) / size; };
  Layout layout{};
  switch (dtype) {
    case Dtype::f32:
    case Dtype::i32: layout.stride = columns * 4; break;
    case Dtype::f16:
    case Dtype::bf16: layout.stride = columns * 2; break;
    case Dtype::u8: layout.stride = columns; break;
    case Dtype::int8:
      layout.stride = wholes(groupColumns) * groupColumns;
      layout.scaleStride = 4;
      break;
    case Dtype::int4:
      layout.stride = wholes(lineColumns4) * lineColumns4 / 2;
      layout.scaleStride = wholes(partColumns) * partBlocks * 2;
      break;
  }
  layout.scaleOffset = rows * layout.stride;
  if (layout.scaleStride > 0) layout.scaleOffset = (layout.scaleOffset + 63) / 64 * 64;
  layout.bytes = layout.scaleOffset + rows * layout.scaleStride;
  return layout;
}

/** The place of a weight type in the arrays of `Table`, or -1. */
inline int weightIndex(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return static_cast<int>(WeightType::f32);
    case Dtype::f16: return static_cast<int>(WeightType::f16);
    case Dtype::bf16: return static_cast<int>(WeightType::bf16);
    case Dtype::int8: return static_cast<int>(WeightType::int8);
    case Dtype::int4: return static_cast<int>(WeightType::int4);
    default: return -1;
  }
}

inline bool isQuantized(Dtype dtype) { return dtype == Dtype::int8 || dtype == Dtype::int4; }

}  // namespace dejavu
