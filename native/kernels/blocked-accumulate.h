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
struct AddedTile : Panels<rows> {
  static constexpr int c = vectors;
  static constexpr int64_t depth = weightRows, columns = vectors * lanes, sums = rows * columns;
};
using ManyTile = AddedTile<6, lanes == 16 ? 4 : 2, 256>;
using FewTile = AddedTile<4, lanes == 16 ? 6 : 3, 64>;
/**
 * For more than four of the few: where there are registers for all eight, weights pass once. Every step is in another page, as
 * is what it fetches: of more weight rows the processor would have to look pages up again and again.
 */
using EightTile = AddedTile<lanes == 16 ? 8 : 4, 3, lanes == 16 ? 32 : 64>;
/** Columns of a chunk of many rows: whole lines of int4. */
constexpr int64_t mostManyColumns = 128;
/** Columns of a chunk of few: runs of memory long enough to please the prefetcher, and chains that stay in the second cache. */
constexpr int64_t leastFewColumns = 1056, mostFewColumns = 2304;
static_assert(leastFewColumns % FewTile::columns == 0 && mostFewColumns % FewTile::columns == 0, "chunks are whole tiles");
static_assert(FewTile::columns % EightTile::columns == 0, "and so of both");

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

/** Columns of a block's weight rows: widened, row after row … */
template <class Tile>
struct WidenedColumns {
  const float* first;
  void load(F (&b)[Tile::c], int64_t s) const {
    UNROLL for (int c = 0; c < Tile::c; c++) b[c] = V::load(first + s * Tile::columns + c * lanes);
  }
};
/** … or where they are, and, if asked, widened for the next panel of x. Fields of the job would be read again at each step. */
template <class Tile, class T, bool widens>
struct DirectColumns {
  const uint8_t* data;
  int64_t stride;
  const int32_t* index;
  int64_t position;
  float* widened;

  DirectColumns(const BlockedJob& job, int64_t position, int64_t first, float* widened)
      : data(job.weight.data + first * (int64_t)sizeof(T)),
        stride(job.weight.stride),
        index(job.index),
        position(position),
        widened(widened) {}
  const T* row(int64_t s) const { return (const T*)(data + weightRow(index, position + s) * stride); }
  void load(F (&b)[Tile::c], int64_t s) const {
    const T* from = row(s);
    UNROLL for (int c = 0; c < Tile::c; c++) {
      b[c] = V::load(from + c * lanes);
      if (widens) V::store(widened + s * Tile::columns + c * lanes, b[c]);
    }
  }
};

/** Fetches the same columns of rows so many steps later. */
template <class Columns, int bytes>
struct ColumnsSoon {
  const Columns& w;
  int64_t ahead, last;
  FETCH void step(int64_t s) const {
    UNROLL for (int i = 0; i < 4; i++) {
      const auto* row = (const uint8_t*)w.row(smaller(s + i + ahead, last));
      UNROLL for (int at = 0; at < bytes; at += 64) V::prefetch(row + at);
    }
  }
};

/** What a block's weight rows are multiplied by: packed, step after step … */
template <class Tile>
struct PackedFactors {
  const float* first;
  float factor(int64_t s, int r) const { return first[s * Tile::x + r]; }
};
/** … or where it is. */
template <int X>
struct DirectFactors {
  const int32_t* index;
  int64_t position;
  const float* rows[X];

  DirectFactors(const BlockedJob& job, int64_t position, int64_t row) : index(job.index), position(position) {
    for (int r = 0; r < X; r++) rows[r] = job.x + (row + r) * job.xColumns;
  }
  float factor(int64_t s, int r) const { return rows[r][weightRow(index, position + s)]; }
};

