/** The command that catches up with keys and values of heads that were skipped: its plan, its inputs, its job. */
#include <algorithm>
#include <cstring>

#include "places.h"
#include "work.h"

namespace dejavu {
namespace {

/**
 * Asks early for the memory that a few rows' inputs are going to be kept in. It was last used a window ago: writing to it
 * line by line took longer than all else that is done here for a token (16 µs for 8 KB).
 */
void fetchKept(const uint8_t* inputs, int64_t inputBytes, const Places& places, int64_t window, int64_t rows) {
  for (int64_t r = 0; r < rows && r < 8; r++) {
    const uint8_t* kept = inputs + keptRow(window, places.sequences[r], places.positions[r]) * inputBytes;
    for (int64_t at = 0; at < inputBytes; at += 64) __builtin_prefetch(kept + at, 1);
  }
}

}  // namespace

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
  bool isRounded = isQuantized(keyWeight.dtype);
  int64_t inputBytes = isRounded ? preparedBytes(d) : d * static_cast<int64_t>(sizeof(float));
  need(inputs.rows % sequences == 0 && inputs.columns * static_cast<int64_t>(sizeof(float)) == inputBytes,
       "recover: the inputs have the wrong shape");
  int64_t window = inputs.rows / sequences;
  need(refresh > 0 && refresh <= window, "recover: the refresh exceeds the window");
  need(filled.rows == sequences && filled.columns == heads, "recover: filled has the wrong shape");
  need(counts.rows > slot && counts.columns >= rows, "recover: the counts have the wrong shape");
  checkUnits(units, rows);
  if (rows == 0) return;

  auto kept = static_cast<uint8_t*>(inputs.data);
  fetchKept(kept, inputBytes, places, window, rows);
  int64_t cacheRows = keys.rows < values.rows ? keys.rows : values.rows;
  int64_t most = planRecovery(units, places, filled.integers(), refresh, window, rows, cacheRows);
  if (!group_.isOpen()) forget();
  RecoverJob job{};
  job.cache[0] = keys.data, job.cache[1] = values.data;
  job.weight[0] = keyWeight.weights(), job.weight[1] = valueWeight.weights();
  job.bias[0] = keyBias, job.bias[1] = valueBias;
  job.x = isRounded ? prepare(keyWeight, x, rows) : static_cast<const uint8_t*>(x.data);
  job.inputs = kept, job.inputBytes = inputBytes;
  job.places = places;
  job.heads = heads, job.headDim = headDim, job.d = d, job.window = window;
  int64_t bytes = headDim * keyWeight.rowBytes();
  job.parts = bytes < pieceBytes ? 1 : 2;
  keepPlan(job);
  pool_.reserve(static_cast<size_t>(recoverOutputs(headDim)) + panelScratch);
  Kernel kernel = table_.recover[keys.dtype == Dtype::f16][weightIndex(keyWeight.dtype)];
  int64_t chunks = quotient(most, blockRows) * job.missingCount * job.parts;
  bool isSmall = bytes * job.missingCount * most * 2 < inlineBytes;
  // Where the rows' own inputs take the place of some that are still to be read, the job cannot wait for the join.
  auto replacesNone = [&](const Stretch& stretch) { return stretch.position + stretch.rows - stretch.lowest <= window; };
  if (std::all_of(stretches_.begin(), stretches_.end(), replacesNone))
    submit(kernel, job, chunks, isSmall);
  else
    runNow(kernel, &job, chunks, isSmall);

  std::copy_n(caught_.begin(), rows, counts.integers() + slot * counts.columns);
  keepInputs(job, kept, filled.integers());
}

/** What the rows leave behind: how far each head is filled, and their inputs. */
void Queue::keepInputs(const RecoverJob& job, uint8_t* inputs, int32_t* filled) const {
  const Span* span = spans_.data();
  for (const Stretch& stretch : stretches_) {
    for (int64_t h = 0; h < job.heads; h++, span++) filled[stretch.sequence * job.heads + h] = static_cast<int32_t>(span->to);
    for (int64_t i = stretch.rows > job.window ? stretch.rows - job.window : 0; i < stretch.rows; i++)
      std::memcpy(inputs + keptRow(job.window, stretch.sequence, stretch.position + i) * job.inputBytes,
                  job.x + (stretch.row + i) * job.inputBytes, static_cast<size_t>(job.inputBytes));
  }
}

/** Keeps stretches and spans for as long as the job, and lists the heads that have something to do. */
void Queue::keepPlan(RecoverJob& job) {
  auto keep = [&](const auto& items) {
    size_t bytes = items.size() * sizeof(items[0]);
    return std::memcpy(arena_.take(bytes), items.data(), bytes);
  };
  job.stretches = static_cast<const Stretch*>(keep(stretches_));
  job.stretchCount = static_cast<int64_t>(stretches_.size());
  job.spans = static_cast<const Span*>(keep(spans_));
  auto missing = reinterpret_cast<int32_t*>(arena_.take(total_.size() * sizeof(int32_t)));
  for (size_t h = 0; h < total_.size(); h++)
    if (total_[h] > 0) missing[job.missingCount++] = static_cast<int32_t>(h);
  job.missing = missing;
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
      stretches_.push_back({sequence, r, position, 0, position});
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
