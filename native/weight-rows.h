/** The weight rows that a set for all rows stands for. */
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/table.h"

namespace dejavu {

class WeightRows {
 public:
  /** Ascending, or null: all. It stays until the next call. */
  const int32_t* of(const Units& set);

 private:
  std::vector<int32_t> index_;
};

/** How many there are. */
inline int64_t selectedOf(const Units& set) { return selectedRows(set, 0); }

}  // namespace dejavu
