/** product and recover with quantized weights. An output's chain is that of `quantizedDots`, however many rows there are. */
#pragma once
#include "product.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Weight rows between the one at work and the one that is fetched. */
constexpr int64_t rowsAhead = 4;

template <class Q>
inline QuantizedRow quantizedRow(const Weights& weight, int64_t index, int64_t next) {
  return {rowOf<uint8_t>(weight, index), weight.scales + index * weight.scaleStride, rowOf<uint8_t>(weight, next),
          weight.scales + next * weight.scaleStride};
}

template <class Q>
void productRowsQuantized(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkRows;
  int64_t last = smaller(first + job.chunkRows, selectedRows(job.set, row));
  if (first >= last) return;
  const uint8_t* x = job.prepared + row * job.preparedStride;
  float* out = job.out + row * job.n;
  Cursor at(job.set, row, first);
  float total;
  if (!job.set.indices) {
    for (int64_t i = first; i < last; i++) {
      quantizedDots<1, false, Q>(&total, quantizedRow<Q>(job.weight, i, i), &x, job.weight.stride);
      out[i] = finish(job.bias, job.relu, total, i);
    }
    return;
  }
  Cursor later(job.set, row, smaller(first + rowsAhead, last));
  for (int64_t i = first; i < last; i++) {
    int64_t index = at.next();
    if (i + rowsAhead < last)
      quantizedDots<1, true, Q>(&total, quantizedRow<Q>(job.weight, index, later.next()), &x, job.weight.stride);
    else
      quantizedDots<1, false, Q>(&total, quantizedRow<Q>(job.weight, index, index), &x, job.weight.stride);
    out[index] = finish(job.bias, job.relu, total, index);
  }
}

/** Rows of x, prepared, against one weight row. */
template <class Q>
inline void quantizedPanel(const Weights& weight, int64_t index, const uint8_t* prepared, int64_t stride, int64_t count,
                           float* const* out, const float* bias, bool relu) {
  constexpr int X = 4;
  QuantizedRow row = quantizedRow<Q>(weight, index, index);
  auto some = [&](auto number, int64_t c) __attribute__((always_inline)) {
    constexpr int n = decltype(number)::value;
    const uint8_t* x[n];
    float total[n];
    for (int i = 0; i < n; i++) x[i] = prepared + (c + i) * stride;
    quantizedDots<n, false, Q>(total, row, x, weight.stride);
    for (int i = 0; i < n; i++) out[c + i][index] = finish(bias, relu, total[i], index);
  };
  int64_t c = 0;
  for (; c + X <= count; c += X) some(Number<X>{}, c);
  for (; c < count; c++) some(Number<1>{}, c);
}

template <class Q>
void productTilesQuantized(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t firstX = chunk / job.chunks * blockRows, count = smaller(blockRows, job.rows - firstX);
  int64_t first = chunk % job.chunks * job.chunkRows, last = smaller(first + job.chunkRows, selectedRows(job.set, 0));
  float* out[blockRows];
  for (int64_t c = 0; c < count; c++) out[c] = job.out + (firstX + c) * job.n;
  const uint8_t* prepared = job.prepared + firstX * job.preparedStride;
  Cursor at(job.set, 0, first);
  for (int64_t i = first; i < last; i++)
    quantizedPanel<Q>(job.weight, at.next(), prepared, job.preparedStride, count, out, job.bias, job.relu);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
