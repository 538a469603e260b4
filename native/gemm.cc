#include "gemm.h"

#include <algorithm>
#include <new>

#include "layout.h"
#include "work.h"

namespace dejavu {
namespace {

/** Fewer rows give each row the bits that it has alone; a tile of the unit would be partly empty besides. */
constexpr int64_t fewestRows = 16;
constexpr std::align_val_t line{64};

bool suits(const Units& set, int64_t rows) { return rows >= fewestRows && (!set.indices || set.shared); }

}  // namespace

GemmPlanner::~GemmPlanner() { ::operator delete(packed_, line); }

bool GemmPlanner::product(Pool& pool, const Gemm* gemm, const ProductJob& job, Dtype dtype) {
  int type = weightIndex(dtype);
  if (!gemm || !gemm->product[type] || !suits(job.set, job.rows) || job.k == 0) return false;
  GemmJob plan{};
  plan.out = job.out;
  plan.x = job.x;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = weightRows_.of(job.set);
  plan.rows = job.rows;
  plan.outColumns = job.n;
  plan.xColumns = plan.weightColumns = plan.depth = job.k;
  plan.width = selectedOf(job.set);
  plan.relu = job.relu;
  run(pool, plan, gemm->packProduct, gemm->product[type]);
  return true;
}

bool GemmPlanner::accumulate(Pool& pool, const Gemm* gemm, const AccumulateJob& job, Dtype dtype) {
  int type = weightIndex(dtype);
  if (!gemm || !gemm->accumulate[type] || !suits(job.set, job.rows) || selectedOf(job.set) == 0) return false;
  GemmJob plan{};
  plan.out = job.out;
  plan.x = job.a;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = weightRows_.of(job.set);
  plan.rows = job.rows;
  plan.xColumns = job.n;
  plan.outColumns = plan.weightColumns = plan.width = job.d;
  plan.depth = selectedOf(job.set);
  run(pool, plan, gemm->packAccumulate[type], gemm->accumulate[type]);
  return true;
}

/** At most gemmRows rows at a time, so that what is packed stays near: all threads pack, then all multiply. */
void GemmPlanner::run(Pool& pool, GemmJob& job, Kernel pack, Kernel multiply) {
  int64_t rows = job.rows, most = std::min(rows, gemmRows), blocks = quotient(job.depth, gemmDepth);
  constexpr int64_t chunksPerThread = 4;  // as many chunks as balance threads, but wide ones: each passes over all of x
  int64_t share = pool.threads() == 1 ? job.width : quotient(job.width, pool.threads() * chunksPerThread);
  job.chunkWidth = std::min(quotient(share, gemmWidthStep) * gemmWidthStep, gemmWidth);
  job.stride = pool.threads();
  int64_t padded = quotient(most, gemmPanel) * gemmPanel;
  pool.reserve(static_cast<size_t>(job.chunkWidth * (gemmDepth / 2 + padded)));
  reservePacked(blocks * padded * gemmDepth);
  job.packed = packed_;
  for (int64_t done = 0; done < rows; done += job.rows) {
    job.rows = std::min(rows - done, most);
    pool.run(pack, &job, blocks * quotient(job.rows, 16));
    pool.run(multiply, &job, quotient(job.width, job.chunkWidth));
    job.x += job.rows * job.xColumns;
    job.out += job.rows * job.outColumns;
  }
}

void GemmPlanner::reservePacked(int64_t elements) {
  if (elements <= packedElements_) return;
  ::operator delete(packed_, line);
  packed_ = nullptr;
  packedElements_ = 0;
  packed_ = static_cast<uint16_t*>(::operator new(static_cast<size_t>(elements) * sizeof(uint16_t), line));
  packedElements_ = elements;
}

}  // namespace dejavu
