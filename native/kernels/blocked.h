/**
 * The product of several rows: every output is one chain of vectors over k and one tree at the end, as of a row alone.
 * Unfinished chains wait in scratch as whole vectors while the other rows pass over a block of weights.
 */
#pragma once
#include "blocked-weights.h"
#include "product.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Columns of a panel of rows of x: step by step, a vector of each. */
template <class Tile>
inline void packPanel(const BlockedJob& job, int64_t panel, int64_t k, int64_t depth, float* out) {
  constexpr int64_t stepX = Tile::stepX;
  for (int64_t r = 0; r < Tile::x; r++) {
    int64_t row = panel * Tile::x + r, c = 0;
    const float* x = job.x + row * job.xColumns + k;
    float* to = out + r * lanes;
    if (row >= job.rows) {
      for (; c < depth; c += lanes, to += stepX) V::store(to, V::zero());
      continue;
    }
    for (; c + lanes <= depth; c += lanes, to += stepX) V::store(to, V::load(x + c));
    if (c < depth) V::store(to, V::loadTail(x + c, (int)(depth - c)));
  }
}

void packProductRows(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    int64_t depth = smaller(productDepth, job.depth - k), steps = (depth + lanes - 1) / lanes;
    packPanel<ManyProduct>(job, chunk, k, depth,
                           job.packed + k * ManyProduct::paddedRows(job) + chunk * steps * ManyProduct::stepX);
  }
}

/** A group of weight rows for a tile: widened, step by step a vector of each … */
struct WidenedRows {
  static constexpr int tail = 0;
  const float* at;
  F load(int r, int64_t s) const { return V::load(at + s * ManyProduct::stepW + r * lanes); }
  F last(int r, int64_t s) const { return load(r, s); }
};
/** … or where they are, with `tail` columns at the last step unless it is whole. */
template <class Tile, class T>
struct DirectRows {
  const T* rows[Tile::w];
  int tail;
  F load(int r, int64_t s) const { return V::load(rows[r] + s * lanes); }
  F last(int r, int64_t s) const { return V::loadTail(rows[r] + s * lanes, tail); }
};

/** Fetches what the same steps of other weight rows read … */
template <class Tile, class T>
struct RowsSoon {
  const T* rows[Tile::w];
  FETCH void step(int64_t s) const {
    constexpr int64_t bytes = 4 * lanes * sizeof(T);
    UNROLL for (int r = 0; r < Tile::w; r++)
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const uint8_t*)(rows[r] + s * lanes) + at, 0, 3);
  }
};
/** … or nothing. */
struct NothingSoon {
  void step(int64_t) const {}
};

/** Continues the chains of X rows of a panel over `steps`; `soon.step(s)` is told of every fourth one. */
template <class Tile, int X, class Rows, class Fetch>
inline __attribute__((always_inline)) void multiplyTile(F (&acc)[Tile::w * X], const Rows& w, const float* x, int64_t steps,
                                                        Fetch& soon) {
  constexpr int W = Tile::w;
  auto step = [&](int64_t s, auto isLast) __attribute__((always_inline)) {
    auto weight = [&](int r)
        __attribute__((always_inline)) { return decltype(isLast)::value ? w.last(r, s) : w.load(r, s); };
    auto input = [&](int c) __attribute__((always_inline)) { return V::load(x + s * Tile::stepX + c * lanes); };
    // With the fewer of both, and one of the others at a time, all registers are taken.
    if constexpr (X < W) {
      F b[X];
      UNROLL for (int c = 0; c < X; c++) b[c] = input(c);
      UNROLL for (int r = 0; r < W; r++) {
        F a = weight(r);
        UNROLL for (int c = 0; c < X; c++) acc[r * X + c] = V::fma(a, b[c], acc[r * X + c]);
      }
    } else {
      F a[W];
      UNROLL for (int r = 0; r < W; r++) a[r] = weight(r);
      UNROLL for (int c = 0; c < X; c++) {
        F b = input(c);
        UNROLL for (int r = 0; r < W; r++) acc[r * X + c] = V::fma(a[r], b, acc[r * X + c]);
      }
    }
  };
  int64_t s = 0, whole = w.tail > 0 ? steps - 1 : steps;
  for (; s + 4 <= whole; s += 4) {
    soon.step(s);
    UNROLL for (int i = 0; i < 4; i++) step(s + i, Number<0>{});
  }
  for (; s < whole; s++) step(s, Number<0>{});
  if (w.tail > 0) step(s, Number<1>{});
}

