/** The commands that move or reduce rows. */
#include "work.h"

namespace dejavu {
namespace {

/** Rows with less than this in all are done at once by the caller. */
constexpr int64_t inlineRows = 64 << 10;

void copy(const void* data, int64_t, float*) {
  const RowsJob& job = *static_cast<const RowsJob*>(data);
  std::memmove(job.out, job.x, static_cast<size_t>(job.rows * job.columns) * sizeof(float));
}

}  // namespace

/** Cuts the rows into chunks of some size and runs them. */
void Queue::overRows(Kernel kernel, RowsJob& job, int64_t bytesPerRow) {
  if (job.rows == 0) return;
  int64_t all = job.rows * (bytesPerRow + 1), pieces = all / (inlineRows / 2);
  int64_t most = static_cast<int64_t>(pool_.threads()) * 4;
  if (pieces > most) pieces = most;
  if (all < inlineRows || pool_.threads() == 1) pieces = 1;
  if (pieces > job.rows) pieces = job.rows;
  job.chunkRows = (job.rows + pieces - 1) / pieces;
  submit(kernel, job, (job.rows + job.chunkRows - 1) / job.chunkRows);
}

void Queue::embedding(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& table = weights(words.next());
  const Matrix& ids = tensor(words.next(), Dtype::i32);
  RowsJob job{};
  job.rows = words.count();
  need(out.rows >= job.rows && out.columns == table.columns, "embedding: out has the wrong shape");
  need(ids.rows * ids.columns >= job.rows, "embedding: not enough ids");
  for (int64_t r = 0; r < job.rows; r++)
    need(ids.integers()[r] >= 0 && ids.integers()[r] < table.rows, "embedding: an id is out of range");
  job.out = out.floats();
  job.table = table.weights();
  job.ids = ids.integers();
  job.columns = table.columns;
  overRows(table_.embedding[weightIndex(table.dtype)], job, table.columns * 8);
}

void Queue::addRows(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& table = weights(words.next());
  const Matrix& indices = tensor(words.next(), Dtype::i32);
  RowsJob job{};
  job.k = words.count();
  job.rows = words.count();
  need(out.rows >= job.rows && out.columns == table.columns, "addRows: out has the wrong shape");
  need(indices.rows * indices.columns >= job.rows, "addRows: not enough indices");
  for (int64_t r = 0; r < job.rows; r++) {
    int64_t row = indices.integers()[r] + job.k;
    need(row >= 0 && row < table.rows, "addRows: a row is outside the table");
  }
  job.out = out.floats();
  job.table = table.weights();
  job.ids = indices.integers();
  job.columns = table.columns;
  overRows(table_.addRows[weightIndex(table.dtype)], job, table.columns * 8);
}

void Queue::copyRows(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  int64_t outRow = words.count();
  const Matrix& x = tensor(words.next(), Dtype::f32);
  int64_t xRow = words.count();
  int64_t rows = words.count();
  need(out.columns == x.columns && out.rows >= outRow + rows && x.rows >= xRow + rows, "copyRows: the shapes do not match");
  RowsJob job{};
  job.rows = rows;
  job.columns = x.columns;
  job.out = out.floats() + outRow * x.columns;
  job.x = x.floats() + xRow * x.columns;
  submit(copy, job, 1);
}

void Queue::convert(Words& words) {
  const Matrix& out = weights(words.next());
  int64_t outRow = words.count();
  const Matrix& x = weights(words.next());
  int64_t xRow = words.count();
  ConvertJob job{};
  job.rows = words.count();
  job.columns = x.columns;
  need(out.columns == x.columns && out.rows >= outRow + job.rows && x.rows >= xRow + job.rows,
       "convert: the shapes do not match");
  need(&out != &x, "convert: a matrix cannot be converted into itself");
  job.out = rowsFrom(out, outRow);
  job.x = rowsFrom(x, xRow);
  job.to = static_cast<WeightType>(weightIndex(out.dtype));
  job.from = static_cast<WeightType>(weightIndex(x.dtype));
  if (job.rows == 0) return;
  int64_t pieces = job.rows * x.columns * 4 / pieceBytes + 1, most = static_cast<int64_t>(pool_.threads()) * 4;
  job.chunkRows = quotient(job.rows, pieces < most ? pieces : most);
  pool_.reserve(static_cast<size_t>(multiple(x.columns, partColumns)));
  pool_.run(table_.convert, &job, quotient(job.rows, job.chunkRows));
}

void Queue::transpose(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.k = words.count();
  need(x.rows >= job.k && out.rows >= x.columns && out.columns == job.k, "transpose: the shapes do not match");
  job.out = out.floats();
  job.x = x.floats();
  job.columns = x.columns;
  job.rows = x.columns;
  overRows(table_.transpose, job, job.k * 8);
}

void Queue::layerNorm(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.weight = vector(words.next(), x.columns);
  job.bias = vector(words.next(), x.columns);
  job.number = words.number();
  job.rows = words.count();
  need(x.rows >= job.rows && out.rows >= job.rows && out.columns == x.columns, "layerNorm: the shapes do not match");
  job.out = out.floats();
  job.x = x.floats();
  job.columns = x.columns;
  overRows(table_.layerNorm, job, x.columns * 16);
}

void Queue::unitNorms(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.rows = words.count();
  need(out.columns > 0 && x.columns % out.columns == 0, "unitNorms: the units do not divide");
  need(x.rows >= job.rows && out.rows >= job.rows, "unitNorms: too many rows");
  job.out = out.floats();
  job.x = x.floats();
  job.columns = out.columns;
  job.k = x.columns / out.columns;
  overRows(table_.unitNorms, job, x.columns * 4);
}

/** selectTopK carries an integer, selectThreshold a float, and otherwise they are alike. */
void Queue::select(Words& words, Opcode opcode) {
  const Matrix& scores = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  if (opcode == Opcode::selectTopK)
    job.k = words.count();
  else
    job.number = words.number();
  job.rows = words.count();
  job.set = set(words, scores.columns, 1, job.rows);
  need(job.set.indices && scores.rows >= job.rows, "select: the shapes do not match");
  need(!job.set.shared || job.rows <= 1, "select: a shared set takes one row");
  job.x = scores.floats();
  job.columns = scores.columns;
  bool top = opcode == Opcode::selectTopK;
  overRows(top ? table_.selectTopK : table_.selectThreshold, job, scores.columns * (top ? 64 : 8));
}

RowsJob Queue::readRefine(Words& words) const {
  const Matrix& values = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.rows = words.count();
  job.set = set(words, values.columns, 1, job.rows);
  job.from = set(words, values.columns, 1, job.rows);
  need(job.set.indices && job.from.indices && values.rows >= job.rows, "refine: the shapes do not match");
  need(job.set.shared == job.from.shared, "refine: one set is shared and the other is not");
  job.x = values.floats();
  job.columns = values.columns;
  return job;
}

void Queue::refine(Words& words) {
  RowsJob job = readRefine(words);
  checkUnits(job.from, job.rows);
  if (job.set.shared && job.rows > 1) return pool_.runHere(table_.refineShared, &job, 0);
  overRows(table_.refine, job, job.columns * 8);
}

void Queue::unite(Words& words) {
  RowsJob job{};
  job.columns = words.count();
  job.rows = words.count();
  job.set = set(words, job.columns, 1, job.rows);
  job.from = set(words, job.columns, 1, job.rows);
  need(job.set.indices && job.from.indices && job.rows > 0, "unite: the shapes do not match");
  need(job.set.shared && !job.from.shared, "unite: the wrong set is shared");
  checkUnits(job.from, job.rows);
  pool_.reserve(static_cast<size_t>(job.columns));
  pool_.runHere(table_.unite, &job, 0);
}

void Queue::screen(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& scores = tensor(words.next(), Dtype::f32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  const Matrix& norms = tensor(words.next(), Dtype::f32);
  int64_t k = words.count(), rows = words.count();
  Units units = set(words, scores.columns, 1, rows);
  need(units.indices && !units.shared && k > 0, "screen: needs a set of its own for each row, and a k above 0");
  need(scores.rows >= rows && out.rows >= rows && x.rows >= rows, "screen: too many rows");
  need(out.columns == scores.columns && norms.rows == 2 && norms.columns == scores.columns, "screen: the shapes do not match");
  if (k > scores.columns) k = scores.columns;
  ScreenJob job{out.floats(), scores.floats(), x.floats(), norms.floats(), units, scores.columns, x.columns, k};
  pool_.reserve(static_cast<size_t>(k));
  pool_.run(table_.screen, &job, rows);
}

void Queue::logSoftmax(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::f32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.rows = words.count();
  need(x.rows >= job.rows && out.rows >= job.rows && out.columns == x.columns, "logSoftmax: the shapes do not match");
  job.out = out.floats();
  job.x = x.floats();
  job.columns = x.columns;
  overRows(table_.logSoftmax, job, x.columns * 16);
}

void Queue::argmax(Words& words) {
  const Matrix& out = tensor(words.next(), Dtype::i32);
  const Matrix& x = tensor(words.next(), Dtype::f32);
  RowsJob job{};
  job.rows = words.count();
  need(x.rows >= job.rows && out.rows * out.columns >= job.rows, "argmax: the shapes do not match");
  job.ids = out.integers();
  job.x = x.floats();
  job.columns = x.columns;
  overRows(table_.argmax, job, x.columns * 8);
}

}  // namespace dejavu
