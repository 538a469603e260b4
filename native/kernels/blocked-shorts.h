/**
 * Products of many rows in 16-bit integers, where two of them take the place of one float32.
 *
 * Weights: codes of int8 as they are; those of int4, a part of a row at a time, as multiples of a 1024th of the largest that
 * the part's scales allow; floats of 16 bits as half-shorts.h says. x (of the accumulation: x times the scales of the weight
 * rows) is rounded for each row and each part of the sums with one scale. The parts' sums fit in 32 bits and are added in float32.
 */
#pragma once
#include "half-shorts.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** Where the shorts of a part of x and their scales lie. */
struct ShortPart {
  int64_t steps;
  int16_t* x;     // [panels, steps, rows of a tile, shortLanes]
  float* scales;  // [panels, rows of a tile]

  ShortPart(const BlockedJob& job, int64_t k, int64_t depth)
      : steps((depth + shortLanes - 1) / shortLanes),
        x((int16_t*)(job.packed + k * ManyProduct::paddedRows(job))),
        scales(job.packed + k * ManyProduct::paddedRows(job) + steps * lanes * ManyProduct::paddedRows(job)) {}

  int16_t* panel(int64_t p) const { return x + p * steps * ManyProduct::x * shortLanes; }
};

template <class T>
void packShortRows(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  for (int64_t k = 0; k < job.depth; k += Shorts<T>::depth) {
    int64_t depth = smaller(Shorts<T>::depth, job.depth - k);
    ShortPart part(job, k, depth);
    for (int64_t r = 0; r < ManyProduct::x; r++) {
      int64_t row = chunk * ManyProduct::x + r;
      int16_t* out = part.panel(chunk) + r * shortLanes;
      float inverse = 0, *scale = part.scales + row;
      *scale = row < job.rows ? Shorts<T>::scaleOfX(job.x + row * job.xColumns + k, depth, inverse) : 0;
      auto place = [&](int64_t c, I shorts) { V::storeShorts(out + c * ManyProduct::x, shorts); };
      if (inverse != 0) roundToShorts(job.x + row * job.xColumns + k, depth, inverse, place);
      else
        for (int64_t c = 0; c < depth; c += shortLanes) place(c, V::none());
    }
  }
}

/**
 * Adds a tile's products to its chains; a function of its own, or constants of the loops around it would take registers of
 * its sums.
 */
__attribute__((noinline)) void multiplyShortTile(float* chains, const int16_t* w, const float* wScale, const int16_t* x,
                                                 const float* xScale, int64_t steps, bool isFirst) {
  constexpr int W = ManyProduct::w, X = ManyProduct::x;
  I acc[W * X];
  UNROLL for (int i = 0; i < W * X; i++) acc[i] = V::none();
  for (int64_t s = 0; s < steps; s++, w += W * shortLanes, x += X * shortLanes) {
    I b[X];
    UNROLL for (int c = 0; c < X; c++) b[c] = V::bytes(x + c * shortLanes);
    UNROLL for (int r = 0; r < W; r++) {
      I a = V::bytes(w + r * shortLanes);
      UNROLL for (int c = 0; c < X; c++) acc[r * X + c] = V::addPairs(acc[r * X + c], a, b[c]);
    }
  }
  UNROLL for (int r = 0; r < W; r++)
    UNROLL for (int c = 0; c < X; c++) {
      float* chain = chains + (r * X + c) * lanes;
      F before = isFirst ? V::zero() : V::load(chain);
      V::store(chain, V::fma(V::floats(acc[r * X + c]), V::broadcast(wScale[r] * xScale[c]), before));
    }
}

template <class T>
void multiplyShorts(const void* data, int64_t chunk, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  using Tile = ManyProduct;
  ProductPart<Tile, Shorts<T>::depth> part(job, chunk);
  int16_t* weights = (int16_t*)scratch;
  float* sums = scratch + productDepth * Tile::w;
  for (int64_t k = 0; k < job.depth; k += Shorts<T>::depth) {
    part.enter(job, k);
    ShortPart x(job, k, part.depth);
    for (int64_t o = 0; o < part.width; o += Tile::w) {
      float scale[Tile::w];
      for (int64_t r = 0; r < Tile::w; r++) {  // where a group lacks rows, its last one stands in for them
        const int64_t index[1] = {weightRow(job, part.first + smaller(o + r, part.width - 1))};
        scale[r] = Shorts<T>::scaleOfPart(job.weight, index[0], k, part.depth);
        Shorts<T>::load(job.weight, index, scale + r, k, part.depth, [&](int64_t c, const I* shorts) {
          V::storeShorts(weights + (c / shortLanes * Tile::w + r) * shortLanes, *shorts);
        });
      }
      Soon soon = part.template after<T>(job, o, x.steps);
      for (int64_t p = 0; p < part.panels; p++) {
        for (int64_t s = 3; s < x.steps; s += 4) soon.step(s);
        float* chains = part.chains(sums, o, p);
        multiplyShortTile(chains, weights, scale, x.panel(p), x.scales + p * Tile::x, x.steps, k == 0);
        part.template finish<T>(job, chains, o, p);
      }
    }
  }
}

