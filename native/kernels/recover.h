/** recover: the product of keys and of values, for the positions that a head has left out and the rows' own. */
#pragma once
#include "product-quantized.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Points the panel at up to blockRows of the head's missing positions, after the first `skipped` of them. */
template <class T>
inline void gather(Panel<T>& panel, const RecoverJob& job, float* cache, int64_t head, int64_t skipped) {
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
      panel.out[panel.count] = cache + cacheRow(job.places, stretch.sequence, p) * job.heads * job.headDim;
    }
  }
}

/** The same with quantized weights; the inputs are made ready in scratch. */
template <class Q>
void recoverQuantized(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  int64_t part = chunk % job.parts, head = chunk / job.parts % job.heads;
  int64_t skipped = chunk / job.parts / job.heads * blockRows;
  int64_t stride = (job.d + preparedColumns - 1) / preparedColumns * preparedColumns * preparedBytes;
  uint8_t* prepared = (uint8_t*)scratch;
  for (int64_t which = part; which < 2; which += job.parts) {
    Panel<float> panel;  // only its rows of x and out
    gather(panel, job, job.cache[which], head, skipped);
    for (int64_t c = 0; c < panel.count; c++)
      prepareRow((typename Q::Part*)(prepared + c * stride), panel.x[c], job.d);
    for (int64_t row = head * job.headDim; row < (head + 1) * job.headDim; row++)
      quantizedPanel<Q>(job.weight[which], row, prepared, stride, panel.count, panel.out, job.bias[which], false);
  }
}

template <class T>
void recover(const void* data, int64_t chunk, float* scratch) {
  const RecoverJob& job = *(const RecoverJob*)data;
  int64_t part = chunk % job.parts, head = chunk / job.parts % job.heads;
  int64_t skipped = chunk / job.parts / job.heads * blockRows;
  for (int64_t which = part; which < 2; which += job.parts) {
    Panel<T> panel;
    panel.weight = job.weight[which];
    panel.bias = job.bias[which];
    panel.k = job.d;
    panel.relu = false;
    gather(panel, job, job.cache[which], head, skipped);
    if (panel.count == 0) return;
    int64_t last = (head + 1) * job.headDim;
    for (int64_t first = head * job.headDim; first < last; first += blockWeights) {
      int64_t index[blockWeights], count = smaller(blockWeights, last - first);
      for (int64_t i = 0; i < count; i++) index[i] = first + i;
      productPanel(panel, index, count, scratch);
    }
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
