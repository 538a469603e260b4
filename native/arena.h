/** Memory that ops keep until they are done: those of a fork until its join. */
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dejavu {

class Arena {
 public:
  /** So many bytes, aligned to 64, that stay in place until `clear`. */
  uint8_t* take(size_t bytes) {
    if (used_ == blocks_.size()) blocks_.emplace_back();
    std::vector<uint8_t>& block = blocks_[used_++];
    if (block.size() < bytes + alignment) block.resize(bytes + alignment);
    return block.data() + -reinterpret_cast<uintptr_t>(block.data()) % alignment;
  }

  /** Takes everything back; the memory itself is kept for the next. */
  void clear() { used_ = 0; }

 private:
  static constexpr size_t alignment = 64;
  std::vector<std::vector<uint8_t>> blocks_;
  size_t used_ = 0;
};

}  // namespace dejavu
