/**
 * A product with a ReLU, the choice of what is above zero and an accumulation of it, one after the other as in an MLP, done as
 * one job where rows are alone: a strand of the accumulation needs its own units only, so threads meet once and not three times.
 */
#include <atomic>

#include "work.h"

namespace dejavu {
namespace {

struct FeedForwardJob {
  const Table& table;
  int64_t type;  // of both weights
  ProductJob product;
  RowsJob refine;
  AccumulateJob accumulate;
  int64_t from[strandCount + 1];  // positions, among the selected units, where strands start
  std::atomic<int64_t> done;
  int32_t kept[strandCount];
};

Units part(const Units& set, int64_t from, int32_t* count) {
  return {set.indices + from, count, set.units, set.perUnit, set.shared};
}

/** The strands' lists, each where its units were before, become one. */
void closeGaps(FeedForwardJob& job) {
  int32_t* units = const_cast<int32_t*>(job.refine.set.indices);
  int32_t count = job.kept[0];
  for (int64_t s = 1; s < strandCount; s++) {
    std::memmove(units + count, units + job.from[s], static_cast<size_t>(job.kept[s]) * sizeof *units);
    count += job.kept[s];
  }
  job.refine.set.counts[0] = count;
}

/** A chunk is a strand. */
void feedForward(const void* data, int64_t chunk, float* scratch) {
  FeedForwardJob& job = *static_cast<FeedForwardJob*>(const_cast<void*>(data));
  int64_t strand = job.accumulate.order[chunk];
  int64_t from = job.from[strand];
  int32_t count = static_cast<int32_t>(job.from[strand + 1] - from);
  ProductJob product = job.product;
  product.set = part(product.set, from, &count);
  product.chunkRows = count;
  product.chunks = 1;
  if (count > 0) job.table.productRows[job.type](&product, 0, scratch);
  RowsJob refine = job.refine;
  refine.from = part(refine.from, from, &count);
  refine.set = part(refine.set, from, job.kept + strand);
  job.table.refine(&refine, 0, scratch);
  AccumulateJob accumulate = job.accumulate;
  accumulate.set = refine.set;
  for (int64_t c = 0; c < accumulate.chunks; c++)
    job.table.accumulateRows[job.type](&accumulate, c * strandCount + chunk, scratch);
  if (job.done.fetch_add(1) == strandCount - 1) closeGaps(job);
}

}  // namespace

/** Does the product and the two ops behind it, and moves on in the list, if that is what follows; or does nothing. */
bool Queue::tryFeedForward(ProductOp& op, Words& words) {
  const ProductJob& product = op.job;
  int64_t threads = pool_.threads();
  bool fits = product.rows == 1 && product.relu && product.set.indices && product.set.perUnit == 1 && !group_.isOpen() &&
              strandsOf(product.set) == strandCount && strandCount % threads == 0 && threads > 1;
  Words ahead = words;
  if (!fits || !ahead.isNext(Opcode::refine)) return false;
  RowsJob refine = readRefine(ahead);
  const int32_t *all = product.set.indices, *counts = product.set.counts;
  if (refine.rows != 1 || refine.x != product.out || refine.from.indices != all || refine.from.counts != counts) return false;
  if (refine.set.indices == all || refine.set.counts == counts || !ahead.isNext(Opcode::accumulate)) return false;
  AccumulateOp then = readAccumulate(ahead);
  AccumulateJob& accumulate = then.job;
  if (accumulate.rows != 1 || accumulate.a != product.out || accumulate.d == 0) return false;
  if (accumulate.out == product.x || accumulate.out == product.out) return false;
  if (accumulate.set.indices != refine.set.indices || accumulate.set.counts != refine.set.counts) return false;
  int64_t bytes = product.set.counts[0] * op.weight.rowBytes();
  if (accumulate.set.perUnit != 1 || then.weight.dtype != op.weight.dtype || bytes < inlineBytes) return false;

  words = ahead;
  forget();
  prepare(op);
  refine.chunkRows = 1;
  FeedForwardJob job{table_, weightIndex(op.weight.dtype), product, refine, accumulate, {}, {0}, {}};
  findStrands(product.set, job.from);
  cutIntoStrands(job.accumulate, stepOf(then.weight.dtype), job.from);
  pool_.reserve(static_cast<size_t>(2 * job.accumulate.chunkColumns));
  pool_.run(feedForward, &job, strandCount);
  return true;
}

}  // namespace dejavu
