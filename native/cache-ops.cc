/** The commands on the key/value cache. All places that they touch are checked before any work. */
#include <algorithm>

#include "places.h"
#include "work.h"

namespace dejavu {

/** Reads sequences, positions, pages and their rows, and checks what each row says. */
Places Queue::places(Words& words, int64_t rows) const {
  const Matrix& sequences = tensor(words.next(), Dtype::i32);
  const Matrix& positions = tensor(words.next(), Dtype::i32);
  const Matrix& pages = tensor(words.next(), Dtype::i32);
  int64_t pageRows = words.count();
  need(sequences.rows * sequences.columns >= rows, "not enough sequences");
  need(positions.rows * positions.columns >= rows, "not enough positions");
  need(pageRows > 0 && pages.columns > 0, "pages without rows");
  for (int64_t r = 0; r < rows; r++) {
    need(sequences.integers()[r] >= 0 && sequences.integers()[r] < pages.rows, "a sequence is outside the cache: it has no pages");
    need(positions.integers()[r] >= 0, "a position is outside the cache: it is negative");
  }
  return {sequences.integers(), positions.integers(), pages.integers(), pages.rows, pages.columns, pageRows};
}

/** Keys or values: floats or halves. */
const Matrix& Queue::cache(int32_t id) const {
  const Matrix& found = weights(id);
  need(found.dtype == Dtype::f32 || found.dtype == Dtype::f16, "a cache must be f32 or f16");
  return found;
}

void Queue::storeRows(Words& words) {
  const Matrix& cache = this->cache(words.next());
  const Matrix& x = tensor(words.next(), Dtype::f32);
  int64_t headDim = words.count();
  int64_t rows = words.count();
  Places places = this->places(words, rows);
  need(cache.columns == x.columns && x.rows >= rows, "storeRows: the shapes do not match");
  need(headDim > 0 && x.columns % headDim == 0, "storeRows: headDim does not divide");
  for (int64_t r = 0; r < rows; r++)
    checkPages(places, places.sequences[r], places.positions[r], places.positions[r], cache.rows);
  pool_.reserve(static_cast<size_t>(multiple(headDim, partColumns)));
  int64_t heads = x.columns / headDim, bytes = cache.rowBytes() / x.columns;
  for (int64_t r = 0; r < rows; r++) {
    int64_t page = places.pages[places.sequences[r] * places.maxPages + places.positions[r] / places.pageRows];
    Weights out = rowsFrom(cache, page * places.pageRows), from = rowsFrom(x, r);
    out.data += places.positions[r] % places.pageRows * headDim * bytes;
    out.stride = places.pageRows * headDim * bytes;  // from a head to the next
    from.stride = headDim * static_cast<int64_t>(sizeof(float));
    ConvertJob job{out, from, static_cast<WeightType>(weightIndex(cache.dtype)), WeightType::f32, heads, headDim, heads};
    pool_.runHere(table_.convert, &job, 0);
  }
}

void Queue::attention(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& q = tensor(words.next(), Dtype::f32);
  const Matrix& keys = cache(words.next());
  const Matrix& values = cache(words.next());
  int64_t headDim = words.count();
  int64_t rows = words.count();
  Places places = this->places(words, rows);
  need(headDim > 0 && q.columns % headDim == 0 && keys.columns % headDim == 0, "attention: headDim does not divide");
  int64_t heads = q.columns / headDim, kvHeads = keys.columns / headDim;
  need(kvHeads > 0 && heads > 0 && heads % kvHeads == 0, "attention: kvHeads does not divide heads");
  need(out.columns == q.columns && values.columns == keys.columns, "attention: the shapes do not match");
  need(out.rows >= rows && q.rows >= rows, "attention: too many rows");
  Units units = set(words, heads, 1, rows);
  need(keys.dtype == values.dtype, "attention: keys and values differ in dtype");
  AttentionJob job{out.floats(), q.floats(), keys.data, values.data, units, places, heads, kvHeads, headDim, rows, 0, 0};

  int64_t most = checkUnits(units, rows), longest = 0, seen = 0;
  int64_t cacheRows = keys.rows < values.rows ? keys.rows : values.rows;
  for (int64_t r = 0; r < rows; r++) {
    // The pages of a row are also those of the next, when that is the position after.
    if (r + 1 == rows || !follows(places, r + 1))
      checkPages(places, places.sequences[r], 0, places.positions[r], cacheRows);
    if (places.positions[r] >= longest) longest = places.positions[r] + 1;
    seen += places.positions[r] + 1;
  }
  if (rows == 0 || most == 0) return;
  pool_.reserve(static_cast<size_t>(headDim + longest));
  bool half = keys.dtype == Dtype::f16;
  int64_t bytes = headDim * (half ? 4 : 8);  // of a position, in keys and values
  // Heads that see little are taken together, as long as every thread has some of each row.
  job.chunkHeads = std::min(pieceBytes / (longest * bytes), quotient(most, 2 * pool_.threads()));
  if (job.chunkHeads < 1) job.chunkHeads = 1;
  job.chunks = quotient(most, job.chunkHeads);
  submit(table_.attention[half], job, rows * job.chunks, most * seen * bytes < inlineBytes);
}

}  // namespace dejavu
