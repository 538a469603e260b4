/** The read probe: how fast all threads together read a buffer that no cache holds. */
#pragma once
#include "queue.h"

namespace dejavu {
/** Bytes per second over passes of `bytes` for at least `seconds`. */
double readBandwidth(Queue& queue, size_t bytes, double seconds);
}  // namespace dejavu