template <class T>
inline float scaleOfRow(const Weights&, int64_t) {
  return 1.0f;
}
template <>
inline float scaleOfRow<int8_t>(const Weights& weight, int64_t row) {
  return *(const float*)(weight.scales + row * weight.scaleStride);
}

/** Outputs of four weight rows, at any address. */
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/** What is left of a tile's chains at their end: of `rows` rows of x from r on, and `count` weight rows from a position on. */
template <class T, int W, int X>
inline __attribute__((always_inline)) void finishTile(const BlockedJob& job, const F (&acc)[W * X], int64_t r, int64_t rows,
                                                      int64_t first, int64_t count) {
  static_assert(W <= 4, "a group's outputs fit a Four");
  Four total[X], scale = {}, bias = {};
  UNROLL for (int c = 0; c < X; c++) {
    F chain[4];
    UNROLL for (int i = 0; i < 4; i++) chain[i] = i < W ? acc[i * X + c] : V::zero();
    V::sum4(chain, (float*)&total[c]);
  }
  int64_t row[W];
  UNROLL for (int64_t i = 0; i < W; i++) {
    row[i] = weightRow(job, first + smaller(i, count - 1));
    scale[i] = scaleOfRow<T>(job.weight, row[i]);
    if (job.bias) bias[i] = job.bias[row[i]];
  }
  float* out = job.out + r * job.outColumns;
  bool isStretch = W == 4 && count == W && !job.index;
  UNROLL for (int c = 0; c < X; c++) {
    if (c == rows) return;
    Four v = total[c] * scale;
    if (job.bias) v += bias;
    if (job.relu) v = v < 0 ? Four{} : v;
    if (isStretch) *(Four*)(out + row[0]) = v;
    else
      for (int64_t i = 0; i < count; i++) out[row[i]] = v[i];
    out += job.outColumns;
  }
}

/** A part of the sums, of so many columns, and the groups of a chunk. */
template <class Tile, int64_t most = productDepth>
struct ProductPart {
  int64_t first, width, panels, k, depth, steps;
  const float* x;

  ProductPart(const BlockedJob& job, int64_t chunk)
      : first(chunk * job.chunkWidth),
        width(smaller(job.chunkWidth, job.width - first)),
        panels(Tile::panels(job)) {}

  void enter(const BlockedJob& job, int64_t from) {
    k = from;
    depth = smaller(most, job.depth - k);
    steps = (depth + lanes - 1) / lanes;
    x = job.packed + k * Tile::paddedRows(job);
  }

  /** What follows the group from o on, of so many steps: the next one, or the first of the next part. */
  template <class T>
  Soon after(const BlockedJob& job, int64_t o, int64_t steps) const {
    bool isLast = o + Tile::w >= width;
    int64_t next = isLast ? 0 : o + Tile::w, nextK = isLast ? k + most : k, left = job.depth - nextK;
    return Soon(job, first + next, left > 0 ? smaller(Tile::w, width - next) : 0, bytesOf<T>(nextK),
                bytesOf<T>(smaller(most, left)), panels * (steps / 4));
  }

  float* chains(float* sums, int64_t o, int64_t p) const { return sums + (o / Tile::w * panels + p) * Tile::sums; }

  /** Of chains that `mine` holds, once they are at their end. */
  template <class T>
  void finish(const BlockedJob& job, const float* mine, int64_t o, int64_t p) const {
    if (k + depth < job.depth) return;
    F acc[Tile::w * Tile::x];
    UNROLL for (int i = 0; i < Tile::w * Tile::x; i++) acc[i] = V::load(mine + i * lanes);
    int64_t r = p * Tile::x;
    finishTile<T, Tile::w, Tile::x>(job, acc, r, smaller(Tile::x, job.rows - r), first + o, smaller(Tile::w, width - o));
  }

