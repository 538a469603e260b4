/**
 * The accumulation of several rows: lanes are columns, and every output is a chain over the weight rows of each strand, the
 * strands added in order, as of a row alone.
 */
#pragma once
#include "accumulate.h"
#include "blocked.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Rows of x by vectors of columns, all of whose chains stay in registers, and the weight rows of a block. */
template <int rows, int vectors, int64_t weightRows>
struct AddedTile {
  static constexpr int x = rows, c = vectors;
  static constexpr int64_t depth = weightRows, columns = vectors * lanes, sums = rows * columns;

  static int64_t paddedRows(const BlockedJob& job) { return (job.rows + x - 1) / x * x; }
};
using ManyTile = AddedTile<6, lanes == 16 ? 4 : 2, 256>;
using FewTile = AddedTile<4, lanes == 16 ? 6 : 3, 64>;

/** Goes through the blocks of all strands: `each(strand, from, to)`. */
template <class Tile, class Each>
inline void overBlocks(const BlockedJob& job, Each each) {
  for (int64_t s = 0; s < job.strands; s++)
    for (int64_t i = job.strand[s]; i < job.strand[s + 1]; i += Tile::depth)
      each(s, i, smaller(i + Tile::depth, job.strand[s + 1]));
}

/** A panel of rows of x, which are the factors of weights in floats: step by step, one of each. */
template <class Tile>
void packFactors(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  overBlocks<Tile>(job, [&](int64_t, int64_t from, int64_t to) {
    float* out = job.packed + from * Tile::paddedRows(job) + chunk * (to - from) * Tile::x;
    for (int64_t r = 0; r < Tile::x; r++) {
      int64_t row = chunk * Tile::x + r;
      const float* x = job.x + row * job.xColumns;
      for (int64_t i = from; i < to; i++) out[(i - from) * Tile::x + r] = row < job.rows ? x[weightRow(job, i)] : 0;
    }
  });
}

/**
 * Columns of a block of weight rows: widened, row after row … Rows are found anew by each step: behind a pointer that
 * moves at a step's end, GCC loads the next row early, and through the stack.
 */
template <class Tile>
struct WidenedColumns {
  const float* first;
  const float* row(int64_t s) const { return first + s * Tile::columns; }
};
/** … or where they are. */
template <class T>
struct DirectColumns {
  const BlockedJob& job;
  int64_t position, first;
  const T* row(int64_t s) const { return rowOf<T>(job.weight, weightRow(job, position + s)) + first; }
};

/** Continues (or starts) the chains of a tile over `steps` weight rows. */
template <class Tile, class Columns>
inline __attribute__((always_inline)) void addTile(float* sums, const Columns& w, const float* factors, int64_t steps,
                                                   bool isFirst, Soon& soon) {
  constexpr int X = Tile::x, C = Tile::c;
  F acc[X * C];
  UNROLL for (int i = 0; i < X * C; i++) acc[i] = isFirst ? V::zero() : V::load(sums + i * lanes);
  auto step = [&](int64_t s) __attribute__((always_inline)) {
    const auto* row = w.row(s);
    F b[C];
    UNROLL for (int c = 0; c < C; c++) b[c] = V::load(row + c * lanes);
    UNROLL for (int r = 0; r < X; r++) {
      F f = V::broadcast(factors[r]);
      UNROLL for (int c = 0; c < C; c++) acc[r * C + c] = V::fma(f, b[c], acc[r * C + c]);
    }
    factors += X;
  };
  int64_t s = 0;
  for (; s + 4 <= steps; s += 4) {
    soon.step();
    UNROLL for (int i = 0; i < 4; i++) step(s + i);
  }
  for (; s < steps; s++) step(s);
  UNROLL for (int i = 0; i < X * C; i++) V::store(sums + i * lanes, acc[i]);
}

/** The columns of a chunk, and where its blocks and chains are. */
template <class Tile>
struct AddedChunk {
  const BlockedJob& job;
  int64_t first, width, columns, panels;  // columns: panels of them
  float *weights, *total, *chain;

  AddedChunk(const BlockedJob& job, int64_t chunk, float* scratch, int64_t blocks)
      : job(job),
        first(chunk * job.chunkWidth),
        width(smaller(job.chunkWidth, job.width - first)),
        columns((width + Tile::columns - 1) / Tile::columns),
        panels(Tile::paddedRows(job) / Tile::x),
        weights(scratch),
        total(scratch + (blocks ? blocks : columns) * Tile::depth * Tile::columns),
        chain(total + sums()) {}

