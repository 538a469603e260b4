/** The commands that multiply: checks, then how the work is cut into chunks. No cut changes a bit of a result. */
#include "words.h"

namespace dejavu {
namespace {

/** Work below this is done at once by the caller: sharing it costs more than reading half of it from cache. */
constexpr int64_t inlineBytes = 32 << 10;
/** A piece has at least this much, or claiming it costs too much beside doing it. */
constexpr int64_t pieceBytes = 36 << 10;
constexpr int64_t bytesOf[weightTypes] = {4, 2, 2};

int64_t quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t multiple(int64_t a, int64_t b) { return quotient(a, b) * b; }

/** Throws unless every row's units are ascending and in range; returns the largest number of units. */
int64_t checkUnits(const Units& set, int64_t rows) {
  if (!set.indices) return set.units;
  int64_t most = 0;
  for (int64_t r = 0; r < rows; r++) {
    int32_t count = set.counts[r];
    need(count >= 0 && count <= set.units, "an active set holds more units than there are");
    const int32_t* unit = set.indices + r * set.units;
    int32_t bad = 0;
    for (int32_t i = 1; i < count; i++) bad |= unit[i] <= unit[i - 1];
    if (count > 0) bad |= unit[0] < 0 || unit[count - 1] >= set.units;
    need(!bad, "an active set is not ascending or out of range");
    if (count > most) most = count;
  }
  return most;
}

/** The length of pieces that `total` is cut into: some for each thread, alike in number, but none too small to share. */
int64_t pieceLength(int64_t total, int64_t bytesEach, int64_t step, int threads, int64_t piecesPerThread) {
  if (threads == 1 || total * bytesEach < inlineBytes) return multiple(total, step);
  int64_t each = total * bytesEach / pieceBytes / threads;
  if (each > piecesPerThread) each = piecesPerThread;
  if (each < 1) each = 1;
  return multiple(quotient(total, each * threads), step);
}

}  // namespace

void Queue::product(Words& words) {
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
  int64_t n = weight.rows, k = weight.columns, type = static_cast<int64_t>(weight.dtype);
  ProductJob job{out.floats() + outRow * n, x.floats(), weight.data, vector(biasId, n), units, rows, n, k, relu, 0, 0};

  int64_t most = checkUnits(units, rows) * perUnit;
  if (rows == 0 || most == 0) return;
  bool tiles = !units.indices && rows > 1;
  int64_t xRows = tiles ? (rows < blockRows ? rows : blockRows) : 1;
  job.chunkRows = pieceLength(most, k * bytesOf[type] * xRows, 16, pool_.threads(), 6);
  job.chunks = quotient(most, job.chunkRows);
  if (tiles) pool_.reserve(blockWeights * blockDepth + blockRows * blockWeights * 16);
  Kernel kernel = tiles ? table_.productTiles[type] : table_.productRows[type];
  pool_.run(kernel, &job, job.chunks * (tiles ? quotient(rows, blockRows) : rows));
}

void Queue::accumulate(Words& words) {
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
  int64_t n = weight.rows, d = weight.columns, type = static_cast<int64_t>(weight.dtype);
  AccumulateJob job{out.floats(), a.floats(), weight.data, vector(biasId, d), units, rows, n, d, 0, 0};

  int64_t most = checkUnits(units, rows) * perUnit;
  if (rows == 0 || d == 0) return;
  bool tiles = !units.indices && rows > 1;
  int64_t xRows = tiles ? (rows < chainRows ? rows : chainRows) : 1;
  // Long pieces of rows please the prefetcher, so each thread gets one piece of the columns where rows are alone.
  job.chunkColumns = pieceLength(d, most * bytesOf[type] * xRows, columnStep, pool_.threads(), tiles ? 3 : 1);
  if (!tiles && rows >= pool_.threads() * 4) job.chunkColumns = multiple(d, columnStep);
  if (!tiles && job.chunkColumns > 4096) job.chunkColumns = 4096;  // the chains stay in L1
  job.chunks = quotient(d, job.chunkColumns);
  pool_.reserve(static_cast<size_t>(tiles ? chainRows * chainColumns : job.chunkColumns));
  Kernel kernel = tiles ? table_.accumulateTiles[type] : table_.accumulateRows[type];
  pool_.run(kernel, &job, job.chunks * (tiles ? quotient(rows, chainRows) : rows));
}

void Queue::attention(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& q = tensor(words.next(), Dtype::f32);
  const Matrix& keys = tensor(words.next(), Dtype::f32);
  const Matrix& values = tensor(words.next(), Dtype::f32);
  int64_t headDim = words.count();
  int64_t position = words.count();
  int64_t rows = words.count();
  need(headDim > 0 && q.columns % headDim == 0 && keys.columns % headDim == 0, "attention: headDim does not divide");
  int64_t heads = q.columns / headDim, kvHeads = keys.columns / headDim;
  need(kvHeads > 0 && heads > 0 && heads % kvHeads == 0, "attention: kvHeads does not divide heads");
  need(out.columns == q.columns && values.columns == keys.columns, "attention: the shapes do not match");
  need(out.rows >= rows && q.rows >= rows, "attention: too many rows");
  need(keys.rows >= position + rows && values.rows >= position + rows, "attention: beyond the cache");
  Units units = set(words, heads, 1, rows);
  AttentionJob job{out.floats(), q.floats(), keys.floats(), values.floats(), units,
                   heads,        kvHeads,    headDim,       position,        rows};

  int64_t most = checkUnits(units, rows);
  if (rows == 0 || most == 0) return;
  pool_.reserve(static_cast<size_t>(headDim + position + rows));
  int64_t bytes = rows * most * (position + rows) * headDim * 8;
  if (bytes >= inlineBytes) return pool_.run(table_.attention, &job, rows * heads);
  for (int64_t chunk = 0; chunk < rows * heads; chunk++) pool_.runHere(table_.attention, &job, chunk);
}

}  // namespace dejavu
