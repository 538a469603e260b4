#include "queue.h"

#include "words.h"

namespace dejavu {

int32_t Queue::add(const Matrix& tensor) {
  if (freeIds_.empty()) {
    tensors_.push_back(tensor);
    return static_cast<int32_t>(tensors_.size() - 1);
  }
  int32_t id = freeIds_.back();
  freeIds_.pop_back();
  tensors_[static_cast<size_t>(id)] = tensor;
  return id;
}

void Queue::remove(int32_t id) {
  need(id >= 0 && static_cast<size_t>(id) < tensors_.size() && tensors_[static_cast<size_t>(id)].data,
       "no such tensor");
  tensors_[static_cast<size_t>(id)].data = nullptr;
  freeIds_.push_back(id);
}

const Matrix& Queue::tensor(int32_t id, Dtype dtype) const {
  need(id >= 0 && static_cast<size_t>(id) < tensors_.size(), "no such tensor");
  const Matrix& found = tensors_[static_cast<size_t>(id)];
  need(found.data, "the tensor has been freed");
  need(found.dtype == dtype, "the tensor has another dtype");
  return found;
}

/** A matrix of any type that weights may have. */
const Matrix& Queue::weights(int32_t id) const {
  need(id >= 0 && static_cast<size_t>(id) < tensors_.size(), "no such tensor");
  Dtype dtype = tensors_[static_cast<size_t>(id)].dtype;
  need(weightIndex(dtype) >= 0, "weights must be floats or quantized");
  return tensor(id, dtype);
}

/** An optional f32 vector. */
const float* Queue::vector(int32_t id, int64_t length) const {
  if (id == -1) return nullptr;
  const Matrix& found = tensor(id, Dtype::f32);
  need(found.rows * found.columns == length, "a vector has the wrong length");
  return found.floats();
}

/** Reads indices, counts, slot and whether it is shared. What the set holds is for `checkUnits` to judge. */
Units Queue::set(Words& words, int64_t units, int64_t perUnit, int64_t rows) const {
  int32_t indices = words.next(), counts = words.next();
  int64_t slot = words.count();
  bool shared = words.count() == 1;
  if (indices == -1) return {nullptr, nullptr, units, perUnit, false};
  if (shared && rows > 1) rows = 1;
  const Matrix& list = tensor(indices, Dtype::i32);
  const Matrix& sizes = tensor(counts, Dtype::i32);
  need(list.rows >= rows && list.columns == units, "the indices of an active set have the wrong shape");
  need(sizes.rows > slot && sizes.columns >= rows, "the counts of an active set have the wrong shape");
  return {list.integers(), sizes.integers() + slot * sizes.columns, units, perUnit, shared};
}

void Queue::run(const int32_t* list, size_t count) {
  Words words(list, list + count);
  try {
    while (words.more()) execute(static_cast<Opcode>(words.next()), words);
  } catch (...) {
    group_.clear();
    throw;
  }
}

void Queue::execute(Opcode opcode, Words& words) {
  switch (opcode) {
    case Opcode::embedding: return embedding(words);
    case Opcode::addRows: return addRows(words);
    case Opcode::copyRows: return copyRows(words);
    case Opcode::transpose: return transpose(words);
    case Opcode::layerNorm: return layerNorm(words);
    case Opcode::product: return product(words);
    case Opcode::accumulate: return accumulate(words);
    case Opcode::storeRows: return storeRows(words);
    case Opcode::attention: return attention(words);
    case Opcode::recover: return recover(words);
    case Opcode::unitNorms: return unitNorms(words);
    case Opcode::selectTopK: return select(words, opcode);
    case Opcode::selectThreshold: return select(words, opcode);
    case Opcode::refine: return refine(words);
    case Opcode::unite: return unite(words);
    case Opcode::logSoftmax: return logSoftmax(words);
    case Opcode::argmax: return argmax(words);
    case Opcode::mark: return mark(words);
    case Opcode::startProfile: return startProfile();
    case Opcode::fork:
      need(!group_.isOpen(), "a fork within a fork");
      // A profile runs ops one by one, so that each phase owns its time.
      if (!profiling_) group_.open();
      forget();  // what was made of x before may be another x by now
      return;
    case Opcode::join: return join();
    case Opcode::convert: return convert(words);
    case Opcode::screen: return screen(words);
  }
  need(false, "an unknown opcode in the command list");
}

void Queue::join() {
  int64_t chunks = group_.close();
  if (chunks > 0) pool_.run(Group::run, &group_, chunks);
  group_.clear();
}

void Queue::startProfile() {
  profiling_ = true;
  for (double& s : seconds_) s = 0;
  lastMark_ = std::chrono::steady_clock::now();
}

void Queue::mark(Words& words) {
  int64_t phase = words.count();
  need(phase < phaseCount, "no such phase");
  auto now = std::chrono::steady_clock::now();
  seconds_[phase] += std::chrono::duration<double>(now - lastMark_).count();
  lastMark_ = now;
}

}  // namespace dejavu
