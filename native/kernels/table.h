/**
 * What a kernel is to the rest of the addon: a function that does one chunk of a job. Plain data only: this header is
 * compiled with and without AVX, and must leave no inline code that a linker could take from the wrong object file.
 */
#pragma once
#include <cstdint>

namespace dejavu {

struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

/** The numbers of `dtypeNumber` in addon-types.ts. */
enum class Dtype : int32_t { f32, f16, bf16, i32, u8, int8, int4 };
/** Types that weights may have: they index the arrays of `Table` in the order of WeightType. */
enum class WeightType : int32_t { f32, f16, bf16, int8, int4 };
constexpr int weightTypes = 5;

/**
 * Quantized matrices, as src/tensor/quantized.ts lays them out. Columns of a part; of a line of 64 bytes, in int8 and in int4;
 * and that follow each other with one scale: so each part has that many blocks.
 */
constexpr int64_t partColumns = 512, groupColumns = 64, lineColumns4 = 128, runColumns = 4;
constexpr int64_t partBlocks = groupColumns / runColumns, blockColumns = partColumns / partBlocks;
/** What a quantized product needs of a part of x. */
struct PreparedPart {
  int8_t x[partColumns];
  float scale[partBlocks];
  int32_t start[partBlocks];  // what sums of products with the weights' codes start from, for those are moved up
};

/** Columns of an accumulation chunk come in multiples of this, so that all vector widths divide it; 4: of int4. */
constexpr int64_t columnStep = 128, columnStep4 = partColumns;
/**
 * Long accumulations are cut into strands of rows, whose chains are added in order at the end: so threads read whole rows.
 * How many strands there are depends on the number of all rows, selected or not.
 */
constexpr int64_t strandCount = 4, strandRows = 128;
/** Shape of the blocks of the many-row product: x rows, weight rows, and the part of k that stays in L1. */
constexpr int64_t blockRows = 64, blockWeights = 16, blockDepth = 512;
/** Shape of the blocks of the many-row accumulation: x rows and columns of the chains kept in scratch. */
constexpr int64_t chainRows = 64, chainColumns = 192, chainColumns4 = partColumns;

/** Which units each row computes; `indices` null means all of them. */
struct Units {
  const int32_t* indices;  // [rows, units]
  int32_t* counts;         // [rows]
  int64_t units;
  int64_t perUnit;  // weight rows that one unit stands for
  bool shared;      // row 0's units are for all rows
};

// Static, so that each object file keeps its own.
static inline int64_t strandsOf(const Units& set) {
  return set.units * set.perUnit >= strandCount * strandRows ? strandCount : 1;
}

/** The first unit of a strand; single rows in multiples of what the steps take at once. */
static inline int64_t firstUnit(const Units& set, int64_t strand) {
  int64_t strands = strandsOf(set), unit = set.units * strand / strands;
  return set.perUnit == 1 && strand < strands ? unit / 8 * 8 : unit;
}

/** Number of weight rows that row `row` of x computes. */
static inline int64_t selectedRows(const Units& set, int64_t row) {
  return (set.indices ? set.counts[set.shared ? 0 : row] : set.units) * set.perUnit;
}

/** The position, among the selected rows of `row`, of the first one of a strand. */
static inline int64_t strandStart(const Units& set, int64_t row, int64_t strand) {
  int64_t unit = firstUnit(set, strand);
  if (!set.indices) return unit * set.perUnit;
  if (strand == 0) return 0;
  if (strand == strandsOf(set)) return selectedRows(set, row);
  const int32_t* indices = set.indices + (set.shared ? 0 : row) * set.units;
  int64_t from = 0, to = set.counts[set.shared ? 0 : row];
  while (from < to) {
    int64_t middle = (from + to) / 2;
    if (indices[middle] < unit)
      from = middle + 1;
    else
      to = middle;
  }
  return from * set.perUnit;
}

/** Where rows stand, and where the cache rows of their sequences are. */
struct Places {
  const int32_t* sequences;  // [rows]
  const int32_t* positions;  // [rows]
  const int32_t* pages;      // [sequences, maxPages]
  int64_t sequenceCount, maxPages, pageRows;
};

/** A weight matrix [rows, columns] of any type. Strides are bytes. */
struct Weights {
  const uint8_t* data;    // elements, or codes
  const uint8_t* scales;  // null unless quantized
  int64_t stride;         // of a row of data
  int64_t scaleStride;    // of a row of scales
};

/** Rows of x made ready for products with quantized weights; quantized.h says what they hold. */
struct PrepareJob {
  const float* x;  // [rows, k]
  uint8_t* out;
  int64_t stride;  // bytes of a row of out
  int64_t k;
};

struct ProductJob {
  float* out;          // [rows, n]
  const float* x;      // [rows, k]
  Weights weight;      // [n, k]
  const float* bias;   // [n] or null
  Units set;
  int64_t rows, n, k;
  bool relu;
  int64_t chunkRows;  // weight rows of a chunk
  int64_t chunks;     // chunks of one x row (or of one block of x rows)
  const uint8_t* prepared;  // the rows of x, if the weights are quantized
  int64_t preparedStride;   // bytes
};

struct AccumulateJob {
  float* out;          // [rows, d]
  const float* a;      // [rows, n]
  Weights weight;      // [n, d]
  const float* bias;   // [d] or null
  Units set;
  int64_t rows, n, d;
  int64_t chunkColumns;  // a multiple of columnStep
  int64_t chunks;        // pieces of the columns of one row (or of one block of rows)
  float* strands;        // [rows, strandCount, d, padded to columnStep] where strands are chunks of their own, or null
  uint8_t order[strandCount];  // in which they are done, then: the longest first, so that threads end together
  int32_t* finished;     // [rows, chunks] strands, zeros at first
};

struct AttentionJob {
  float* out;           // [rows, heads * headDim]
  const float* q;       // [rows, heads * headDim]
  const void* keys;     // float or Half, pages of [kvHeads, pageRows, headDim]
  const void* values;   // the same
  Units set;
  Places places;
  int64_t heads, kvHeads, headDim, rows;
  int64_t chunkHeads;  // of those that a row computes
  int64_t chunks;      // of one row
};

/** Rows of one sequence with ascending positions, as they follow each other in x. */
struct Stretch {
  int64_t sequence, row, position, rows;
  int64_t lowest;  // the first position that any head computes
};
/** The positions whose keys and values one head computes. */
struct Span {
  int64_t from, to;
};

/** Types of the cache: float and Half. */
constexpr int cacheTypes = 2;
/** Floats of scratch that `recover` keeps for outputs on their way to a cache of halves. */
constexpr int64_t recoverOutputs(int64_t headDim) { return (blockRows * headDim + 15) / 16 * 16; }

/** Two products, of keys and of values, over the positions that each head misses. */
struct RecoverJob {
  void* cache[2];         // float or Half [cacheRows, heads * headDim]
  Weights weight[2];      // [heads * headDim, d]
  const float* bias[2];   // [heads * headDim] or null
  const uint8_t* x;       // [rows]: the inputs of the positions of the stretches, floats [d] or made ready for products
  const uint8_t* inputs;  // [sequences * window]: those of positions before, alike
  int64_t inputBytes;
  const Stretch* stretches;
  const Span* spans;  // [stretchCount, heads]
  int64_t stretchCount;
  Places places;
  int64_t heads, headDim, d, window;
  const int32_t* missing;  // [missingCount]: the heads that compute anything
  int64_t missingCount;
  int64_t parts;  // 2: keys and values are different chunks, 1: they are not
};

/** The row of the kept inputs in which a position's is. */
static inline int64_t keptRow(int64_t window, int64_t sequence, int64_t position) { return sequence * window + position % window; }

/** The input of a position: one of the stretch's own, or, before it, a kept one. */
static inline const uint8_t* recoverInput(const RecoverJob& job, const Stretch& stretch, int64_t position) {
  if (position >= stretch.position) return job.x + (stretch.row + position - stretch.position) * job.inputBytes;
  return job.inputs + keptRow(job.window, stretch.sequence, position) * job.inputBytes;
}

struct ScreenJob {
  float* out;           // [rows, words]
  const float* scores;  // [rows, words]
  const float* x;       // [rows, width]
  const float* norms;   // [2, words]: of the approximate rows, and of what they lack
  Units set;            // written
  int64_t words, width, k;
};

/** Ops that treat one row of x at a time; what the other fields mean is said at each kernel. */
struct RowsJob {
  float* out;
  const float* x;  // [rows, columns]
  Weights table;
  const float* weight;
  const float* bias;
  const int32_t* ids;
  Units set;   // written by selectors; read by `refine`
  Units from;  // what `refine` and `unite` start from
  int64_t rows, columns;
  int64_t k;  // selectTopK: how many; unitNorms: width of a unit; transpose: row length of out; addRows: offset
  float number;
  int64_t chunkRows;
};

/** out[r] = x[r], in another type. */
struct ConvertJob {
  Weights out, x;
  WeightType to, from;
  int64_t rows, columns;
  int64_t chunkRows;
};

using Kernel = void (*)(const void* job, int64_t chunk, float* scratch);

struct Gemm;
struct Blocked;

struct Table {
  const char* name;
  Kernel productRows[weightTypes];      // chunk = (row, weight rows): any set, one x row at a time
  Kernel productTiles[weightTypes];     // chunk = (block of x rows, weight rows): one set for all, or none
  Kernel accumulateRows[weightTypes];   // chunk = (row, columns) or (row, columns, strand): any set
  Kernel accumulateTiles[weightTypes];  // chunk = (block of rows, columns): one set for all, or none
  Kernel embedding[weightTypes];
  Kernel addRows[weightTypes];
  Kernel recover[cacheTypes][weightTypes];  // chunk = (block of positions, head of `missing`, keys or values)
  Kernel prepare[weightTypes];  // chunk = row of x; null where the weights are not quantized
  Kernel convert;               // chunk = rows
  Kernel screen;                // chunk = row
  Kernel attention[cacheTypes];  // chunk = (row, heads)
  Kernel transpose, layerNorm, unitNorms, selectTopK, selectThreshold, refine, logSoftmax, argmax;  // chunk = rows
  Kernel refineShared, unite;  // one chunk
  Kernel readSum;  // adds up `columns` floats of x from chunk * columns on: the read probe
  const Gemm* gemm = nullptr;  // what multiplies many rows in bfloat16; null: the tiles above do
  const Blocked* blocked = nullptr;  // several rows on widened weights
};

extern const Table portableTable, avx2Table, avx512Table, avx512vnniTable, avx512vnniSecondTable, neonTable;

}  // namespace dejavu
