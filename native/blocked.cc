#include "blocked.h"

#include <algorithm>
#include <new>

#include "layout.h"
#include "work.h"

namespace dejavu {
namespace {

constexpr std::align_val_t line{64};

/** Of weights so large: below, packing costs more than it saves. */
constexpr int64_t leastWeights = 1 << 16;
/** Quantized weights keep the bits of a row alone below this (contract.ts). */
constexpr int64_t fewestQuantized = 16;
constexpr int64_t chunksPerThread = 4;

/** The op for many rows, or null: rows one by one, or tiles, do better. */
const BlockedOp* choose(const BlockedOp& op, const Units& set, int64_t rows, int64_t columns, Dtype dtype) {
  if ((set.indices && !set.shared) || selectedOf(set) * columns < leastWeights) return nullptr;
  if (rows < (isQuantized(dtype) ? fewestQuantized : fewRows + 1)) return nullptr;
  int type = weightIndex(dtype);
  return type >= 0 && op.multiply[type] ? &op : nullptr;
}

/** `index`: the weight rows of the set. */
BlockedJob planOf(const ProductJob& job, const int32_t* index) {
  BlockedJob plan{};
  plan.out = job.out;
  plan.x = job.x;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = index;
  plan.rows = job.rows;
  plan.outColumns = job.n;
  plan.xColumns = plan.weightColumns = plan.depth = job.k;
  plan.width = selectedOf(job.set);
  plan.relu = job.relu;
  return plan;
}

BlockedJob planOf(const AccumulateJob& job, const int32_t* index) {
  BlockedJob plan{};
  plan.out = job.out;
  plan.x = job.a;
  plan.weight = job.weight;
  plan.bias = job.bias;
  plan.index = index;
  plan.rows = job.rows;
  plan.xColumns = job.n;
  plan.outColumns = plan.weightColumns = plan.width = job.d;
  plan.depth = selectedOf(job.set);
  plan.strands = strandsOf(job.set);
  findStrands(job.set, plan.strand);
  return plan;
}

/** Cuts the outputs into chunks, for so many rows at a time, and has scratch for them; returns how many there are. */
int64_t cut(Pool& pool, BlockedJob& job, const BlockedOp& op, int64_t rows) {
  int64_t threads = pool.threads(), share = threads == 1 ? job.width : quotient(job.width, threads * chunksPerThread);
  share = std::max(share, std::min(op.leastWidth, quotient(job.width, threads)));
  job.chunkWidth = std::min(multiple(share, op.widthStep), op.width);
  // Panels of columns may reach beyond the chunk.
  int64_t width = job.chunkWidth + 128;
  pool.reserve(static_cast<size_t>(op.perChunk + width * (op.perOutput + rows * op.perSum)));
  return quotient(job.width, job.chunkWidth);
}

template <class Job>
FewRows planFew(Pool& pool, const BlockedOp& op, const Job& job, Dtype dtype) {
  FewRows few;
  bool isListed = !job.set.indices || (job.set.shared && job.set.perUnit == 1);
  if (!isListed || job.rows < 2 || job.rows > fewRows || selectedOf(job.set) == 0) return few;
  few.kernel = op.multiply[weightIndex(dtype)];
  if (!few.kernel) return few;
  few.job = planOf(job, job.set.indices);
  few.chunks = cut(pool, few.job, op, multiple(job.rows, op.panelRows));
  return few;
}

}  // namespace

BlockedPlanner::~BlockedPlanner() { ::operator delete(packed_, line); }

bool BlockedPlanner::product(Pool& pool, const Blocked* blocked, const ProductJob& job, Dtype dtype) {
  const BlockedOp* op = blocked ? choose(blocked->product, job.set, job.rows, job.k, dtype) : nullptr;
  if (op) run(pool, planOf(job, rows_.of(job.set)), *op, weightIndex(dtype));
  return op;
}

bool BlockedPlanner::accumulate(Pool& pool, const Blocked* blocked, const AccumulateJob& job, Dtype dtype) {
  const BlockedOp* op = blocked ? choose(blocked->accumulate, job.set, job.rows, job.d, dtype) : nullptr;
  if (op) run(pool, planOf(job, rows_.of(job.set)), *op, weightIndex(dtype));
  return op;
}

FewRows BlockedPlanner::few(Pool& pool, const Blocked* blocked, const ProductJob& job, Dtype dtype) {
  return blocked ? planFew(pool, blocked->fewProduct, job, dtype) : FewRows{};
}

FewRows BlockedPlanner::few(Pool& pool, const Blocked* blocked, const AccumulateJob& job, Dtype dtype) {
  return blocked ? planFew(pool, blocked->fewAccumulate, job, dtype) : FewRows{};
}

/** At most mostRows rows at a time, in parts alike: all threads pack, then all multiply. */
void BlockedPlanner::run(Pool& pool, BlockedJob job, const BlockedOp& op, int type) {
  int64_t rows = job.rows, most = multiple(quotient(rows, quotient(rows, op.mostRows)), op.panelRows);
  int64_t chunks = cut(pool, job, op, most);
  // Scales stand behind the parts of a packed x, and behind each block of factors.
  int64_t packed = most * (multiple(job.depth, 16) + 2 * (job.depth / 64 + strandCount + 16));
  reservePacked(packed + job.depth);
  job.packed = packed_;
  job.rowScales = packed_ + packed;
  for (int64_t done = 0; done < rows; done += job.rows) {
    job.rows = std::min(rows - done, most);
    pool.run(op.pack[type], &job, quotient(job.rows, op.panelRows));
    pool.run(op.multiply[type], &job, chunks);
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
