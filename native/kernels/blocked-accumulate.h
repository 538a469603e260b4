/**
 * The accumulation of several rows: lanes are columns, and every output is a chain over the weight rows of each strand, the
 * strands added in order, as of a row alone.
 */
#pragma once
#include "accumulate.h"
#include "blocked.h"

namespace dejavu::DEJAVU_ISA {
namespace {

constexpr int64_t panelColumns = addedC * lanes, addedSums = addedX * panelColumns;

/** The factors of a panel of rows of x: step by step, one of each. */
template <class T>
void packFactors(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  float* out = job.packed + chunk * job.packedStride;
  for (int64_t r = 0; r < addedX; r++) {
    int64_t row = chunk * addedX + r;
    const float* x = job.x + row * job.xColumns;
    for (int64_t i = 0; i < job.depth; i++) {
      int64_t at = weightRow(job, i);
      out[i * addedX + r] = row < job.rows ? factorOf<T>(job.weight, at, x[at]) : 0;
    }
  }
}

inline __attribute__((always_inline)) void addStep(F (&acc)[addedX * addedC], const float* w, const float* factors) {
  F b[addedC];
  UNROLL for (int c = 0; c < addedC; c++) b[c] = V::load(w + c * lanes);
  UNROLL for (int r = 0; r < addedX; r++) {
    F f = V::broadcast(factors[r]);
    UNROLL for (int c = 0; c < addedC; c++) acc[r * addedC + c] = V::fma(f, b[c], acc[r * addedC + c]);
  }
}

/** Continues (or starts) the chains of a tile over `steps` weight rows. */
inline void addTile(float* sums, const float* w, const float* factors, int64_t steps, bool isFirst) {
  F acc[addedX * addedC];
  UNROLL for (int i = 0; i < addedX * addedC; i++) acc[i] = isFirst ? V::zero() : V::load(sums + i * lanes);
  int64_t s = 0;
  for (; s + 2 <= steps; s += 2, w += 2 * panelColumns, factors += 2 * addedX) {
    addStep(acc, w, factors);
    addStep(acc, w + panelColumns, factors + addedX);
  }
  if (s < steps) addStep(acc, w, factors);
  UNROLL for (int i = 0; i < addedX * addedC; i++) V::store(sums + i * lanes, acc[i]);
}

/** The columns of a chunk, and where its blocks and chains are. */
struct AddedChunk {
  int64_t first, width, columns, panels;  // columns: panels of them
  float *weights, *total, *chain;

  AddedChunk(const BlockedJob& job, int64_t chunk, float* scratch)
      : first(chunk * job.chunkWidth),
        width(smaller(job.chunkWidth, job.width - first)),
        columns((width + panelColumns - 1) / panelColumns),
        panels((job.rows + addedX - 1) / addedX),
        weights(scratch),
        total(scratch + columns * addedDepth * panelColumns),
        chain(total + sums()) {}

  int64_t sums() const { return columns * panels * addedSums; }
};

template <class T>
void addStrand(const BlockedJob& job, const AddedChunk& chunk, int64_t from, int64_t to, float* sums) {
  if (from == to) clear(sums, chunk.sums());
  for (int64_t i = from; i < to; i += addedDepth) {
    int64_t steps = smaller(addedDepth, to - i);
    for (int64_t s = 0; s < steps; s++)
      Widen<T>::row(job.weight, weightRow(job, i + s), chunk.first, chunk.width, [&](int64_t v) {
        return chunk.weights + (v / addedC * addedDepth + s) * panelColumns + v % addedC * lanes;
      });
    int64_t next = smaller(addedDepth, job.depth - i - steps);
    Soon soon(job, i + steps, next, Widen<T>::bytes(chunk.first), Widen<T>::bytes(chunk.width), chunk.columns * chunk.panels);
    for (int64_t c = 0; c < chunk.columns; c++)
      for (int64_t p = 0; p < chunk.panels; p++) {
        soon.fetch();
        addTile(sums + (c * chunk.panels + p) * addedSums, chunk.weights + c * addedDepth * panelColumns,
                job.packed + p * job.packedStride + i * addedX, steps, i == from);
      }
  }
}

template <class T>
void multiplyAccumulate(const void* data, int64_t number, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  AddedChunk chunk(job, number, scratch);
  addStrand<T>(job, chunk, job.strand[0], job.strand[1], chunk.total);
  for (int64_t s = 1; s < job.strands; s++) {
    addStrand<T>(job, chunk, job.strand[s], job.strand[s + 1], chunk.chain);
    addChain(chunk.total, chunk.chain, chunk.sums());
  }
  for (int64_t r = 0; r < job.rows; r++)
    for (int64_t c = 0; c < chunk.columns; c++) {
      int64_t at = chunk.first + c * panelColumns;
      const float* total = chunk.total + (c * chunk.panels + r / addedX) * addedSums + r % addedX * panelColumns;
      addTotal(job.out + r * job.outColumns + at, total, job.bias ? job.bias + at : nullptr,
               smaller(panelColumns, chunk.first + chunk.width - at));
    }
}

constexpr Blocked makeBlocked() {
  return {
      {blockedX, 96, 64, blockedW, productDepth * blockedW, 0, lanes,
       {packProductRows, packProductRows, packProductRows, packProductRows, packProductRows},
       {multiplyProduct<float>, multiplyProduct<Half>, multiplyProduct<Brain>, multiplyProduct<int8_t>,
        multiplyProduct<Codes4>}},
      {addedX, 96, 128, groupColumns, 0, addedDepth, 2,
       {packFactors<float>, packFactors<Half>, packFactors<Brain>, packFactors<int8_t>, packFactors<Codes4>},
       {multiplyAccumulate<float>, multiplyAccumulate<Half>, multiplyAccumulate<Brain>, multiplyAccumulate<int8_t>,
        multiplyAccumulate<Codes4>}},
  };
}

constexpr Blocked blocked = makeBlocked();

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
