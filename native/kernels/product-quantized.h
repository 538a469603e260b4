/** product and recover with quantized weights. An output is what `quantizedDots` gives, however many rows there are. */
#pragma once
#include "product.h"
#include "quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

inline QuantizedRow quantizedRow(const Weights& weight, int64_t index) {
  return {rowOf<uint8_t>(weight, index), weight.scales + index * weight.scaleStride};
}

/** The weight rows of one step, for one row of x. */
template <int W, class Q, class Fetch>
inline __attribute__((always_inline)) void quantizedStep(const ProductJob& job, const PreparedPart* x, float* out,
                                                         const int64_t* index, Fetch& fetch) {
  QuantizedRow rows[W];
  float total[W];
  for (int r = 0; r < W; r++) rows[r] = quantizedRow(job.weight, index[r]);
  quantizedDots<W, 1, Q>(total, rows, &x, job.weight.stride, fetch);
  for (int r = 0; r < W; r++) out[index[r]] = finish(job.bias, job.relu, total[r], index[r]);
}

/** `cache`: where rows in sequence are fetched into. */
template <class Q, Into cache = Into::first>
void productRowsQuantized(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t row = chunk / job.chunks, first = chunk % job.chunks * job.chunkRows;
  int64_t last = smaller(first + job.chunkRows, selectedRows(job.set, row));
  if (first >= last) return;
  const PreparedPart* x = (const PreparedPart*)(job.prepared + row * job.preparedStride);
  float* out = job.out + row * job.n;
  auto run = [&](auto steps) __attribute__((always_inline)) {
    NoFetch none;
    while (steps.step()) quantizedStep<decltype(steps)::wide, Q>(job, x, out, steps.index, steps);
    while (steps.last()) quantizedStep<1, Q>(job, x, out, steps.index, none);
  };
  constexpr int inSequence = V::wideCodes;
  // Scattered rows of int4 are so short that memory is busier with twice as many side by side.
  constexpr int scattered = Q::lineColumns == lineColumns4 && inSequence > 1 ? 2 * inSequence : inSequence;
  // Of short rows, as many bytes ahead are more rows.
  constexpr int64_t shortAhead = 16, ahead = 4;
  Cursor at(job.set, row, first);
  int64_t count = last - first;
  if (job.k <= partColumns && !job.set.indices) run(StretchSteps<inSequence>(job.weight, first, count, shortAhead));
  else if (job.k <= partColumns) run(RowSteps<inSequence>(job.weight, at, count, 0, shortAhead));
  else if (job.set.indices && job.set.perUnit < scattered)
    run(RowSteps<scattered>(job.weight, at, count, 0, scattered < ahead ? ahead : scattered));
  else run(RowSteps<inSequence, cache>(job.weight, at, count, 0, ahead));
}

/** Fetches rows so many bytes behind those that are read, and their scales. */
template <Into cache>
struct QuantizedBehind {
  const QuantizedRow* rows;
  int64_t ahead, scalesAhead, farAhead;

  FETCH void line(int r, int64_t byte) {
    if constexpr (cache == Into::both) fetchSecond(rows[r].codes + farAhead + byte);
    V::prefetch(rows[r].codes + ahead + byte);
  }
  FETCH void scale(int r, int64_t byte) { V::prefetch(rows[r].scales + scalesAhead + byte); }
};

/** Weight rows that a panel treats side by side, and those behind them that are fetched meanwhile. */
constexpr int panelRows = V::wideCodes, panelAhead = 4;

/** Rows of x, prepared, against W weight rows; `ahead` and `farAhead` rows behind each, others are fetched. */
template <int W, class Q, Into cache = Into::first>
inline void quantizedPanel(const Weights& weight, const int64_t* index, int64_t ahead, int64_t farAhead,
                           const PreparedPart* const* x, int64_t count, float* const* out, const float* bias, bool relu) {
  QuantizedRow rows[W];
  for (int r = 0; r < W; r++) rows[r] = quantizedRow(weight, index[r]);
  QuantizedBehind<cache> next{rows, ahead * weight.stride, ahead * weight.scaleStride, farAhead * weight.stride};
  constexpr int X = W == 1 || lanes == 16 ? 4 : 2;  // as many chains as there are registers for
  overPanels<X>(count, [&](int64_t p, auto number) __attribute__((always_inline)) {
    constexpr int n = decltype(number)::value;
    int64_t c = p * X;
    float total[n * W];
    quantizedDots<W, n, Q>(total, rows, x + c, weight.stride, next);
    for (int i = 0; i < n; i++)
      for (int r = 0; r < W; r++) out[c + i][index[r]] = finish(bias, relu, total[i * W + r], index[r]);
  });
}

/** The panels of `count` weight rows, of which `next()` gives one after the other, in sequence if so. */
template <class Q, Into cache = Into::first, class Next>
inline void quantizedPanels(const Weights& weight, int64_t count, bool inSequence, Next next, const PreparedPart* const* x,
                            int64_t xCount, float* const* out, const float* bias, bool relu) {
  int64_t index[panelRows];
  for (; count >= panelRows; count -= panelRows) {
    for (int r = 0; r < panelRows; r++) index[r] = next();
    auto within = [&](int64_t rows) { return inSequence && count >= panelRows + rows ? rows : 0; };
    quantizedPanel<panelRows, Q, cache>(weight, index, within(panelAhead), within(2 * panelAhead), x, xCount, out, bias, relu);
  }
  for (; panelRows > 1 && count > 0; count--) {
    index[0] = next();
    quantizedPanel<1, Q>(weight, index, 0, 0, x, xCount, out, bias, relu);
  }
}

template <class Q>
void productTilesQuantized(const void* data, int64_t chunk, float*) {
  const ProductJob& job = *(const ProductJob*)data;
  int64_t firstX = chunk / job.chunks * blockRows, count = smaller(blockRows, job.rows - firstX);
  int64_t first = chunk % job.chunks * job.chunkRows, last = smaller(first + job.chunkRows, selectedRows(job.set, 0));
  float* out[blockRows];
  const PreparedPart* x[blockRows];
  for (int64_t c = 0; c < count; c++) {
    out[c] = job.out + (firstX + c) * job.n;
    x[c] = (const PreparedPart*)(job.prepared + (firstX + c) * job.preparedStride);
  }
  Cursor at(job.set, 0, first);
  quantizedPanels<Q>(job.weight, last - first, !job.set.indices, [&] { return at.next(); }, x, count, out, job.bias, job.relu);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
