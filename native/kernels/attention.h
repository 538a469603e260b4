/** Causal attention over the cache: of each row, of some of its heads. */
#pragma once
#include "math.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** The values of the positions, so many bytes behind their keys, are wanted next and fetched meanwhile. */
template <int W, class C>
inline void scoreStep(float* scores, const float* q, const C* keys, int64_t values, int64_t headDim) {
  const C* rows[W];
  for (int r = 0; r < W; r++) rows[r] = keys + r * headDim;
  RowsBehind<C> soon{rows, values};
  dots<W>(scores, rows, q, headDim, soon);
}

/** total[c] += Σ_t weights[t] · values[t][c] for N vectors of columns, whose chains over t stay in registers. */
template <int N, class C>
inline void mixColumns(float* total, const float* weights, const C* values, int64_t headDim, int64_t rows) {
  F acc[N];
  UNROLL for (int c = 0; c < N; c++) acc[c] = V::load(total + c * lanes);
  for (int64_t t = 0; t < rows; t++, values += headDim) {
    F f = V::broadcast(weights[t]);
    UNROLL for (int c = 0; c < N; c++) acc[c] = V::fma(f, V::load(values + c * lanes), acc[c]);
  }
  UNROLL for (int c = 0; c < N; c++) V::store(total + c * lanes, acc[c]);
}

/** The same for all columns of a head. */
template <class C>
inline void mix(float* total, const float* weights, const C* values, int64_t headDim, int64_t rows) {
  constexpr int wide = 32 / lanes;
  int64_t c = 0;
  for (; c + wide * lanes <= headDim; c += wide * lanes) mixColumns<wide>(total + c, weights, values + c, headDim, rows);
  for (; c + 2 * lanes <= headDim; c += 2 * lanes) mixColumns<2>(total + c, weights, values + c, headDim, rows);
  for (; c + lanes <= headDim; c += lanes) mixColumns<1>(total + c, weights, values + c, headDim, rows);
  if (int n = (int)(headDim - c)) {
    F acc = V::loadTail(total + c, n);
    for (int64_t t = 0; t < rows; t++)
      acc = V::fma(V::broadcast(weights[t]), V::loadTail(values + t * headDim + c, n), acc);
    V::storeTail(total + c, acc, n);
  }
}

/**
 * Calls `each(what a head has there, position, rows)` for the pages that hold the first `seen` positions, in their order.
 * A head's rows of a page follow each other, so that they are read as one stretch.
 */
template <class C, class Each>
inline void overPages(const AttentionJob& job, const void* cache, int64_t sequence, int64_t head, int64_t seen, Each each) {
  for (int64_t t = 0; t < seen; t += job.places.pageRows)
    each((const C*)cache + cachePart(job.places, job.kvHeads, sequence, t, head) * job.headDim, t,
         smaller(job.places.pageRows, seen - t));
}

/** Scratch: the head's sum [headDim], then the scores of all positions seen. Where pages end changes no sum. */
template <class C>
inline void attendTo(const AttentionJob& job, int64_t row, int64_t head, float* scratch) {
  int64_t dim = job.headDim, seen = job.places.positions[row] + 1;
  int64_t sequence = job.places.sequences[row];
  int64_t shared = head / (job.heads / job.kvHeads);  // whose keys and values it uses
  const float* q = job.q + (row * job.heads + head) * dim;
  float* out = job.out + (row * job.heads + head) * dim;
  float* total = scratch;
  float* scores = scratch + dim;

  overPages<C>(job, job.keys, sequence, shared, seen, [&](const C* keys, int64_t position, int64_t rows) {
    int64_t values = (const uint8_t*)job.values - (const uint8_t*)job.keys;
    float* to = scores + position;
    int64_t t = 0;
    for (; t + V::wide <= rows; t += V::wide) scoreStep<V::wide>(to + t, q, keys + t * dim, values, dim);
    for (; t < rows; t++) scoreStep<1>(to + t, q, keys + t * dim, values, dim);
  });
  float scale = 1.0f / __builtin_sqrtf((float)dim);
  for (int64_t t = 0; t < seen; t++) scores[t] *= scale;
  float sum = exponentials(scores, scores, seen, maximum(scores, seen));

  for (int64_t c = 0; c < dim; c++) total[c] = 0;
  overPages<C>(job, job.values, sequence, shared, seen, [&](const C* values, int64_t position, int64_t rows) {
    mix(total, scores + position, values, dim, rows);
  });
  for (int64_t c = 0; c < dim; c++) out[c] = total[c] / sum;
}

template <class C>
void attention(const void* data, int64_t chunk, float* scratch) {
  const AttentionJob& job = *(const AttentionJob*)data;
  int64_t row = job.rows - 1 - chunk / job.chunks;  // the last rows see most and go first
  int64_t first = chunk % job.chunks * job.chunkHeads, last = smaller(first + job.chunkHeads, selectedRows(job.set, row));
  Cursor at(job.set, row, first);
  for (; first < last; first++) attendTo<C>(job, row, at.next(), scratch);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
