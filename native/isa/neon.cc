/** arm64: 4 lanes, 32 registers, a true fused multiply-add and hardware f16 conversion. */
#include <arm_neon.h>

#include <cstdint>

#define DEJAVU_ISA neon
#include "../kernels/table.h"

namespace dejavu::DEJAVU_ISA {
namespace {

#include "vector4.h"

struct V : Vector4 {
  static constexpr int wide = 8;   // weight rows of a tile for one x row
  static constexpr int tileX = 4;  // x rows of a tile of 4 weight rows

  using Vector4::load;
  static F load(const Half* p) { return (F)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)p))); }
  static F fma(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/all.h"

namespace dejavu {
const Table neonTable = DEJAVU_ISA::makeTable("neon");
}
