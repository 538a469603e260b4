/** Which instruction sets this machine can run. */
#pragma once
#include "../kernels/table.h"

namespace dejavu {
/** The tables that this machine can run, best first, ended by null. */
const Table* const* usableTables();
}  // namespace dejavu