/** Continues (or starts) the chains of X rows by C vectors of columns over `steps` weight rows. */
template <int X, int C, class Columns, class Factors, class Fetch>
inline __attribute__((always_inline)) void addTile(float* sums, const Columns& w, const Factors& x, int64_t steps,
                                                   bool isFirst, Fetch& soon) {
  F acc[X * C];
  UNROLL for (int i = 0; i < X * C; i++) acc[i] = isFirst ? V::zero() : V::load(sums + i * lanes);
  auto step = [&](int64_t s) __attribute__((always_inline)) {
    F b[C];
    w.load(b, s);
    UNROLL for (int r = 0; r < X; r++) {
      F f = V::broadcast(x.factor(s, r));
      UNROLL for (int c = 0; c < C; c++) acc[r * C + c] = V::fma(f, b[c], acc[r * C + c]);
    }
  };
  int64_t s = 0;
  for (; s + 4 <= steps; s += 4) {
    soon.step(s);
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
        panels(Tile::panels(job)),
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

  float* sumsOf(float* chains, int64_t column, int64_t panel) const { return chains + (column * panels + panel) * Tile::sums; }

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
  using Tile = ManyTile;
  const BlockedJob& job = *(const BlockedJob*)data;
  AddedChunk<Tile> chunk(job, number, scratch, 0);
  chunk.run([&](float* chains, int64_t from, int64_t to, bool isFirst) {
    chunk.widen<T>(chunk.weights, from, to, chunk.first, chunk.width);
    Soon soon = chunk.after<T>(to, Tile::depth);
    const float* factors = job.packed + from * Tile::paddedRows(job);
    for (int64_t c = 0; c < chunk.columns; c++)
      for (int64_t p = 0; p < chunk.panels; p++)
        addTile<Tile::x, Tile::c>(chunk.sumsOf(chains, c, p), WidenedColumns<Tile>{chunk.block(c)},
                                  PackedFactors<Tile>{factors + p * (to - from) * Tile::x}, to - from, isFirst, soon);
  });
}

/** The same with weights and factors where they are. */
template <class Tile, class T>
void addFew(const BlockedJob& job, int64_t number, float* scratch) {
  AddedChunk<Tile> chunk(job, number, scratch, 1);
  // Rows that lie far apart drive each other out of L1 before the next panel of x comes.
  bool returns = Tile::depth * job.weight.stride <= 24 << 10, isOne = job.rows <= Tile::x;
  chunk.run([&](float* chains, int64_t from, int64_t to, bool isFirst) {
    for (int64_t c = 0; c < chunk.columns; c++) {
      int64_t at = chunk.first + c * Tile::columns, count = smaller(Tile::columns, chunk.first + chunk.width - at);
      auto add = [&](int64_t p, auto rows, const auto& columns, const auto& soon) __attribute__((always_inline)) {
        constexpr int X = decltype(rows)::value;
        DirectFactors<X> factors(job, from, p * Tile::x);
        addTile<X, Tile::c>(chunk.sumsOf(chains, c, p), columns, factors, to - from, isFirst, soon);
      };
      NothingSoon none;
      WidenedColumns<Tile> widened{chunk.weights};
      DirectColumns<Tile, T, false> direct(job, from, at, nullptr);
      DirectColumns<Tile, T, true> widening(job, from, at, chunk.weights);
      ColumnsSoon<decltype(direct), Tile::columns * sizeof(T)> soon{direct, Tile::depth, job.depth - from - 1};
      bool isWhole = count == Tile::columns;
      if (!isWhole) {
        clear(chunk.weights, Tile::depth * Tile::columns);
        chunk.template widen<T>(chunk.weights, from, to, at, count);
      }
      overPanels<Tile::x>(job.rows, [&](int64_t p, auto rows) __attribute__((always_inline)) {
        if (isWhole && returns) add(p, rows, direct, none);
        else if (isWhole && isOne) add(p, rows, direct, soon);
        else if (isWhole && p == 0) add(p, rows, widening, soon);
        else add(p, rows, widened, none);
      });
    }
  });
}

template <class T>
void multiplyFewAccumulate(const void* data, int64_t number, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  if (job.rows > FewTile::x) addFew<EightTile, T>(job, number, scratch);
  else addFew<FewTile, T>(job, number, scratch);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
