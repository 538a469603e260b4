#include "group.h"

#include <stdexcept>

namespace dejavu {
namespace {

/** What a job touches; null where it has no such tensor. */
struct Touched {
  const void* written[2];
  const void* read[4];
};

Touched touched(const ProductJob& job) { return {{job.out, nullptr}, {job.x, job.set.indices, job.set.counts, nullptr}}; }
Touched touched(const AccumulateJob& job) { return {{job.out, nullptr}, {job.a, job.set.indices, job.set.counts, nullptr}}; }
Touched touched(const BlockedJob& job) { return {{job.out, nullptr}, {job.x, job.index, nullptr, nullptr}}; }
Touched touched(const AttentionJob& job) { return {{job.out, nullptr}, {job.q, job.keys, job.values, job.set.indices}}; }
Touched touched(const RecoverJob& job) { return {{job.cache[0], job.cache[1]}, {job.x, nullptr, nullptr, nullptr}}; }
Touched touched(const RowsJob& job) {
  const void* out = job.out ? static_cast<const void*>(job.out) : job.set.indices;
  return {{out, job.set.counts}, {job.x, job.from.indices, job.from.counts, job.ids}};
}

bool meets(const Touched& a, const Touched& b) {
  for (const void* written : a.written) {
    if (!written) continue;
    for (const void* other : b.written)
      if (other == written) return true;
    for (const void* read : b.read)
      if (read == written) return true;
  }
  return false;
}

}  // namespace

void Group::checkApart(const AnyJob& job, const Entry& other) {
  auto of = [](const auto& one) { return touched(one); };
  Touched a = std::visit(of, job), b = std::visit(of, other.job);
  if (meets(a, b) || meets(b, a)) throw std::runtime_error("ops of a fork depend on each other");
}

void Group::run(const void* data, int64_t chunk, float* scratch) {
  const Group& group = *static_cast<const Group*>(data);
  const Entry* entry = group.entries_.data();
  while (chunk >= entry->last) entry++;
  const void* job = std::visit([](const auto& one) { return static_cast<const void*>(&one); }, entry->job);
  entry->kernel(job, chunk - entry->first, scratch);
}

}  // namespace dejavu
