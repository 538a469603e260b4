/** recover: the product of keys and of values, for the positions that a head has left out and the rows' own. */
#pragma once
#include "convert.h"
#include "product-quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** A head's columns in some rows of the cache, and where products may write them: there itself, or in scratch. */
template <class C>
struct HeadRows {
  C* cache[blockRows];
  float* out[blockRows];
  int64_t count = 0, headDim;

  void store() const {
    if constexpr (sizeof(C) == 2)
      for (int64_t c = 0; c < count; c++) narrowElements((Half*)cache[c], out[c], headDim);
  }
};

/** Up to blockRows of the head's missing positions, after the first `skipped` of them: `each(row, stretch, position)`. */
template <class C, class Each>
inline HeadRows<C> gather(const RecoverJob& job, void* cache, int64_t head, int64_t skipped, float* scratch, Each each) {
  HeadRows<C> rows;
  rows.headDim = job.headDim;
  for (int64_t s = 0; s < job.stretchCount && rows.count < blockRows; s++) {
    const Stretch& stretch = job.stretches[s];
    Span span = job.spans[s * job.heads + head];
    int64_t left = smaller(skipped, span.to - span.from);
    skipped -= left;
    for (int64_t p = span.from + left; p < span.to && rows.count < blockRows; p++, rows.count++) {
      C* row = (C*)cache + cachePart(job.places, job.heads, stretch.sequence, p, head) * job.headDim;
      rows.cache[rows.count] = row;
      if constexpr (sizeof(C) == 2) rows.out[rows.count] = scratch + rows.count * job.headDim;
      else rows.out[rows.count] = row;
      each(rows.count, stretch, p);
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

/** What a chunk computes: a block of the positions that a head misses, of keys, of values, or of both. */
struct RecoverChunk {
  int64_t part, head, skipped;

  RecoverChunk(const RecoverJob& job, int64_t chunk)
      : part(chunk % job.parts),
        head(job.missing[chunk / job.parts % job.missingCount]),
        skipped(chunk / job.parts / job.missingCount * blockRows) {}
};

template <class C, class Q, Into cache = Into::first>
void recoverQuantized(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  auto [part, head, skipped] = RecoverChunk(job, chunk);
  for (int64_t which = part; which < 2; which += job.parts) {
    const PreparedPart* x[blockRows];
    HeadRows<C> rows = gather<C>(job, job.cache[which], head, skipped, scratch, [&](int64_t c, const Stretch& stretch, int64_t p) {
      x[c] = (const PreparedPart*)recoverInput(job, stretch, p);
    });
    if (rows.count == 0) return;
    int64_t row = 0;
    quantizedPanels<Q, cache>(headWeights(job, which, head), job.headDim, true, [&] { return row++; }, x, rows.count, rows.out,
                       headBias(job, which, head), false);
    rows.store();
  }
}

template <class C, class T>
void recover(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  auto [part, head, skipped] = RecoverChunk(job, chunk);
  for (int64_t which = part; which < 2; which += job.parts) {
    Panel<T> panel;
    panel.weight = headWeights(job, which, head);
    panel.bias = headBias(job, which, head);
    panel.k = job.d;
    panel.relu = false;
    HeadRows<C> rows = gather<C>(job, job.cache[which], head, skipped, scratch, [&](int64_t c, const Stretch& stretch, int64_t p) {
      panel.x[c] = (const float*)recoverInput(job, stretch, p);
    });
    if (rows.count == 0) return;
    panel.count = rows.count;
    for (int64_t c = 0; c < rows.count; c++) panel.out[c] = rows.out[c];
    for (int64_t first = 0; first < job.headDim; first += blockWeights) {
      int64_t index[blockWeights], count = smaller(blockWeights, job.headDim - first);
      for (int64_t i = 0; i < count; i++) index[i] = first + i;
      productPanel(panel, index, count, scratch + recoverOutputs(job.headDim));
    }
    rows.store();
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
