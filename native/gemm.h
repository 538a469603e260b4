/** Decides which products of many rows the bfloat16 unit does, and cuts them for it. */
#pragma once
#include "kernels/gemm-job.h"
#include "pool.h"
#include "weight-rows.h"

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
  void reservePacked(int64_t elements);

  uint16_t* packed_ = nullptr;  // x of one op, for all threads: kept, so that it is seldom allocated
  int64_t packedElements_ = 0;
  WeightRows weightRows_;
};

}  // namespace dejavu
