/** Causal attention of one head of one row over the cache. */
#pragma once
#include "math.h"

namespace dejavu::DEJAVU_ISA {
namespace {

template <int W, class C>
inline void scoreStep(float* scores, const float* q, const C* keys, int64_t stride, int64_t headDim, int64_t t) {
  const C* rows[W];
  for (int r = 0; r < W; r++) rows[r] = keys + (t + r) * stride;
  NoFetch none;
  dots<W>(scores + t, rows, q, headDim, none);
}

template <int W, class C>
inline void mixStep(float* total, const float* weights, const C* values, int64_t stride, int64_t headDim, int64_t t) {
  const C* rows[W];
  for (int r = 0; r < W; r++) rows[r] = values + (t + r) * stride;
  NoFetch none;
  addScaled<W>(total, rows, weights + t, headDim, none);
}

/** Calls `each(first cache row, position, rows)` for the pages that hold the first `seen` positions, in their order. */
template <class Each>
inline void overPages(const Places& places, int64_t sequence, int64_t seen, Each each) {
  const int32_t* page = places.pages + sequence * places.maxPages;
  for (int64_t t = 0; t < seen; t += places.pageRows)
    each(*page++ * places.pageRows, t, smaller(places.pageRows, seen - t));
}

/** Scratch: the head's sum [headDim], then the scores of all positions seen. Where pages end changes no sum. */
template <class C>
void attention(const void* data, int64_t chunk, float* scratch) {
  const AttentionJob& job = *(const AttentionJob*)data;
  int64_t row = job.rows - 1 - chunk / job.heads;  // the last rows see most and go first
  int64_t head = chunk % job.heads;
  if (job.set.indices) {
    int64_t setRow = job.set.shared ? 0 : row;
    if (head >= job.set.counts[setRow]) return;
    head = job.set.indices[setRow * job.heads + head];
  }
  int64_t dim = job.headDim, stride = job.kvHeads * dim, seen = job.places.positions[row] + 1;
  int64_t sequence = job.places.sequences[row];
  int64_t shared = head / (job.heads / job.kvHeads) * dim;  // where the head's keys and values lie in a cache row
  const float* q = job.q + (row * job.heads + head) * dim;
  float* out = job.out + (row * job.heads + head) * dim;
  float* total = scratch;
  float* scores = scratch + dim;

  overPages(job.places, sequence, seen, [&](int64_t first, int64_t position, int64_t rows) {
    const C* keys = (const C*)job.keys + first * stride + shared;
    int64_t t = 0;
    for (; t + V::wide <= rows; t += V::wide) scoreStep<V::wide>(scores + position, q, keys, stride, dim, t);
    for (; t < rows; t++) scoreStep<1>(scores + position, q, keys, stride, dim, t);
  });
  float scale = 1.0f / __builtin_sqrtf((float)dim);
  for (int64_t t = 0; t < seen; t++) scores[t] *= scale;
  float sum = exponentials(scores, scores, seen, maximum(scores, seen));

  for (int64_t c = 0; c < dim; c++) total[c] = 0;
  overPages(job.places, sequence, seen, [&](int64_t first, int64_t position, int64_t rows) {
    const C* values = (const C*)job.values + first * stride + shared;
    int64_t t = 0;
    for (; t + 8 <= rows; t += 8) mixStep<8>(total, scores + position, values, stride, dim, t);
    for (; t < rows; t++) mixStep<1>(total, scores + position, values, stride, dim, t);
  });
  for (int64_t c = 0; c < dim; c++) out[c] = total[c] / sum;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
