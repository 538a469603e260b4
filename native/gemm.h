/** Decides which products of many rows the bfloat16 unit does, and cuts them for it. */
#pragma once
#include <vector>

#include "kernels/gemm-job.h"
#include "pool.h"

namespace dejavu {

class GemmPlanner {
 public:
  GemmPlanner() = default;
  ~GemmPlanner();
  GemmPlanner(const GemmPlanner&) = delete;
  GemmPlanner& operator=(const GemmPlanner&) = delete;

  /** Does the job, whose set was checked, or returns false where it is not for this unit (`gemm` may be null). */
  bool product(Pool& pool, const Gemm* gemm, const ProductJob& job, Dtype dtype);
  bool accumulate(Pool& pool, const Gemm* gemm, const AccumulateJob& job, Dtype dtype);

 private:
  void run(Pool& pool, GemmJob& job, Kernel pack, Kernel multiply);
  const int32_t* weightRows(const Units& set);
  void reservePacked(int64_t elements);

  uint16_t* packed_ = nullptr;  // x of one op, for all threads: kept, so that it is seldom allocated
  int64_t packedElements_ = 0;
  std::vector<int32_t> index_;
};

}  // namespace dejavu
