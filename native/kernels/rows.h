/** Ops that move or reduce whole rows. A chunk is `chunkRows` rows of the job. */
#pragma once
#include "math.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Calls `each(job, row)` for the rows of a chunk. */
template <void (*each)(const RowsJob&, int64_t)>
void overRows(const void* data, int64_t chunk, float*) {
  const RowsJob& job = *(const RowsJob*)data;
  int64_t last = smaller((chunk + 1) * job.chunkRows, job.rows);
  for (int64_t row = chunk * job.chunkRows; row < last; row++) each(job, row);
}

/** Ids were checked before. */
template <class T>
void embeddingRow(const RowsJob& job, int64_t row) {
  const T* from = rowOf<T>(job.table, job.ids[row]);
  float* out = job.out + row * job.columns;
  int64_t c = 0;
  for (; c + lanes <= job.columns; c += lanes) V::store(out + c, V::load(from + c));
  if (int n = (int)(job.columns - c)) V::storeTail(out + c, V::loadTail(from + c, n), n);
}

/** `k` is the offset; the indices were checked before. */
template <class T>
void addRow(const RowsJob& job, int64_t row) {
  const T* from = rowOf<T>(job.table, job.ids[row] + job.k);
  float* out = job.out + row * job.columns;
  int64_t c = 0;
  for (; c + lanes <= job.columns; c += lanes) V::store(out + c, V::add(V::load(out + c), V::load(from + c)));
  if (int n = (int)(job.columns - c))
    V::storeTail(out + c, V::add(V::loadTail(out + c, n), V::loadTail(from + c, n)), n);
}

/** Rows are columns of x here: each chunk writes whole rows of out. `k` is the number of rows of x. */
void transposeRow(const RowsJob& job, int64_t column) {
  for (int64_t r = 0; r < job.k; r++) job.out[column * job.k + r] = job.x[r * job.columns + column];
}

/** Σ (x - shift) or, squared, Σ (x - shift)²: four chains, so that long rows do not wait on one. */
template <bool squared>
inline float total(const float* x, int64_t n, float shift) {
  F sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()}, minus = V::broadcast(shift);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    UNROLL for (int j = 0; j < 4; j++) {
      F v = V::sub(V::load(x + i + j * lanes), minus);
      sum[j] = squared ? V::fma(v, v, sum[j]) : V::add(sum[j], v);
    }
  }
  float rest = 0;
  for (; i < n; i++) rest += squared ? (x[i] - shift) * (x[i] - shift) : x[i] - shift;
  return V::sum(V::add(V::add(sum[0], sum[1]), V::add(sum[2], sum[3]))) + rest;
}

/** `number` is epsilon. */
void layerNormRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns;
  float* out = job.out + row * job.columns;
  float n = (float)job.columns;
  float mean = total<false>(x, job.columns, 0) / n;
  float scale = 1.0f / __builtin_sqrtf(total<true>(x, job.columns, mean) / n + job.number);
  for (int64_t i = 0; i < job.columns; i++) {
    float v = (x[i] - mean) * scale;
    if (job.weight) v *= job.weight[i];
    out[i] = job.bias ? v + job.bias[i] : v;
  }
}

/** `columns` is the number of units, `k` the width of one. */
void unitNormsRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns * job.k;
  for (int64_t u = 0; u < job.columns; u++)
    job.out[row * job.columns + u] = __builtin_sqrtf(total<true>(x + u * job.k, job.k, 0));
}

void logSoftmaxRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns;
  float* out = job.out + row * job.columns;
  float most = maximum(x, job.columns);
  float rest = __builtin_logf(exponentials(nullptr, x, job.columns, most));
  for (int64_t i = 0; i < job.columns; i++) out[i] = (x[i] - most) - rest;
}

/** `ids` is the i32 output here. */
void argmaxRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns;
  float most = maximum(x, job.columns);
  int64_t i = 0;
  F wanted = V::broadcast(most);
  while (i + lanes <= job.columns && !V::equal(V::load(x + i), wanted)) i += lanes;
  while (i < job.columns && x[i] != most) i++;
  ((int32_t*)job.ids)[row] = i < job.columns ? (int32_t)i : 0;
}

/** The read probe: adds up `columns` floats, and stores what nobody wants so that the reads must happen. */
void readSum(const void* data, int64_t chunk, float* scratch) {
  const RowsJob& job = *(const RowsJob*)data;
  const float* x = job.x + chunk * job.columns;
  F sum[8];
  UNROLL for (int j = 0; j < 8; j++) sum[j] = V::zero();
  for (int64_t i = 0; i + 8 * lanes <= job.columns; i += 8 * lanes)
    UNROLL for (int j = 0; j < 8; j++) sum[j] = V::add(sum[j], V::load(x + i + j * lanes));
  F all = sum[0];
  UNROLL for (int j = 1; j < 8; j++) all = V::add(all, sum[j]);
  V::store(scratch, all);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
