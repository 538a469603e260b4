#include "weight-rows.h"

namespace dejavu {

const int32_t* WeightRows::of(const Units& set) {
  if (!set.indices || set.perUnit == 1) return set.indices;
  index_.clear();
  for (int32_t i = 0; i < set.counts[0]; i++)
    for (int64_t j = 0; j < set.perUnit; j++)
      index_.push_back(static_cast<int32_t>(set.indices[i] * set.perUnit + j));
  return index_.data();
}

}  // namespace dejavu
