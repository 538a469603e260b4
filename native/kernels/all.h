/** The table of one instruction set. It must be a constant: code of this file may not run before it has been chosen. */
#pragma once
#include "accumulate.h"
#include "attention.h"
#include "product.h"
#include "recover.h"
#include "rows.h"
#include "select.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#define FOR_WEIGHTS(kernel) {kernel<float>, kernel<Half>, kernel<Brain>}

constexpr Table makeTable(const char* name) {
  return {
      name,
      FOR_WEIGHTS(productRows),
      FOR_WEIGHTS(productTiles),
      FOR_WEIGHTS(accumulateRows),
      FOR_WEIGHTS(accumulateTiles),
      {overRows<embeddingRow<float>>, overRows<embeddingRow<Half>>, overRows<embeddingRow<Brain>>},
      {overRows<addRow<float>>, overRows<addRow<Half>>, overRows<addRow<Brain>>},
      FOR_WEIGHTS(recover),
      attention,
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
  };
}

}  // namespace
}  // namespace dejavu::DEJAVU_ISA
