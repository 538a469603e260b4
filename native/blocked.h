/** Decides which products of several rows are worth widening weights for, and cuts them. */
#pragma once

#include "kernels/blocked-job.h"
#include "pool.h"
#include "weight-rows.h"

namespace dejavu {

/** A job on weights and x where they are; its kernel is null where it is better done otherwise. */
struct FewRows {
  Kernel kernel = nullptr;
  BlockedJob job = {};
  int64_t chunks = 0;
};

class BlockedPlanner {
 public:
  BlockedPlanner() = default;
  ~BlockedPlanner();
  BlockedPlanner(const BlockedPlanner&) = delete;
  BlockedPlanner& operator=(const BlockedPlanner&) = delete;

  /** Does the job of many rows, whose set was checked, or returns false where it is better done otherwise (`blocked` may be null). */
  bool product(Pool& pool, const Blocked* blocked, const ProductJob& job, Dtype dtype);
  bool accumulate(Pool& pool, const Blocked* blocked, const AccumulateJob& job, Dtype dtype);

  /** The job of a few rows for the caller to run, alone or beside others. */
  static FewRows few(Pool& pool, const Blocked* blocked, const ProductJob& job, Dtype dtype);
  static FewRows few(Pool& pool, const Blocked* blocked, const AccumulateJob& job, Dtype dtype);

 private:
  void run(Pool& pool, BlockedJob job, const BlockedOp& op, int type);
  void reservePacked(int64_t floats);

  float* packed_ = nullptr;  // x of one op, for all threads: kept, so that it is seldom allocated
  int64_t packedFloats_ = 0;
  WeightRows rows_;
};

}  // namespace dejavu