  int64_t sums() const { return columns * panels * Tile::sums; }
  float* block(int64_t column) const { return weights + column * Tile::depth * Tile::columns; }

  /** Widens weight rows of some columns, counted from the first panel of `out` on. */
  template <class T>
  void widen(float* out, int64_t from, int64_t to, int64_t column, int64_t count) const {
    for (int64_t i = from; i < to; i++)
      widenRow<T>(job.weight, weightRow(job, i), column, count, [&](int64_t v) {
        return out + (v / Tile::c * Tile::depth + i - from) * Tile::columns + v % Tile::c * lanes;
      });
  }

  /** What follows weight row `to`, of so many steps for each tile. */
  template <class T>
  Soon after(int64_t to, int64_t steps) const {
    return Soon(job, to, smaller(Tile::depth, job.depth - to), bytesOf<T>(first), bytesOf<T>(width),
                columns * panels * (steps / 4));
  }

  /** All panels of x over one panel of columns. */
  template <class Columns>
  inline __attribute__((always_inline)) void add(float* chains, int64_t column, const Columns& w, int64_t from,
                                                 int64_t to, bool isFirst, Soon& soon) const {
    const float* factors = job.packed + from * Tile::paddedRows(job);
    for (int64_t p = 0; p < panels; p++)
      addTile<Tile>(chains + (column * panels + p) * Tile::sums, w, factors + p * (to - from) * Tile::x, to - from,
                    isFirst, soon);
  }

  /** Strand after strand; `block(chains, from, to, isFirst)` adds a block of weight rows. */
  template <class Block>
  inline __attribute__((always_inline)) void run(Block block) const {
    for (int64_t s = 0; s < job.strands; s++) {
      float* chains = s == 0 ? total : chain;
      int64_t from = job.strand[s], to = job.strand[s + 1];
      if (from == to) clear(chains, sums());
      for (int64_t i = from; i < to; i += Tile::depth) block(chains, i, smaller(i + Tile::depth, to), i == from);
      if (s > 0) addChain(total, chain, sums());
    }
    for (int64_t r = 0; r < job.rows; r++)
      for (int64_t c = 0; c < columns; c++) {
        int64_t at = first + c * Tile::columns;
        const float* mine = total + (c * panels + r / Tile::x) * Tile::sums + r % Tile::x * Tile::columns;
        addTotal(job.out + r * job.outColumns + at, mine, job.bias ? job.bias + at : nullptr,
                 smaller(Tile::columns, first + width - at));
      }
  }
};

template <class T>
void multiplyAccumulate(const void* data, int64_t number, float* scratch) {
  AddedChunk<ManyTile> chunk(*(const BlockedJob*)data, number, scratch, 0);
  chunk.run([&](float* chains, int64_t from, int64_t to, bool isFirst) {
    chunk.widen<T>(chunk.weights, from, to, chunk.first, chunk.width);
    Soon soon = chunk.after<T>(to, ManyTile::depth);
    for (int64_t c = 0; c < chunk.columns; c++)
      chunk.add(chains, c, WidenedColumns<ManyTile>{chunk.block(c)}, from, to, isFirst, soon);
  });
}

/** The same with weights where they are, but for columns that do not fill a panel. */
template <class T>
void multiplyFewAccumulate(const void* data, int64_t number, float* scratch) {
  AddedChunk<FewTile> chunk(*(const BlockedJob*)data, number, scratch, 1);
  chunk.run([&](float* chains, int64_t from, int64_t to, bool isFirst) {
    Soon soon = chunk.after<T>(to, FewTile::depth);
    for (int64_t c = 0; c < chunk.columns; c++) {
      int64_t at = chunk.first + c * FewTile::columns, count = smaller(FewTile::columns, chunk.first + chunk.width - at);
      if (count == FewTile::columns) {
        chunk.add(chains, c, DirectColumns<T>{chunk.job, from, at}, from, to, isFirst, soon);
        continue;
      }
      for (int64_t i = 0; i < FewTile::depth * FewTile::columns; i++) chunk.weights[i] = 0;
      chunk.widen<T>(chunk.weights, from, to, at, count);
      chunk.add(chains, c, WidenedColumns<FewTile>{chunk.weights}, from, to, isFirst, soon);
    }
  });
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
