/**
 * The tensors of one backend and the execution of its command list. A command is its opcode followed by a fixed number of
 * 32-bit words: tensor numbers (-1 for none), integers, and the bits of floats. Every number that decides where memory is
 * touched is checked again here, whatever the other side has checked: a violation throws and drops the rest of the list.
 */
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocked.h"
#include "gemm.h"
#include "arena.h"
#include "group.h"
#include "kernels/table.h"
#include "layout.h"
#include "pool.h"

namespace dejavu {

/** The numbers of `opcodes` in addon-types.ts, in the same order. */
enum class Opcode : int32_t {
  embedding,
  addRows,
  copyRows,
  transpose,
  layerNorm,
  product,
  accumulate,
  storeRows,
  attention,
  recover,
  unitNorms,
  selectTopK,
  selectThreshold,
  refine,
  unite,
  logSoftmax,
  argmax,
  mark,
  startProfile,
  fork,
  join,
  convert,
  screen,
};

constexpr int phaseCount = 5;

/** A contiguous matrix; a vector is a matrix of one row. */
struct Matrix {
  void* data;
  Dtype dtype;
  int64_t rows, columns;

  float* floats() const { return static_cast<float*>(data); }
  int32_t* integers() const { return static_cast<int32_t*>(data); }
  Weights weights() const {
    Layout layout = layoutOf(dtype, rows, columns);
    const uint8_t* start = static_cast<const uint8_t*>(data);
    return {start, isQuantized(dtype) ? start + layout.scaleOffset : nullptr, layout.stride, layout.scaleStride};
  }
  /** What reading one row costs, scales included. */
  int64_t rowBytes() const {
    Layout layout = layoutOf(dtype, rows, columns);
    return layout.stride + layout.scaleStride;
  }
};

/** Rows of x that were made ready for products with quantized weights, of which other ops of a fork may have use. */
struct Prepared {
  const void* x;
  Dtype weight;
  int64_t rows;
  const uint8_t* start;
};

/** Ops as they were read and checked; how they are cut into chunks is not decided yet. */
struct ProductOp {
  const Matrix& x;
  const Matrix& weight;
  ProductJob job;
};
struct AccumulateOp {
  const Matrix& weight;
  AccumulateJob job;
};

class Queue {
 public:
  Queue(const Table& table, int threads) : table_(table), pool_(threads) {}

  int32_t add(const Matrix& tensor);
  void remove(int32_t id);
  void run(const int32_t* words, size_t count);
  /** Ends the profile: seconds per phase since startProfile. */
  const double* seconds() {
    profiling_ = false;
    return seconds_;
  }
  const Table& table() const { return table_; }
  Pool& pool() { return pool_; }

 private:
  class Words;

  void execute(Opcode opcode, Words& words);
  const Matrix& tensor(int32_t id, Dtype dtype) const;
  const Matrix& weights(int32_t id) const;
  const Matrix& cache(int32_t id) const;
  const float* vector(int32_t id, int64_t length) const;
  Units set(Words& words, int64_t units, int64_t perUnit, int64_t rows) const;
  Places places(Words& words, int64_t rows) const;
  int64_t planRecovery(const Units& units, const Places& places, const int32_t* filled, int64_t refresh, int64_t window,
                       int64_t rows, int64_t cacheRows);
  void overRows(Kernel kernel, RowsJob& job, int64_t bytesPerRow);
  /** Runs a job, or keeps it for the join where ops are forked. `small`: not worth sharing between threads. */
  template <class Job>
  void submit(Kernel kernel, const Job& job, int64_t chunks, bool small = false);
  /** Runs it at once, whether or not ops are forked. */
  void runNow(Kernel kernel, const void* job, int64_t chunks, bool small);
  /** Takes back what earlier ops needed. */
  void forget() {
    arena_.clear();
    prepared_.clear();
  }
  ProductOp readProduct(Words& words) const;
  AccumulateOp readAccumulate(Words& words) const;
  RowsJob readRefine(Words& words) const;
  bool tryFeedForward(ProductOp& op, Words& words);
  const uint8_t* prepare(const Matrix& weight, const Matrix& x, int64_t rows);
  /** Where the weights are quantized. */
  void prepare(ProductOp& op);
  void keepPlan(RecoverJob& job);
  void keepInputs(const RecoverJob& job, uint8_t* inputs, int32_t* filled) const;
  void cutIntoStrands(AccumulateJob& job, int64_t step, const int64_t* from);

  void embedding(Words& words);
  void addRows(Words& words);
  void copyRows(Words& words);
  void convert(Words& words);
  void screen(Words& words);
  void transpose(Words& words);
  void layerNorm(Words& words);
  void product(Words& words);
  void accumulate(Words& words);
  void storeRows(Words& words);
  void attention(Words& words);
  void recover(Words& words);
  void unitNorms(Words& words);
  void select(Words& words, Opcode opcode);
  void refine(Words& words);
  void unite(Words& words);
  void logSoftmax(Words& words);
  void argmax(Words& words);
  void mark(Words& words);
  void startProfile();
  void join();

  const Table& table_;
  Pool pool_;
  GemmPlanner gemm_;
  BlockedPlanner blocked_;
  Group group_;
  std::vector<Matrix> tensors_;  // null data: the number is free
  std::vector<int32_t> freeIds_;
  Arena arena_;  // what the ops at hand need beside their tensors
  std::vector<Prepared> prepared_;
  std::vector<Stretch> stretches_;  // what `recover` plans with: kept, so that it seldom allocates
  std::vector<Span> spans_;
  std::vector<int64_t> total_;
  std::vector<int32_t> caught_;  // by row: heads that catch up there
  std::chrono::steady_clock::time_point lastMark_;
  double seconds_[phaseCount] = {};
  bool profiling_ = false;
};

template <class Job>
void Queue::submit(Kernel kernel, const Job& job, int64_t chunks, bool small) {
  if (group_.isOpen()) return group_.add(kernel, job, chunks);
  runNow(kernel, &job, chunks, small);
}

inline void Queue::runNow(Kernel kernel, const void* job, int64_t chunks, bool small) {
  if (!small) return pool_.run(kernel, job, chunks);
  for (int64_t chunk = 0; chunk < chunks; chunk++) pool_.runHere(kernel, job, chunk);
}

}  // namespace dejavu
