/** Selectors: scores to ascending lists of units. All comparisons are false for NaN, which is how NaN is left out. */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Maps float bits to integers in the order of the floats, and back. Both zeros lie between their neighbours. */
inline uint32_t orderOf(float v) {
  uint32_t bits = bitsOf(v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
inline float floatOf(uint32_t order) {
  return withBits(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

inline uint32_t lowBits(int n) { return (1u << n) - 1; }

inline int64_t countAtLeast(const float* x, int64_t n, float threshold) {
  F t = V::broadcast(threshold);
  int64_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) count += __builtin_popcount(V::atLeast(V::load(x + i), t));
  if (int rest = (int)(n - i)) count += __builtin_popcount(V::atLeast(V::loadTail(x + i, rest), t) & lowBits(rest));
  return count;
}

/** Every unit above the threshold and the first `equals` of those that equal it. */
inline int32_t appendAbove(int32_t* out, const float* x, int64_t n, float threshold, int64_t equals) {
  F t = V::broadcast(threshold);
  int32_t count = 0;
  for (int64_t i = 0; i < n; i += lanes) {
    int width = (int)smaller(lanes, n - i);
    F v = width == lanes ? V::load(x + i) : V::loadTail(x + i, width);
    uint32_t bits = V::greater(v, t);
    if (equals > 0) {
      uint32_t same = V::equal(v, t) & lowBits(width);
      while (__builtin_popcount(same) > equals) same ^= 0x80000000u >> __builtin_clz(same);  // drop the highest
      equals -= __builtin_popcount(same);
      bits |= same;
    }
    count += V::append(out + count, (int32_t)i, bits & lowBits(width));
  }
  return count;
}

/** Finds by bisection over the ordered floats the largest t with at least k scores ≥ t. */
void selectTopKRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns;
  int32_t* out = (int32_t*)job.set.indices + row * job.columns;
  int64_t n = job.columns, k = smaller(job.k, n);
  uint32_t low = orderOf(-__builtin_inff()), high = orderOf(__builtin_inff());
  int64_t numbers = countAtLeast(x, n, floatOf(low));
  if (k == 0 || numbers < k) {  // all numbers, then the lowest NaNs
    int64_t missing = k - smaller(k, numbers), count = 0;
    for (int64_t u = 0; u < n && k > 0; u++)
      if (x[u] == x[u])
        out[count++] = (int32_t)u;
      else if (missing > 0) {
        missing--;
        out[count++] = (int32_t)u;
      }
    job.set.counts[row] = (int32_t)k;
    return;
  }
  while (low < high) {
    uint32_t middle = low + (high - low + 1) / 2;
    int64_t count = countAtLeast(x, n, floatOf(middle));
    if (count >= k) low = middle;
    else high = middle - 1;
    if (count == k) break;
  }
  float threshold = floatOf(low);
  int64_t above = low == orderOf(__builtin_inff()) ? 0 : countAtLeast(x, n, floatOf(low + 1));
  // Between the two zeros the next float up still compares equal.
  if (threshold == 0) above = countAtLeast(x, n, floatOf(orderOf(0.0f) + 1));
  job.set.counts[row] = appendAbove(out, x, n, threshold, k - above);
}

void selectThresholdRow(const RowsJob& job, int64_t row) {
  int32_t* out = (int32_t*)job.set.indices + row * job.columns;
  job.set.counts[row] = appendAbove(out, job.x + row * job.columns, job.columns, job.number, 0);
}

/** Appends without a branch; out may be the set itself, for it never overtakes. */
void refineRow(const RowsJob& job, int64_t row) {
  const float* x = job.x + row * job.columns;
  const int32_t* from = job.from.indices + row * job.columns;
  int32_t* out = (int32_t*)job.set.indices + row * job.columns;
  int32_t kept = 0, count = job.from.counts[row];
  for (int32_t i = 0; i < count; i++) {
    int32_t unit = from[i];
    out[kept] = unit;
    kept += x[unit] > 0;
  }
  job.set.counts[row] = kept;
}

/** One set for all rows: a unit stays if its value is above zero in any of them. */
void refineShared(const void* data, int64_t, float*) {
  const RowsJob& job = *(const RowsJob*)data;
  int32_t* out = (int32_t*)job.set.indices;
  int32_t kept = 0, count = job.from.counts[0];
  for (int32_t i = 0; i < count; i++) {
    int32_t unit = job.from.indices[i];
    const float* x = job.x + unit;
    bool above = false;
    for (int64_t r = 0; r < job.rows; r++) above |= x[r * job.columns] > 0;
    out[kept] = unit;
    kept += above;
  }
  job.set.counts[0] = kept;
}

/** Marks the units that any row lists, then appends the marked ones. Scratch: the marks [columns]. */
void unite(const void* data, int64_t, float* marks) {
  const RowsJob& job = *(const RowsJob*)data;
  for (int64_t u = 0; u < job.columns; u++) marks[u] = 0;
  for (int64_t r = 0; r < job.rows; r++) {
    const int32_t* unit = job.from.indices + r * job.columns;
    for (int32_t i = 0; i < job.from.counts[r]; i++) marks[unit[i]] = 1;
  }
  job.set.counts[0] = appendAbove((int32_t*)job.set.indices, marks, job.columns, 0, 0);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
