/** The command that catches up with keys and values of heads that were skipped: its plan, its inputs, its job. */
#include <algorithm>
#include <cstring>

#include "places.h"
#include "work.h"

namespace dejavu {

void Queue::recover(Words& words) {
  const Matrix& keys = cache(words.next());
  const Matrix& values = cache(words.next());
  const Matrix& x = tensor(words.next(), Dtype::f32);
  const Matrix& keyWeight = weights(words.next());
  const float* keyBias = vector(words.next(), keys.columns);
  const Matrix& valueWeight = weights(words.next());
  const float* valueBias = vector(words.next(), keys.columns);
  int64_t headDim = words.count();
  const Matrix& inputs = tensor(words.next(), Dtype::f32);
  const Matrix& filled = tensor(words.next(), Dtype::i32);
  int64_t refresh = words.count();
  const Matrix& counts = tensor(words.next(), Dtype::i32);
  int64_t slot = words.count(), rows = words.count();
  Places places = this->places(words, rows);
  int64_t width = keys.columns, d = x.columns, sequences = places.sequenceCount;
  need(headDim > 0 && width > 0 && width % headDim == 0, "recover: headDim does not divide");
  int64_t heads = width / headDim;
  Units units = set(words, heads, 1, rows);
  need(values.columns == width && x.rows >= rows, "recover: the shapes do not match");
  need(keys.dtype == values.dtype, "recover: keys and values differ in dtype");
  need(keyWeight.rows == width && keyWeight.columns == d, "recover: the keys' weights have the wrong shape");
  need(valueWeight.rows == width && valueWeight.columns == d, "recover: the values' weights have the wrong shape");
  need(keyWeight.dtype == valueWeight.dtype, "recover: the weights differ in dtype");
  need(inputs.rows % sequences == 0 && inputs.columns == d, "recover: the inputs have the wrong shape");
  int64_t window = inputs.rows / sequences;
  need(refresh > 0 && refresh <= window, "recover: the refresh exceeds the window");
  need(filled.rows == sequences && filled.columns == heads, "recover: filled has the wrong shape");
  need(counts.rows > slot && counts.columns >= rows, "recover: the counts have the wrong shape");
  checkUnits(units, rows);
  if (rows == 0) return;

  int64_t cacheRows = keys.rows < values.rows ? keys.rows : values.rows;
  int64_t most = planRecovery(units, places, filled.integers(), refresh, window, rows, cacheRows);
  RecoverJob job{{keys.data, values.data},
                 {keyWeight.weights(), valueWeight.weights()},
                 {keyBias, valueBias},
                 x.floats(),
                 inputs.floats(),
                 nullptr,
                 nullptr,
                 static_cast<int64_t>(stretches_.size()),
                 places,
                 heads,
                 headDim,
                 d,
                 window,
                 0,
                 nullptr,
                 0,
                 2};
  int64_t bytes = headDim * keyWeight.rowBytes();
  if (bytes < pieceBytes) job.parts = 1;
  pool_.reserve(static_cast<size_t>(recoverOutputs(headDim)) + panelScratch);
  if (!group_.isOpen()) forget();
  if (isQuantized(keyWeight.dtype)) prepare(job, keyWeight.dtype);
  keepPlan(job);
  Kernel kernel = table_.recover[keys.dtype == Dtype::f16][weightIndex(keyWeight.dtype)];
  int64_t chunks = quotient(most, blockRows) * job.missingCount * job.parts;
  bool isSmall = bytes * job.missingCount * most * 2 < inlineBytes;
  // Where the rows' own inputs take the place of some that are still to be read, the job cannot wait for the join.
  auto replacesNone = [&](const Stretch& stretch) { return stretch.position + stretch.rows - stretch.lowest <= window; };
  if (isQuantized(keyWeight.dtype) || std::all_of(stretches_.begin(), stretches_.end(), replacesNone))
    submit(kernel, job, chunks, isSmall);
  else
    runNow(kernel, &job, chunks, isSmall);

  std::copy_n(caught_.begin(), rows, counts.integers() + slot * counts.columns);
  keepInputs(job, inputs.floats(), filled.integers());
}

/** What the rows leave behind: how far each head is filled, and their inputs. */
void Queue::keepInputs(const RecoverJob& job, float* inputs, int32_t* filled) const {
  int64_t d = job.d, window = job.window;
  const Span* span = spans_.data();
  for (const Stretch& stretch : stretches_) {
    for (int64_t h = 0; h < job.heads; h++, span++) filled[stretch.sequence * job.heads + h] = static_cast<int32_t>(span->to);
    for (int64_t i = stretch.rows > window ? stretch.rows - window : 0; i < stretch.rows; i++)
      std::memcpy(inputs + (stretch.sequence * window + (stretch.position + i) % window) * d,
                  job.x + (stretch.row + i) * d, static_cast<size_t>(d) * sizeof(float));
  }
}

/** Keeps stretches and spans for as long as the job, and lists the heads that have something to do. */
void Queue::keepPlan(RecoverJob& job) {
  auto keep = [&](const auto& items) {
    size_t bytes = items.size() * sizeof(items[0]);
    return std::memcpy(arena_.take(bytes), items.data(), bytes);
  };
  job.stretches = static_cast<const Stretch*>(keep(stretches_));
  job.spans = static_cast<const Span*>(keep(spans_));
  auto missing = reinterpret_cast<int32_t*>(arena_.take(total_.size() * sizeof(int32_t)));
  for (size_t h = 0; h < total_.size(); h++)
    if (total_[h] > 0) missing[job.missingCount++] = static_cast<int32_t>(h);
  job.missing = missing;
}

/** Rounds the inputs of all positions that any head computes, once for all heads, keys and values. */
void Queue::prepare(RecoverJob& job, Dtype weight) {
  job.preparedStride = preparedBytes(job.d);
  int64_t rows = 0;
  for (const Stretch& stretch : stretches_) rows += stretch.position + stretch.rows - stretch.lowest;
  uint8_t* out = arena_.take(static_cast<size_t>(rows * job.preparedStride));
  auto from = reinterpret_cast<const float**>(arena_.take(static_cast<size_t>(rows) * sizeof(float*)));
  int64_t row = 0;
  for (Stretch& stretch : stretches_) {
    stretch.prepared = out + row * job.preparedStride;
    for (int64_t p = stretch.lowest; p < stretch.position + stretch.rows; p++)
      from[row++] = recoverInput(job, stretch, p);
  }
  PrepareJob preparation{nullptr, from, out, job.preparedStride, job.d};
  bool isSmall = rows * job.d * static_cast<int64_t>(sizeof(float)) < inlineBytes;
  runNow(table_.prepare[weightIndex(weight)], &preparation, rows, isSmall);
}

/**
 * What a head computes of a sequence: the positions from `filled` to that of the last row that selects it, in one go, for
 * inputs of the rows' own positions are taken from x, and the kept ones, of those before, are replaced only at the end.
 * Throws where the reference would read an input that is no longer, or not yet, there. Returns the most of any head.
 */
int64_t Queue::planRecovery(const Units& units, const Places& places, const int32_t* filled, int64_t refresh,
                            int64_t window, int64_t rows, int64_t cacheRows) {
  int64_t heads = units.units;
  stretches_.clear();
  spans_.clear();
  total_.assign(static_cast<size_t>(heads), 0);
  caught_.assign(static_cast<size_t>(rows), 0);
  for (int64_t r = 0; r < rows; r++) {
    int64_t sequence = places.sequences[r], position = places.positions[r];
    if (!follows(places, r)) {
      for (const Stretch& other : stretches_)
        need(other.sequence != sequence, "recover: a sequence's rows do not follow each other");
      stretches_.push_back({sequence, r, position, 0, position, nullptr});
      for (int64_t h = 0; h < heads; h++)
        spans_.push_back({filled[sequence * heads + h], filled[sequence * heads + h]});
    }
    stretches_.back().rows++;
    Span* spans = spans_.data() + spans_.size() - heads;
    int64_t lowest = position;
    bool all = !units.indices || (position + 1) % refresh == 0;
    int64_t setRow = units.shared ? 0 : r, count = all ? heads : units.counts[setRow];
    for (int64_t i = 0; i < count; i++) {
      int64_t h = all ? i : units.indices[setRow * heads + i];
      int64_t from = spans[h].to;
      need(from >= 0, "recover: a head is filled below zero");
      if (from > position) continue;  // an earlier call got further than this row
      caught_[static_cast<size_t>(r)]++;
      need(position - from < window, "recover: a head's inputs have left the window");
      if (from < lowest) lowest = from;
      total_[static_cast<size_t>(h)] += position + 1 - from;
      spans[h].to = position + 1;
    }
    checkPages(places, sequence, lowest, position, cacheRows);
    if (lowest < stretches_.back().lowest) stretches_.back().lowest = lowest;
  }
  int64_t most = 0;
  for (int64_t total : total_) most = total > most ? total : most;
  return most;
}

}  // namespace dejavu
