/** What there is for products of several rows. */
#pragma once
#include "blocked-accumulate.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#define BLOCKED(kernel) {kernel<float>, kernel<Half>, kernel<Brain>, kernel<int8_t>, kernel<Codes4>}
#define BLOCKED_FACTORS(Tile)                                                                        \
  {packFactors<Tile, float>, packFactors<Tile, Half>, packFactors<Tile, Brain>, packFactors<Tile, int8_t>, \
   packFactors<Tile, Codes4>}
#define BLOCKED_FLOATS(kernel) {kernel<float>, kernel<Half>, kernel<Brain>, nullptr, nullptr}
#define BLOCKED_ROWS {packProductRows, packProductRows, packProductRows, packProductRows, packProductRows}

constexpr Blocked blocked = {
    {blockedX, 128, 12 * blockedW, blockedW, productDepth* blockedW, 0, lanes, BLOCKED_ROWS, BLOCKED(multiplyProduct)},
    {ManyTile::x, 128, 128, groupColumns, 0, ManyTile::depth, 2, BLOCKED_FACTORS(ManyTile), BLOCKED(multiplyAccumulate)},
    {blockedX, fewRows, 64 * blockedW, blockedW, 0, 0, lanes, BLOCKED_ROWS, BLOCKED_FLOATS(multiplyFew)},
    {FewTile::x, fewRows, 24 * FewTile::columns, FewTile::columns, FewTile::depth* FewTile::columns, 0, 2,
     BLOCKED_FACTORS(FewTile), BLOCKED_FLOATS(multiplyFewAccumulate)},
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
