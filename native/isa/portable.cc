/** No instruction set asked for: what any 64-bit machine has. */
#include <cstdint>

#define DEJAVU_ISA portable
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#include "vector4.h"

struct V : Vector4 {
  static constexpr int wide = 4;   // weight rows of a tile for one x row
  static constexpr int tileX = 2;  // x rows of a tile of 4 weight rows
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
const Table portableTable = DEJAVU_ISA::makeTable("portable");
}
