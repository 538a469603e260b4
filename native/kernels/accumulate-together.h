/**
 * accumulate where a step adds several rows together: `Step::wide` of them, and of what is left `Step::single`, with factors of
 * zero where there are fewer. Whatever is rounded together depends on those rows alone, so a row of x gets the same bits in
 * whatever company.
 */
#pragma once
#include "accumulate.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Adds `count` rows to X chains. */
template <class Step, int X>
inline void accumulateRun(const AccumulateJob& job, float* total, int64_t stride, const float* a, int64_t first, int64_t columns,
                          const int64_t* index, int64_t count) {
  constexpr int single = Step::single, W = X == 1 || single > 1 ? Step::wide : single;
  NoFetch none;
  int64_t i = 0;
  for (; i + W <= count; i += W) Step::template add<W, X>(job, total, stride, a, first, columns, index + i, W, none);
  for (; i < count; i += single)
    Step::template add<single, X>(job, total, stride, a, first, columns, index + i, smaller(single, count - i), none);
}

template <class Step>
struct RowsTogether {
  static void strand(const AccumulateJob& job, const Piece& piece, int64_t from, int64_t to, float* total) {
    constexpr int W = Step::wide;
    const float* a = job.a + piece.row * job.n;
    RowSteps<W> steps(job.weight, Cursor(job.set, piece.row, from), to - from, Step::byteOf(piece.first));
    while (steps.step()) {
      Step::fetchScales(steps, piece.first, piece.columns);
      Step::template add<W, 1>(job, total, 0, a, piece.first, piece.columns, steps.index, W, steps);
    }
    int64_t rest[W], count = 0;
    while (steps.last()) rest[count++] = steps.index[0];
    accumulateRun<Step, 1>(job, total, 0, a, piece.first, piece.columns, rest, count);
  }
  static void finish(float* out, const float* total, const float* bias, int64_t columns) {
    Step::finish(out, total, bias, columns);
  }
};

/** Depth by depth, so that the weight rows stay in the cache while all rows of a pass over them. */
template <class Step>
void accumulateTogether(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  constexpr int X = V::lanes == 16 ? 4 : 2;
  int64_t firstRow = chunk / job.chunks * chainRows, rows = smaller(chainRows, job.rows - firstRow);
  int64_t first = chunk % job.chunks * job.chunkColumns, last = smaller(first + job.chunkColumns, job.d);
  int64_t strands = strandsOf(job.set);
  const float* a = job.a + firstRow * job.n;
  float* totals = scratch + chainRows * chainColumns4;
  for (; first < last; first += chainColumns4) {
    int64_t columns = smaller(chainColumns4, last - first);
    for (int64_t s = 0; s < strands; s++) {
      float* chains = s == 0 ? totals : scratch;
      clear(chains, rows * chainColumns4);
      for (int64_t i = strandStart(job.set, 0, s), to = strandStart(job.set, 0, s + 1); i < to; i += depthStep) {
        int64_t index[depthStep], count = smaller(depthStep, to - i);
        Cursor at(job.set, 0, i);
        for (int64_t j = 0; j < count; j++) index[j] = at.next();
        auto pass = [&](auto number, int64_t r) {
          accumulateRun<Step, decltype(number)::value>(job, chains + r * chainColumns4, chainColumns4, a + r * job.n, first,
                                                       columns, index, count);
        };
        int64_t r = 0;
        for (; r + X <= rows; r += X) pass(Number<X>{}, r);
        for (; r < rows; r++) pass(Number<1>{}, r);
      }
      if (s > 0) addChain(totals, chains, rows * chainColumns4);
    }
    for (int64_t r = 0; r < rows; r++)
      Step::finish(job.out + (firstRow + r) * job.d + first, totals + r * chainColumns4,
                   job.bias ? job.bias + first : nullptr, columns);
  }
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
