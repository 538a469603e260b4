/** recover: the product of keys and of values, for the positions that a head has left out and the rows' own. */
#pragma once
#include "convert.h"
#include "product-quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** A head's columns in the cache rows of a panel, and where products may write them: there itself, or in scratch. */
template <class C>
struct HeadRows {
  C* cache[blockRows];
  int64_t headDim;

  void store(const float* const* out, int64_t count) const {
    if constexpr (sizeof(C) == 2)
      for (int64_t c = 0; c < count; c++) narrowElements((Half*)cache[c], out[c], headDim);
  }
};

/**
 * Points the panel at up to blockRows of the head's missing positions, after the first `skipped` of them; its outputs are
 * the head's columns alone.
 */
template <class C, class T>
inline HeadRows<C> gather(Panel<T>& panel, const RecoverJob& job, void* cache, int64_t head, int64_t skipped, float* scratch) {
  HeadRows<C> rows;
  rows.headDim = job.headDim;
  panel.count = 0;
  for (int64_t s = 0; s < job.stretchCount && panel.count < blockRows; s++) {
    const Stretch& stretch = job.stretches[s];
    Span span = job.spans[s * job.heads + head];
    int64_t left = smaller(skipped, span.to - span.from);
    skipped -= left;
    for (int64_t p = span.from + left; p < span.to && panel.count < blockRows; p++, panel.count++) {
      panel.x[panel.count] = p >= stretch.position
                                 ? job.x + (stretch.row + p - stretch.position) * job.d
                                 : job.inputs + (stretch.sequence * job.window + p % job.window) * job.d;
      C* row = (C*)cache + cachePart(job.places, job.heads, stretch.sequence, p, head) * job.headDim;
      rows.cache[panel.count] = row;
      if constexpr (sizeof(C) == 2) panel.out[panel.count] = scratch + panel.count * job.headDim;
      else panel.out[panel.count] = row;
    }
  }
  return rows;
}

/** The weights of the head's rows, so that they count from 0. */
inline Weights headWeights(const RecoverJob& job, int64_t which, int64_t head) {
  Weights weight = job.weight[which];
  weight.data += head * job.headDim * weight.stride;
  if (weight.scales) weight.scales += head * job.headDim * weight.scaleStride;
  return weight;
}
inline const float* headBias(const RecoverJob& job, int64_t which, int64_t head) {
  return job.bias[which] ? job.bias[which] + head * job.headDim : nullptr;
}

/** With quantized weights: the inputs are made ready in scratch, behind the outputs. */
template <class C, class Q>
void recoverQuantized(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  int64_t part = chunk % job.parts, head = chunk / job.parts % job.heads;
  int64_t skipped = chunk / job.parts / job.heads * blockRows;
  int64_t stride = (job.d + partColumns - 1) / partColumns * (int64_t)sizeof(PreparedPart);
  uint8_t* prepared = (uint8_t*)(scratch + recoverOutputs(job.headDim));
  for (int64_t which = part; which < 2; which += job.parts) {
    Panel<float> panel;  // only its rows of x and out
    HeadRows<C> rows = gather<C>(panel, job, job.cache[which], head, skipped, scratch);
    if (panel.count == 0) return;
    for (int64_t c = 0; c < panel.count; c++)
      prepareRow<Q>((PreparedPart*)(prepared + c * stride), panel.x[c], job.d);
    Weights weight = headWeights(job, which, head);
    for (int64_t row = 0; row < job.headDim; row++)
      quantizedPanel<Q>(weight, row, rowsAhead, prepared, stride, panel.count, panel.out, headBias(job, which, head), false);
    rows.store(panel.out, panel.count);
  }
}

template <class C, class T>
void recover(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  int64_t part = chunk % job.parts, head = chunk / job.parts % job.heads;
  int64_t skipped = chunk / job.parts / job.heads * blockRows;
  for (int64_t which = part; which < 2; which += job.parts) {
    Panel<T> panel;
    panel.weight = headWeights(job, which, head);
    panel.bias = headBias(job, which, head);
    panel.k = job.d;
    panel.relu = false;
    HeadRows<C> rows = gather<C>(panel, job, job.cache[which], head, skipped, scratch);
    if (panel.count == 0) return;
    for (int64_t first = 0; first < job.headDim; first += blockWeights) {
      int64_t index[blockWeights], count = smaller(blockWeights, job.headDim - first);
      for (int64_t i = 0; i < count; i++) index[i] = first + i;
      productPanel(panel, index, count, scratch + recoverOutputs(job.headDim));
    }
    rows.store(panel.out, panel.count);
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
