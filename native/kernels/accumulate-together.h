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

template <class Step, Into cache = Into::first>
struct RowsTogether : Step {
  static void strand(const AccumulateJob& job, const Piece& piece, int64_t from, int64_t to, float* total) {
    constexpr int W = Step::wide;
    const float* a = job.a + piece.row * job.n;
    RowSteps<W, cache> steps(job.weight, Cursor(job.set, piece.row, from), to - from, Step::byteOf(piece.first));
    while (steps.step()) {
      Step::fetchScales(steps, piece.first, piece.columns);
      Step::template add<W, 1>(job, total, 0, a, piece.first, piece.columns, steps.index, W, steps);
    }
    int64_t rest[W], count = 0;
    while (steps.last()) rest[count++] = steps.index[0];
    accumulateRun<Step, 1>(job, total, 0, a, piece.first, piece.columns, rest, count);
  }
};

template <class Step>
void accumulateTogether(const void* data, int64_t chunk, float* scratch) {
  const AccumulateJob& job = *(const AccumulateJob*)data;
  constexpr int X = V::lanes == 16 ? 4 : 2;
  auto add = [&](float* chains, const float* a, int64_t rows, int64_t first, int64_t columns, const int64_t* index, int64_t count) {
    auto pass = [&](auto number, int64_t r) {
      accumulateRun<Step, decltype(number)::value>(job, chains + r * chainColumns4, chainColumns4, a + r * job.n, first, columns,
                                                   index, count);
    };
    int64_t r = 0;
    for (; r + X <= rows; r += X) pass(Number<X>{}, r);
    for (; r < rows; r++) pass(Number<1>{}, r);
  };
  overDepths<chainColumns4>(job, chunk, scratch, add, Step::finish);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