/** Where the factors of a block of weight rows lie, and their scales. */
struct ShortFactors {
  int64_t pairs;
  int32_t* factors;  // [panels, pairs, Tile::x], of two weight rows each
  float* scales;     // [panels, Tile::x]

  ShortFactors(const BlockedJob& job, int64_t block, int64_t from, int64_t to)
      : pairs((to - from + 1) / 2),
        factors((int32_t*)(job.packed + (from + 2 * block) * ManyTile::paddedRows(job))),
        scales((float*)factors + pairs * ManyTile::paddedRows(job)) {}

  int32_t* panel(int64_t p) const { return factors + p * pairs * ManyTile::x; }
};

template <class T>
void packShortFactors(const void* data, int64_t chunk, float*) {
  const BlockedJob& job = *(const BlockedJob*)data;
  int64_t block = 0;
  overBlocks<ManyTile>(job, [&](int64_t, int64_t from, int64_t to) {
    ShortFactors out(job, block++, from, to);
    int64_t count = to - from;
    float scale[ManyTile::depth];
    for (int64_t i = 0; i < count; i++) scale[i] = Shorts<T>::scaleOfRow(job, weightRow(job, from + i));
    if (chunk == 0) __builtin_memcpy(job.rowScales + from, scale, count * sizeof(float));
    for (int64_t r = 0; r < ManyTile::x; r++) {
      int64_t row = chunk * ManyTile::x + r;
      float factor[ManyTile::depth], inverse = 0;
      alignas(64) int16_t shorts[ManyTile::depth] = {};
      if (row < job.rows)
        for (int64_t i = 0; i < count; i++) factor[i] = job.x[row * job.xColumns + weightRow(job, from + i)] * scale[i];
      out.scales[row] = row < job.rows ? Shorts<T>::scaleOfFactors(factor, count, inverse) : 0;
      if (inverse != 0) roundToShorts(factor, count, inverse, [&](int64_t c, I v) { V::storeShorts(shorts + c, v); });
      for (int64_t q = 0; q < out.pairs; q++) __builtin_memcpy(out.panel(chunk) + q * ManyTile::x + r, shorts + 2 * q, 4);
    }
  });
}

/** The same of an accumulation. `columns`: scales of the columns of the weights, or null. */
__attribute__((noinline)) void addShortTile(float* sums, const int32_t* w, const float* columns, const int32_t* factors,
                                            const float* scales, int64_t pairs, bool isFirst) {
  constexpr int X = ManyTile::x, C = ManyTile::c;
  I acc[X * C];
  UNROLL for (int i = 0; i < X * C; i++) acc[i] = V::none();
  for (int64_t q = 0; q < pairs; q++, w += C * lanes, factors += X) {
    I b[C];
    UNROLL for (int c = 0; c < C; c++) b[c] = V::bytes(w + c * lanes);
    UNROLL for (int r = 0; r < X; r++) {
      I f = V::splat32(factors[r]);
      UNROLL for (int c = 0; c < C; c++) acc[r * C + c] = V::addPairs(acc[r * C + c], f, b[c]);
    }
  }
  UNROLL for (int r = 0; r < X; r++)
    UNROLL for (int c = 0; c < C; c++) {
      float* sum = sums + (r * C + c) * lanes;
      F before = isFirst ? V::zero() : V::load(sum), scale = V::broadcast(scales[r]);
      if (columns) scale = V::mul(scale, V::load(columns + c * lanes));
      V::store(sum, V::fma(V::floats(acc[r * C + c]), scale, before));
    }
}

template <class T>
void accumulateShorts(const void* data, int64_t number, float* scratch) {
  const BlockedJob& job = *(const BlockedJob*)data;
  AddedChunk<ManyTile> chunk(job, number, scratch, 0);
  int64_t block = 0;
  chunk.run([&](float* chains, int64_t from, int64_t to, bool isFirst) {
    ShortFactors factors(job, block++, from, to);
    typename Shorts<T>::Columns columns(job, from, to, chunk.first, chunk.width);
    for (int64_t i = from; i < to; i += 2) {  // an odd last row is its own partner, of factor zero
      int64_t second = smaller(i + 1, to - 1);
      const int64_t index[2] = {weightRow(job, i), weightRow(job, second)};
      const float scale[2] = {job.rowScales[i], job.rowScales[second]};
      columns.load(job.weight, index, scale, chunk.first, chunk.width, [&](int64_t c, const I* shorts) {
        int64_t panel = c / ManyTile::columns, v = c % ManyTile::columns / lanes;
        V::weavePairs(shorts, (int32_t*)chunk.block(panel) + ((i - from) / 2 * ManyTile::c + v) * lanes);
      });
    }
    Soon soon = chunk.after<T>(to, ManyTile::depth / 2);
    for (int64_t c = 0; c < chunk.columns; c++)
      for (int64_t p = 0; p < chunk.panels; p++) {
        for (int64_t q = 3; q < factors.pairs; q += 4) soon.step(q);
        addShortTile(chunk.sumsOf(chains, c, p), (const int32_t*)chunk.block(c), columns.scales(c * ManyTile::columns),
                     factors.panel(p), factors.scales + p * ManyTile::x, factors.pairs, isFirst);
      }
  });
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
