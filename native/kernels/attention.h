/** Causal attention of one head of one row over the cache. */
#pragma once
#include "math.h"

namespace dejavu::DEJAVU_ISA {
namespace {

template <int W>
inline void scoreStep(float* scores, const float* q, const float* keys, int64_t stride, int64_t headDim, int64_t t) {
  const float* rows[W];
  for (int r = 0; r < W; r++) rows[r] = keys + (t + r) * stride;
  dots<W, false>(scores + t, rows, q, headDim, rows);
}

template <int W>
inline void mixStep(float* total, const float* weights, const float* values, int64_t stride, int64_t headDim, int64_t t) {
  const float* rows[W];
  for (int r = 0; r < W; r++) rows[r] = values + (t + r) * stride;
  addScaled<W, false>(total, rows, weights + t, headDim, rows);
}

/** Scratch: the head's sum [headDim], then the scores [position + rows]. */
void attention(const void* data, int64_t chunk, float* scratch) {
  const AttentionJob& job = *(const AttentionJob*)data;
  int64_t row = job.rows - 1 - chunk / job.heads;  // the last rows see most and go first
  int64_t head = chunk % job.heads;
  if (job.set.indices) {
    if (head >= job.set.counts[row]) return;
    head = job.set.indices[row * job.heads + head];
  }
  int64_t dim = job.headDim, stride = job.kvHeads * dim, seen = job.position + row + 1, t = 0;
  int64_t shared = head / (job.heads / job.kvHeads) * dim;  // where the head's keys and values lie in a cache row
  const float* q = job.q + (row * job.heads + head) * dim;
  float* out = job.out + (row * job.heads + head) * dim;
  float* total = scratch;
  float* scores = scratch + dim;

  for (; t + V::wide <= seen; t += V::wide) scoreStep<V::wide>(scores, q, job.keys + shared, stride, dim, t);
  for (; t < seen; t++) scoreStep<1>(scores, q, job.keys + shared, stride, dim, t);
  float scale = 1.0f / __builtin_sqrtf((float)dim);
  for (t = 0; t < seen; t++) scores[t] *= scale;
  float sum = exponentials(scores, scores, seen, maximum(scores, seen));

  for (int64_t c = 0; c < dim; c++) total[c] = 0;
  for (t = 0; t + 8 <= seen; t += 8) mixStep<8>(total, scores, job.values + shared, stride, dim, t);
  for (; t < seen; t++) mixStep<1>(total, scores, job.values + shared, stride, dim, t);
  for (int64_t c = 0; c < dim; c++) out[c] = total[c] / sum;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
