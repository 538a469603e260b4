/** Memory for rows of x that have been made ready for products with quantized weights. */
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.h"

namespace dejavu {

class Prepared {
 public:
  /** Forgets all rows; their memory is kept for the next. */
  void clear() { used_ = 0; }

  /**
   * So many bytes, aligned to 64, that stay in place until `clear`. `made`: they already hold these rows, for the same
   * type of weights, and at least as many.
   */
  uint8_t* take(const void* x, Dtype weight, size_t bytes, bool& made) {
    for (size_t i = 0; i < used_; i++)
      if (kept_[i].x == x && kept_[i].weight == weight && kept_[i].bytes >= bytes) {
        made = true;
        return kept_[i].start();
      }
    if (used_ == kept_.size()) kept_.emplace_back();
    Rows& rows = kept_[used_++];
    rows.x = x;
    rows.weight = weight;
    rows.bytes = bytes;
    if (rows.memory.size() < bytes + alignment) rows.memory.resize(bytes + alignment);
    return rows.start();
  }

 private:
  static constexpr size_t alignment = 64;
  struct Rows {
    const void* x;
    Dtype weight;
    size_t bytes;
    std::vector<uint8_t> memory;

    uint8_t* start() { return memory.data() + -reinterpret_cast<uintptr_t>(memory.data()) % alignment; }
  };
  std::vector<Rows> kept_;
  size_t used_ = 0;
};

}  // namespace dejavu
