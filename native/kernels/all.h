/** The table of one instruction set. It must be a constant: code of this file may not run before it has been chosen. */
#pragma once
#include "accumulate-int4.h"
#include "accumulate-int8.h"
#include "attention.h"
#include "blocked-table.h"
#include "convert.h"
#include "product-quantized.h"
#include "recover.h"
#include "rows.h"
#include "screen.h"
#include "select.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** One for each weight type; with int8 some kernels are those of floats, whose elements are then int8_t. */
#define FOR_WEIGHTS(kernel, ...) {kernel<float>, kernel<Half>, kernel<Brain>, __VA_ARGS__}
#define FOR_ROWS(kernel)                                                                      \
  {overRows<kernel<float>>, overRows<kernel<Half>>, overRows<kernel<Brain>>,                  \
   overRows<kernel##Quantized<Codes8>>, overRows<kernel##Quantized<Codes4>>}

#define FOR_CACHE(C)                                                          \
  {recover<C, float>, recover<C, Half>, recover<C, Brain>, recoverQuantized<C, Codes8>, \
   recoverQuantized<C, Codes4>}

constexpr Table makeTable(const char* name) {
  return {
      name,
      FOR_WEIGHTS(productRows, productRowsQuantized<Codes8>, productRowsQuantized<Codes4>),
      FOR_WEIGHTS(productTiles, productTilesQuantized<Codes8>, productTilesQuantized<Codes4>),
      {accumulateRows<RowAdder<float>>, accumulateRows<RowAdder<Half>>, accumulateRows<RowAdder<Brain>>,
       Accumulate8<V>::rows, accumulateRows<RowsTogether<Step4<>>>},
      FOR_WEIGHTS(accumulateTiles, Accumulate8<V>::tiles, accumulateTogether<Step4<>>),
      FOR_ROWS(embeddingRow),
      FOR_ROWS(addRow),
      {FOR_CACHE(float), FOR_CACHE(Half)},
      {nullptr, nullptr, nullptr, prepare<Codes8>, prepare<Codes4>},
      convert,
      screen,
      {attention<float>, attention<Half>},
      overRows<transposeRow>,
      overRows<layerNormRow>,
      overRows<unitNormsRow>,
      overRows<selectTopKRow>,
      overRows<selectThresholdRow>,
      overRows<refineRow>,
      overRows<logSoftmaxRow>,
      overRows<argmaxRow>,
      refineShared,
      unite,
      readSum,
      nullptr,
      &blocked,
  };
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
