#include "blocked.h"

#include <algorithm>
#include <new>

#include "layout.h"
#include "work.h"

namespace dejavu {
namespace {

constexpr std::align_val_t line{64};

/** From so many rows on, of weights so large: below, packing costs more than it saves. */
constexpr int64_t fewestRows = 3, leastWeights = 1 << 16;
/** Quantized weights keep the bits of a row alone below this (contract.ts). */
constexpr int64_t fewestQuantized = 16;

/** The op for so many rows, or null: rows one by one, or tiles, do better. */
const BlockedOp* choose(const BlockedOp& many, const BlockedOp& few, const Units& set, int64_t rows, int64_t columns,
                        Dtype dtype) {
  if ((set.indices && !set.shared) || selectedOf(set) * columns < leastWeights) return nullptr;
  if (rows < (isQuantized(dtype) ? fewestQuantized : fewestRows)) return nullptr;
  const BlockedOp& op = rows <= fewRows ? few : many;
  return op.multiply[weightIndex(dtype)] ? &op : nullptr;
}

}  // namespace

BlockedPlanner::~BlockedPlanner() { ::operator delete(packed_, line); }

bool BlockedPlanner::product(Pool& pool, const Blocked* blocked, const ProductJob& job, Dtype dtype) {
  const BlockedOp* op =
      blocked ? choose(blocked->product, blocked->fewProduct, job.set, job.rows, job.k, dtype) : nullptr;
  if (!op) return false;
  BlockedJob plan{};
  plan.out = job.out;
  plan.x = job.x;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = rows_.of(job.set);
  plan.rows = job.rows;
  plan.outColumns = job.n;
  plan.xColumns = plan.weightColumns = plan.depth = job.k;
  plan.width = selectedOf(job.set);
  plan.relu = job.relu;
  run(pool, plan, *op, weightIndex(dtype));
  return true;
}

bool BlockedPlanner::accumulate(Pool& pool, const Blocked* blocked, const AccumulateJob& job, Dtype dtype) {
  const BlockedOp* op =
      blocked ? choose(blocked->accumulate, blocked->fewAccumulate, job.set, job.rows, job.d, dtype) : nullptr;
  if (!op) return false;
  BlockedJob plan{};
  plan.out = job.out;
  plan.x = job.a;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = rows_.of(job.set);
  plan.rows = job.rows;
  plan.xColumns = job.n;
  plan.outColumns = plan.weightColumns = plan.width = job.d;
  plan.depth = selectedOf(job.set);
  plan.strands = strandsOf(job.set);
  plan.strand[plan.strands] = plan.depth;
  for (int64_t s = 1; s < plan.strands; s++) {
    int64_t first = firstUnit(job.set, s);
    const int32_t* units = job.set.indices;
    int64_t place = units ? std::lower_bound(units, units + job.set.counts[0], first) - units : first;
    plan.strand[s] = place * job.set.perUnit;
  }
  run(pool, plan, *op, weightIndex(dtype));
  return true;
}

/** At most mostRows rows at a time, in parts alike: all threads pack, then all multiply. */
void BlockedPlanner::run(Pool& pool, BlockedJob& job, const BlockedOp& op, int type) {
  int64_t rows = job.rows, most = multiple(quotient(rows, quotient(rows, op.mostRows)), op.panelRows);
  constexpr int64_t chunksPerThread = 4;
  int64_t share = pool.threads() == 1 ? job.width : quotient(job.width, pool.threads() * chunksPerThread);
  job.chunkWidth = std::min(multiple(share, op.widthStep), op.width);
  // Panels of columns may reach beyond the chunk.
  int64_t width = job.chunkWidth + 128;
  pool.reserve(static_cast<size_t>(op.perChunk + width * (op.perOutput + most * op.perSum)));
  // Scales stand behind the parts of a packed x, and behind each block of factors.
  int64_t packed = most * (multiple(job.depth, 16) + 2 * (job.depth / 64 + strandCount + 16));
  reservePacked(packed + job.depth);
  job.packed = packed_;
  job.rowScales = packed_ + packed;
  for (int64_t done = 0; done < rows; done += job.rows) {
    job.rows = std::min(rows - done, most);
    pool.run(op.pack[type], &job, quotient(job.rows, op.panelRows));
    pool.run(op.multiply[type], &job, quotient(job.width, job.chunkWidth));
    job.x += job.rows * job.xColumns;
    job.out += job.rows * job.outColumns;
  }
}

void BlockedPlanner::reservePacked(int64_t floats) {
  if (floats <= packedFloats_) return;
  ::operator delete(packed_, line);
  packed_ = nullptr;
  packedFloats_ = 0;
  packed_ = static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), line));
  packedFloats_ = floats;
}

}  // namespace dejavu