  /** The group from o on and the X rows of panel p, by `add(acc)`. Chains that are not at their end wait in `sums`. */
  template <class T, int X, class Add>
  inline __attribute__((always_inline)) void multiply(const BlockedJob& job, float* sums, int64_t o, int64_t p,
                                                      Add add) const {
    float* mine = chains(sums, o, p);
    F acc[Tile::w * X];
    UNROLL for (int i = 0; i < Tile::w * X; i++) acc[i] = k == 0 ? V::zero() : V::load(mine + i * lanes);
    add(acc);
    if (k + depth == job.depth) {
      int64_t r = p * Tile::x;
      return finishTile<T, Tile::w, X>(job, acc, r, smaller(X, job.rows - r), first + o, smaller(Tile::w, width - o));
    }
    UNROLL for (int i = 0; i < Tile::w * X; i++) V::store(mine + i * lanes, acc[i]);
  }
};

template <class T>
void multiplyProduct(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  using Tile = ManyProduct;
  ProductPart<Tile> part(job, chunk);
  float *weights = scratch, *sums = scratch + productDepth * Tile::w;
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    part.enter(job, k);
    for (int64_t o = 0; o < part.width; o += Tile::w) {
      for (int64_t r = 0; r < Tile::w; r++) {
        auto place = [&](int64_t v) { return weights + v * Tile::stepW + r * lanes; };
        if (o + r < part.width)
          widenRow<T>(job.weight, weightRow(job, part.first + o + r), k, part.depth, place);
        else
          for (int64_t v = 0; v < part.steps; v++) V::store(place(v), V::zero());
      }
      Soon soon = part.after<T>(job, o, part.steps);
      for (int64_t p = 0; p < part.panels; p++)
        part.multiply<T, Tile::x>(job, sums, o, p, [&](F (&acc)[Tile::w * Tile::x]) __attribute__((always_inline)) {
          multiplyTile<Tile, Tile::x>(acc, WidenedRows{weights}, part.x + p * part.steps * Tile::stepX, part.steps, soon);
        });
    }
  }
}

/** The same with weights where they are; where a group lacks rows its last one stands in for them. x is packed here. */
template <class Tile, class T>
void multiplyFewBy(const BlockedJob& job, int64_t chunk, float* scratch) {
  ProductPart<Tile> part(job, chunk);
  NothingSoon none;
  float *x = scratch, *sums = scratch + productDepth * Tile::paddedRows(job);
  for (int64_t k = 0; k < job.depth; k += productDepth) {
    part.enter(job, k);
    int64_t panelFloats = part.steps * Tile::stepX;
    for (int64_t p = 0; p < part.panels; p++) packPanel<Tile>(job, p, k, part.depth, x + p * panelFloats);
    auto rowAt = [&](int64_t o) {
      return rowOf<T>(job.weight, weightRow(job, part.first + smaller(o, part.width - 1))) + k;
    };
    DirectRows<Tile, T> rows;
    RowsSoon<Tile, T> later;
    rows.tail = (int)(part.depth % lanes);
    for (int64_t r = 0; r < Tile::w; r++) later.rows[r] = rowAt(r);
    for (int64_t o = 0; o < part.width; o += Tile::w) {
      for (int64_t r = 0; r < Tile::w; r++) {
        rows.rows[r] = later.rows[r];
        later.rows[r] = rowAt(o + Tile::w + r);
      }
      overPanels<Tile::x>(job.rows, [&](int64_t p, auto count) __attribute__((always_inline)) {
        constexpr int X = decltype(count)::value;
        part.template multiply<T, X>(job, sums, o, p, [&](F (&acc)[Tile::w * X]) __attribute__((always_inline)) {
          if (p == 0) multiplyTile<Tile, X>(acc, rows, x + p * panelFloats, part.steps, later);
          else multiplyTile<Tile, X>(acc, rows, x + p * panelFloats, part.steps, none);
        });
      });
    }
  }
}

template <class T>
void multiplyFew(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  if constexpr (lanes == 16)
    if (EightProduct::panels(job) < FewProduct::panels(job)) return multiplyFewBy<EightProduct, T>(job, chunk, scratch);
  multiplyFewBy<FewProduct, T>(job, chunk, scratch);
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
