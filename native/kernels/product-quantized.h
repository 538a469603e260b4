/** product and recover with quantized weights. An output's chain is that of `quantizedDots`, however many rows there are. */
#pragma once
#include "product.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline QuantizedRow quantizedRow(const Weights& weight, int64_t index) {
  return {rowOf<uint8_t>(weight, index), weight.scales + index * weight.scaleStride};
}

/** W weight rows from the cursor on, for one row of x. */
template <int W, class Q, class Fetch>
inline __attribute__((always_inline)) void quantizedStep(const ProductJob& job, const uint8_t* x, float* out, Cursor& at, Fetch& fetch) {
  QuantizedRow rows[W];
  int64_t index[W];
  float total[W];
  for (int r = 0; r < W; r++) rows[r] = quantizedRow(job.weight, index[r] = at.next());
  quantizedDots<W, 1, Q>(total, rows, &x, [&](auto& acc, auto x) __attribute__((always_inline)) {
    chainRows<W, 1>(acc, rows, x, 0, job.weight.stride, fetch);
  });
  for (int r = 0; r < W; r++) out[index[r]] = finish(job.bias, job.relu, total[r], index[r]);
}

/** The same for gathered rows, of which `left` follow. */
template <int W, class Q>
inline __attribute__((always_inline)) void quantizedGathered(const ProductJob& job, const uint8_t* x, float* out, Cursor& at, int64_t left) {
  QuantizedRow rows[W];
  int64_t index[W];
  float total[W];
  for (int r = 0; r < W; r++) rows[r] = quantizedRow(job.weight, index[r] = at.next());
  constexpr int64_t step = Q::parts == 1 ? 128 : partBytes<Q>;
  Ahead<W> ahead(job.weight, index, at, left, job.k, job.weight.stride, step);
  quantizedDots<W, 1, Q>(total, rows, &x, [&](auto& acc, auto x) __attribute__((always_inline)) {
    chainRows<W, 1>(acc, rows, x, 0, ahead.turn, ahead.near);
    chainRows<W, 1>(acc, rows, x, ahead.turn, job.weight.stride, ahead.far);
  });
  for (int r = 0; r < W; r++) out[index[r]] = finish(job.bias, job.relu, total[r], index[r]);
}

/** Rows of codes are read one after the other where they lie so, and fetched this many ahead; gathered, four at a time. */
constexpr int64_t denseAheadQuantized = 16, gatheredTogether = 4;

template <class Q>
void productRowsQuantized(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkRows;
  int64_t last = smaller(first + job.chunkRows, selectedRows(job.set, row));
  if (first >= last) return;
  const uint8_t* x = job.prepared + row * job.preparedStride;
  float* out = job.out + row * job.n;
  Cursor at(job.set, row, first);
  int64_t i = first;
  if (job.set.indices) {
    constexpr int W = gatheredTogether;
    for (; i + W <= last; i += W) quantizedGathered<W, Q>(job, x, out, at, last - i - W);
  } else {
    RowStream ahead(job.weight, job.set, row, first + denseAheadQuantized, last, 0, job.weight.stride);
    for (; i < last; i++) quantizedStep<1, Q>(job, x, out, at, ahead);
  }
  NoFetch none;
  for (; i < last; i++) quantizedStep<1, Q>(job, x, out, at, none);
}

/** Rows of x, prepared, against one weight row. */
template <class Q>
inline void quantizedPanel(const Weights& weight, int64_t index, const uint8_t* prepared, int64_t stride, int64_t count,
                           float* const* out, const float* bias, bool relu) {
  constexpr int X = 4;
  QuantizedRow row = quantizedRow(weight, index);
  auto some = [&](auto number, int64_t c) __attribute__((always_inline)) {
    constexpr int n = decltype(number)::value;
    const uint8_t* x[n];
    float total[n];
    for (int i = 0; i < n; i++) x[i] = prepared + (c + i) * stride;
    NoFetch none;
    quantizedDots<1, n, Q>(total, &row, x, [&](auto& acc, auto x) __attribute__((always_inline)) {
      chainRows<1, n>(acc, &row, x, 0, weight.stride, none);
    });
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
