/** What there is for products of several rows. */
#pragma once
#include "blocked-shorts.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#define ROWS(quantized) {packProductRows, packProductRows, packProductRows, quantized, quantized}
#define FLOATS(kernel, ...) {kernel<float>, kernel<Half>, kernel<Brain>, __VA_ARGS__}
#define FACTORS(Tile, ...) {packFactors<Tile>, packFactors<Tile>, packFactors<Tile>, __VA_ARGS__}

constexpr Blocked blocked = {
    {blockedX, 128, 12 * blockedW, blockedW, productDepth* blockedW, 0, lanes, ROWS(packShortRows),
     FLOATS(multiplyProduct, multiplyShorts<int8_t>, multiplyShorts<Codes4>)},
    {ManyTile::x, 128, 128, groupColumns, 0, ManyTile::depth, 2,
     FACTORS(ManyTile, packShortFactors<int8_t>, packShortFactors<Codes4>),
     FLOATS(multiplyAccumulate, accumulateShorts<int8_t>, accumulateShorts<Codes4>)},
    {blockedX, fewRows, 64 * blockedW, blockedW, 0, 0, lanes, ROWS(nullptr), FLOATS(multiplyFew, nullptr, nullptr)},
    {FewTile::x, fewRows, 24 * FewTile::columns, FewTile::columns, FewTile::depth* FewTile::columns, 0, 2,
     FACTORS(FewTile, nullptr, nullptr), FLOATS(multiplyFewAccumulate, nullptr, nullptr)},
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
