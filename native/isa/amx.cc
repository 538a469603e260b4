/** The matrix unit AMX: eight registers of 16 rows by 64 bytes, and one instruction for 16 x 16 x 32 products. */
#include <immintrin.h>

#define DEJAVU_ISA amx
#include "../kernels/gemm-pack.h"

namespace dejavu::DEJAVU_ISA {
namespace {

/** What the registers hold: palette 1, all eight of full size. */
struct alignas(64) TileShape {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileShape tileShape;

/** The registers are in use only while a chunk is done, so that a thread that waits has no state of theirs to save. */
struct Unit {
  Unit() { _tile_loadconfig(&tileShape); }
  ~Unit() { _tile_release(); }
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;

  // Registers 0 … 3: sums. 4, 5: left. 6, 7: right.
  template <int L, int R>
  void multiply(float* sums, const uint16_t* left, const uint16_t* right, int64_t steps, bool fresh, const Ahead& ahead) {
    if (fresh) {
      _tile_zero(0);
      if constexpr (R == 2) _tile_zero(1);
      if constexpr (L == 2) _tile_zero(2);
      if constexpr (L == 2 && R == 2) _tile_zero(3);
    } else {
      _tile_loadd(0, sums, 64);
      if constexpr (R == 2) _tile_loadd(1, sums + 256, 64);
      if constexpr (L == 2) _tile_loadd(2, sums + 512, 64);
      if constexpr (L == 2 && R == 2) _tile_loadd(3, sums + 768, 64);
    }
    for (int64_t s = 0; s < steps; s++, left += stepWords, right += stepWords) {
      ahead.fetch(s);
      _tile_loadd(6, right, 64);
      _tile_loadd(4, left, 64);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (R == 2) {
        _tile_loadd(7, right + tileWords, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (L == 2) {
        _tile_loadd(5, left + tileWords, 64);
        _tile_dpbf16ps(2, 5, 6);
      }
      if constexpr (L == 2 && R == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    if constexpr (R == 2) _tile_stored(1, sums + 256, 64);
    if constexpr (L == 2) _tile_stored(2, sums + 512, 64);
    if constexpr (L == 2 && R == 2) _tile_stored(3, sums + 768, 64);
  }
};

}  // namespace
}  // namespace dejavu::DEJAVU_ISA

#include "../kernels/gemm.h"

namespace dejavu {
const Gemm amxGemm = DEJAVU_ISA::makeGemm(true);
}
