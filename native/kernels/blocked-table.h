/** What there is for products of several rows. */
#pragma once
#include "blocked-shorts.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#define FLOATS(kernel, ...) {kernel<float>, kernel<Half>, kernel<Brain>, __VA_ARGS__}

/** Of float16, the kernel for integers or the one for floats. */
constexpr Kernel ofHalf(Kernel shorts, Kernel floats) { return V::fastPairs ? shorts : floats; }

constexpr Blocked blocked = {
    {ManyProduct::x, 128, 0, 12 * ManyProduct::w, ManyProduct::w, productDepth* ManyProduct::w, 0, lanes,
     {packProductRows, ofHalf(packShortRows<Half>, packProductRows), packProductRows, packShortRows<int8_t>,
      packShortRows<Codes4>},
     // Where bytes are multiplied four at a time the tiles of quantized products are faster than pairs of 16-bit numbers.
     {multiplyProduct<float>, ofHalf(multiplyShorts<Half>, multiplyProduct<Half>), multiplyProduct<Brain>,
      multipliesBytes ? nullptr : multiplyShorts<int8_t>, multipliesBytes ? nullptr : multiplyShorts<Codes4>}},
    {ManyTile::x, 128, 0, mostManyColumns, lineColumns4, 0, ManyTile::depth, 2,
     {packFactors<ManyTile>, ofHalf(packShortFactors<Half>, packFactors<ManyTile>), packFactors<ManyTile>,
      packShortFactors<int8_t>, packShortFactors<Codes4>},
     {multiplyAccumulate<float>, ofHalf(accumulateShorts<Half>, multiplyAccumulate<Half>), multiplyAccumulate<Brain>,
      accumulateShorts<int8_t>, accumulateShorts<Codes4>}},
    {FewProduct::x, fewRows, 0, 48 * FewProduct::w, FewProduct::w, productDepth*(fewRows + FewProduct::x), 0, lanes, {},
     FLOATS(multiplyFew, nullptr, nullptr)},
    {EightTile::x, fewRows, leastFewColumns, mostFewColumns, FewTile::columns,
     FewTile::depth* FewTile::columns, 0, 2, {}, FLOATS(multiplyFewAccumulate, nullptr, nullptr)},
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
