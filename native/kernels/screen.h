/**
 * screen: which words can be among the k best, when logits are known up to a bound. With ŵ the approximate row, x̂ what the
 * quantized product made of x, and e = w − ŵ: |w·x − ŵ·x̂| ≤ |e||x| + |ŵ||x − x̂| (Cauchy-Schwarz), plus what float32 sums lose.
 */
#pragma once
#include "common.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Bound = error norm · of[0] + norm · of[1]. */
struct BoundFactors {
  float error, norm;
};

/** Norms of x and of what rounding may have taken from it: half a step in every column. Rounded up throughout. */
inline BoundFactors boundFactors(const float* x, int64_t width) {
  double size = 0, lost = 0;
  for (int64_t first = 0; first < width; first += partColumns) {
    double most[partBlocks] = {}, count[partBlocks] = {};  // of the blocks of a part
    int64_t last = smaller(first + partColumns, width);
    for (int64_t i = first; i < last; i++) {
      double v = x[i] < 0 ? -(double)x[i] : (double)x[i], &largest = most[i % groupColumns / runColumns];
      if (!(v <= largest)) largest = v;  // a NaN stays
      count[i % groupColumns / runColumns]++;
      size += v * v;
    }
    for (int64_t b = 0; b < partBlocks; b++) {
      // The scale and its inverse are rounded too; and where the inverse would be infinite, all is lost.
      double step = most[b] < 1e-36 ? most[b] : most[b] / 127 * 0.501;
      lost += step * step * count[b];
    }
  }
  double length = __builtin_sqrt(size);
  double sums = (double)(width + 64) * 0x1p-22 * length;  // four chains' worth: two products, each of two factors
  return {(float)((length + sums) * 1.000001), (float)((__builtin_sqrt(lost) + sums) * 1.000001)};
}

inline F boundOf(const ScreenJob& job, int64_t word, int n, BoundFactors factors) {
  F norm = n == lanes ? V::load(job.norms + word) : V::loadTail(job.norms + word, n);
  F error = n == lanes ? V::load(job.norms + job.words + word) : V::loadTail(job.norms + job.words + word, n);
  return V::fma(error, V::broadcast(factors.error), V::mul(norm, V::broadcast(factors.norm)));
}

/** A short ascending list of the largest values seen. */
struct Best {
  float* values;
  int64_t k, count = 0;

  float least() const { return count < k ? -__builtin_inff() : values[0]; }
  void insert(float v) {
    int64_t at;
    if (count < k) {
      for (at = count++; at > 0 && values[at - 1] > v; at--) values[at] = values[at - 1];
    } else {
      for (at = 0; at + 1 < k && values[at + 1] < v; at++) values[at] = values[at + 1];
    }
    values[at] = v;
  }
};

/** One row; scratch holds the k best lower bounds. */
void screen(const void* data, int64_t row, float* scratch) {
  const ScreenJob& job = *(const ScreenJob*)data;
  const float* scores = job.scores + row * job.words;
  float* out = job.out + row * job.words;
  BoundFactors factors = boundFactors(job.x + row * job.width, job.width);
  Best best{scratch, job.k};
  float lane[lanes];
  for (int64_t word = 0; word < job.words; word += lanes) {
    int n = (int)smaller(lanes, job.words - word);
    F score = n == lanes ? V::load(scores + word) : V::loadTail(scores + word, n);
    F lower = V::sub(score, boundOf(job, word, n, factors));
    uint32_t bits = V::greater(lower, V::broadcast(best.least())) & (uint32_t)((1ull << n) - 1);
    if (bits) V::store(lane, lower);
    for (; bits; bits &= bits - 1) {
      float v = lane[__builtin_ctz(bits)];
      if (v > best.least()) best.insert(v);
    }
    F none = V::broadcast(-__builtin_inff());
    if (n == lanes) V::store(out + word, none);
    else V::storeTail(out + word, none, n);
  }
  // Fewer than k finite lower bounds say nothing: then every word stays. So does one whose bounds are NaN.
  F least = V::broadcast(best.least());
  int32_t* units = (int32_t*)job.set.indices + row * job.words;
  int32_t count = 0;
  for (int64_t word = 0; word < job.words; word += lanes) {
    int n = (int)smaller(lanes, job.words - word);
    F score = n == lanes ? V::load(scores + word) : V::loadTail(scores + word, n);
    F upper = V::add(score, boundOf(job, word, n, factors));
    uint32_t beaten = V::greater(least, upper);
    count += V::append(units + count, (int32_t)word, ~beaten & (uint32_t)((1ull << n) - 1));
  }
  job.set.counts[row] = count;
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
