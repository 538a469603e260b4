/** The commands that multiply: checks, then how the work is cut into chunks. No cut changes a bit of a result. */
#include "work.h"

namespace dejavu {
namespace {

/** Columns of a chain that stays in L1. */
constexpr int64_t longestChain = 4096;

/** The length of pieces that `total` is cut into: some for each thread, alike in number, but none too small to share. */
int64_t pieceLength(int64_t total, int64_t bytesEach, int64_t step, int threads, int64_t piecesPerThread) {
  if (threads == 1 || total * bytesEach < inlineBytes) return multiple(total, step);
  int64_t each = total * bytesEach / pieceBytes / threads;
  if (each > piecesPerThread) each = piecesPerThread;
  if (each < 1) each = 1;
  return multiple(quotient(total, each * threads), step);
}

/** The longest first; `from`: where strands start. */
void orderStrands(AccumulateJob& job, const int64_t* from) {
  auto length = [&](uint8_t s) { return from[s + 1] - from[s]; };
  for (uint8_t s = 0; s < strandCount; s++) {
    int at = s;
    for (; at > 0 && length(job.order[at - 1]) < length(s); at--) job.order[at] = job.order[at - 1];
    job.order[at] = s;
  }
}

}  // namespace

/** Rounds rows of x for products with quantized weights, once for all weight rows and for all ops of a fork. */
const uint8_t* Queue::prepare(const Matrix& weight, const Matrix& x, int64_t rows) {
  for (const Prepared& made : prepared_)
    if (made.x == x.data && made.weight == weight.dtype && made.rows >= rows) return made.start;
  int64_t stride = preparedBytes(x.columns);
  uint8_t* rowsOfX = arena_.take(static_cast<size_t>(rows * stride));
  prepared_.push_back({x.data, weight.dtype, rows, rowsOfX});
  PrepareJob preparation{x.floats(), rowsOfX, stride, x.columns};
  pool_.run(table_.prepare[weightIndex(weight.dtype)], &preparation, rows);
  return rowsOfX;
}

void Queue::prepare(ProductOp& op) {
  if (!isQuantized(op.weight.dtype)) return;
  op.job.prepared = prepare(op.weight, op.x, op.job.rows);
  op.job.preparedStride = preparedBytes(op.job.k);
}

ProductOp Queue::readProduct(Words& words) const {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  int64_t outRow = words.count();
  const Matrix& x = tensor(words.next(), Dtype::f32);
  const Matrix& weight = weights(words.next());
  int32_t biasId = words.next();
  bool relu = words.count() == 1;
  int64_t perUnit = words.count();
  int64_t rows = words.count();
  need(perUnit > 0 && weight.rows % perUnit == 0, "product: the units do not divide the weight rows");
  Units units = set(words, weight.rows / perUnit, perUnit, rows);
  need(x.columns == weight.columns && out.columns == weight.rows, "product: the shapes do not match");
  need(x.rows >= rows && out.rows >= outRow + rows, "product: too many rows");
  int64_t n = weight.rows, k = weight.columns;
  return {x, weight,
          {out.floats() + outRow * n, x.floats(), weight.weights(), vector(biasId, n), units, rows, n, k, relu, 0, 0, nullptr, 0}};
}

void Queue::product(Words& words) {
  ProductOp op = readProduct(words);
  const Matrix& weight = op.weight;
  ProductJob& job = op.job;
  const Units& units = job.set;
  int64_t rows = job.rows, type = weightIndex(weight.dtype);

  int64_t most = checkUnits(units, rows) * units.perUnit;
  if (rows == 0 || most == 0) return;
  if (tryFeedForward(op, words)) return;
  if (gemm_.product(pool_, table_.gemm, job, weight.dtype)) return;
  if (blocked_.product(pool_, table_.blocked, job, weight.dtype)) return;
  if (FewRows few = BlockedPlanner::few(pool_, table_.blocked, job, weight.dtype); few.kernel)
    return submit(few.kernel, few.job, few.chunks);
  if (!group_.isOpen()) forget();
  bool tiles = (!units.indices || units.shared) && rows > 1;
  int64_t xRows = tiles ? (rows < blockRows ? rows : blockRows) : 1;
  job.chunkRows = pieceLength(most, weight.rowBytes() * xRows, 16, pool_.threads(), 6);
  job.chunks = quotient(most, job.chunkRows);
  if (tiles) pool_.reserve(panelScratch);
  prepare(op);
  Kernel kernel = tiles ? table_.productTiles[type] : table_.productRows[type];
  submit(kernel, job, job.chunks * (tiles ? quotient(rows, blockRows) : rows));
}

/**
 * One strand of whole rows for each chunk, or of pieces of rows where there are more threads than strands. `from`: where the
 * strands start, in a set that exists by now, as the job's own may not.
 */
void Queue::cutIntoStrands(AccumulateJob& job, int64_t step, const int64_t* from) {
  int64_t pieces = quotient(pool_.threads(), strandCount * job.rows);
  job.chunkColumns = multiple(quotient(job.d, pieces), step);
  if (job.chunkColumns > longestChain) job.chunkColumns = longestChain;
  job.chunks = quotient(job.d, job.chunkColumns);
  size_t floats = static_cast<size_t>(job.rows * strandCount * multiple(job.d, step));
  size_t counts = static_cast<size_t>(job.rows * job.chunks) * sizeof(int32_t);
  job.strands = reinterpret_cast<float*>(arena_.take(floats * sizeof(float)));
  job.finished = reinterpret_cast<int32_t*>(arena_.take(counts));
  std::memset(job.finished, 0, counts);
  orderStrands(job, from);
}

AccumulateOp Queue::readAccumulate(Words& words) const {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& a = tensor(words.next(), Dtype::f32);
  const Matrix& weight = weights(words.next());
  int32_t biasId = words.next();
  int64_t perUnit = words.count();
  int64_t rows = words.count();
  need(perUnit > 0 && weight.rows % perUnit == 0, "accumulate: the units do not divide the weight rows");
  Units units = set(words, weight.rows / perUnit, perUnit, rows);
  need(out.columns == weight.columns && a.columns == weight.rows, "accumulate: the shapes do not match");
  need(out.rows >= rows && a.rows >= rows, "accumulate: too many rows");
  int64_t n = weight.rows, d = weight.columns;
  return {weight,
          {out.floats(), a.floats(), weight.weights(), vector(biasId, d), units, rows, n, d, 0, 0, nullptr, {}, nullptr}};
}

void Queue::accumulate(Words& words) {
  AccumulateOp op = readAccumulate(words);
  const Matrix& weight = op.weight;
  AccumulateJob& job = op.job;
  const Units& units = job.set;
  int64_t rows = job.rows, d = job.d, type = weightIndex(weight.dtype);

  int64_t most = checkUnits(units, rows) * units.perUnit;
  if (rows == 0 || d == 0) return;
  if (gemm_.accumulate(pool_, table_.gemm, job, weight.dtype)) return;
  if (blocked_.accumulate(pool_, table_.blocked, job, weight.dtype)) return;
  if (FewRows few = BlockedPlanner::few(pool_, table_.blocked, job, weight.dtype); few.kernel)
    return submit(few.kernel, few.job, few.chunks);
  bool tiles = (!units.indices || units.shared) && rows > 1;
  int64_t xRows = tiles ? (rows < chainRows ? rows : chainRows) : 1;
  if (!group_.isOpen()) forget();
  int64_t step = stepOf(weight.dtype);
  int64_t bytes = most * weight.rowBytes() * xRows, threads = pool_.threads();
  if (!tiles && threads > 1 && rows < threads * 4 && strandsOf(units) > 1 && bytes >= inlineBytes) {
    int64_t from[strandCount + 1];
    findStrands(units, from);
    cutIntoStrands(job, step, from);
  } else {
    // Long pieces of rows please the prefetcher, so each thread gets one piece of the columns where rows are alone.
    job.chunkColumns = pieceLength(d, quotient(bytes, d), step, pool_.threads(), tiles ? 3 : 1);
    if (!tiles && rows >= threads * 4) job.chunkColumns = multiple(d, step);
    if (!tiles && job.chunkColumns > longestChain) job.chunkColumns = longestChain;
    job.chunks = quotient(d, job.chunkColumns);
  }
  pool_.reserve(static_cast<size_t>(2 * (tiles ? chainRows * chainColumns4 : job.chunkColumns)));
  Kernel kernel = tiles ? table_.accumulateTiles[type] : table_.accumulateRows[type];
  submit(kernel, job, job.chunks * (tiles ? quotient(rows, chainRows) : rows) * (job.strands ? strandCount : 1));
}

}  // namespace dejavu
