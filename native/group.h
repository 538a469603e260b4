/** Ops between a fork and its join: kept until the join, then run as one job, so that threads meet once for all of them. */
#pragma once
#include <variant>
#include <vector>

#include "kernels/blocked-job.h"

namespace dejavu {

class Group {
 public:
  bool isOpen() const { return open_; }
  void open() { open_ = true; }

  /** Throws when the op reads or writes what another of the group writes. */
  template <class Job>
  void add(Kernel kernel, const Job& job, int64_t chunks) {
    for (const Entry& other : entries_) checkApart(job, other);
    int64_t first = entries_.empty() ? 0 : entries_.back().last;
    entries_.push_back({kernel, job, first, first + chunks});
  }

  /** Ends the group; what it held stays until `clear`. */
  int64_t close() {
    open_ = false;
    return entries_.empty() ? 0 : entries_.back().last;
  }
  void clear() {
    open_ = false;
    entries_.clear();
  }

  /** A kernel whose job is a Group: does the chunk of whichever op it belongs to. */
  static void run(const void* group, int64_t chunk, float* scratch);

 private:
  using AnyJob = std::variant<ProductJob, AccumulateJob, BlockedJob, AttentionJob, RecoverJob, RowsJob>;
  struct Entry {
    Kernel kernel;
    AnyJob job;
    int64_t first, last;  // its chunks, counted through the group
  };

  static void checkApart(const AnyJob& job, const Entry& other);

  bool open_ = false;
  std::vector<Entry> entries_;
};

}  // namespace dejavu
