/**
 * The arithmetic that a backend owes the rest of the program.
 *
 * Guarantees that every backend gives, and that `test/kernels/conformance.case.ts` checks:
 * - Ops are void and ordered: each sees the results of those called before it. Only `read` waits.
 * - Sums are accumulated in float32 (or wider), whatever the weights' dtype.
 * - A row of a result does not depend on the number of threads, nor on how many rows were computed with it. With weights
 *   in any dtype but f32 the latter holds below 16 rows; 16 rows or more that share their units may be multiplied by a
 *   matrix unit that rounds both factors to bfloat16, or in sums of 16-bit integers: with bf16, int8 and int4 up to a
 *   relative 2^-7 of Σ |x · w|. With f16 less is lost than by x in float16: at most
 *   (‖w‖ Σ |x| + ‖x‖ Σ |w|) / 65400 + 2^-15 Σ |x · w|.
 *   With an active set that holds every unit, `product` and `accumulate` give the bits they give without one.
 * - Shapes are checked (`checks.ts`) before any work; a violation throws and changes nothing. What only the data can
 *   show (an id beyond the table, a set that is not ascending) may throw as late as the next wait; the ops called
 *   after the one at fault are then dropped.
 * - No op allocates, once the tensors exist.
 *
 * Matrices that pair with units are stored by rows of the unit, so that a skipped unit is a row never read:
 * `product` reads weight rows [unit outputs], `accumulate` reads rows of the transposed second matrix.
 * `rows` is always the number of leading rows of the [maxRows, …] activations that the op works on.
 *
 * "Weight" below is a matrix of any `WeightDtype`. Where it is quantized (layout: tensor/quantized.ts), `embedding` and
 * `addRows` take an element for code · scale, rounded to float32 once; `product` and `recover` round the other factor:
 * each row of x, in the blocks of tensor/quantized.ts, to codes = round(x · i) and a scale s, with
 * m = max |x| of the block, s = m / 127 and i = 127 / m in float32, rounded to nearest even; all zero where m is zero or
 * so small that i is infinite. The sum is then Σ over blocks of (s · weight scale) · (dot product of the codes, exact).
 * NaN or infinity anywhere in a row of x makes its outputs NaN. `accumulate` multiplies a[r, i] by the scale first, in
 * float32; where the weights are quantized it may round that factor: with int4 to bfloat16, or those of up to sixteen rows that
 * follow each other to multiples of a 127th of the largest of them; with int8 likewise, to multiples of a 16256th.
 */
import type { Dtype, HostArray, WeightDtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

export type Activation = "none" | "relu";

/** Where a token's time goes; `mark` books the time since the previous mark. */
export const phases = ["predictor", "attention", "mlp", "output", "rest"] as const;
export type Phase = (typeof phases)[number];

/** What a selector returns: for each row, which units to compute. It lives where the tensors live. */
export interface ActiveSet {
  /** Number of units there are (neurons, or heads). */
  readonly units: number;
  /** i32 [maxRows, units]: row r holds counts[slot, r] unit numbers, strictly ascending; the rest is unspecified. */
  readonly indices: Tensor;
  /** i32 [slots, maxRows]: many sets share one tensor, so that one `read` brings all their sizes. */
  readonly counts: Tensor;
  /** This set's row of `counts`. */
  readonly slot: number;
  /** One set for all rows: row 0's units are computed for every row of the op. */
  readonly shared?: boolean;
}

/**
 * Where the rows of a forward stand: which sequence and position each is, and where the sequences' cache rows are.
 * Head h of position p of sequence s is in page pages[s, p div pageRows] of a cache, whose page is
 * [kvHeads, pageRows, headDim], at [h, p mod pageRows]: what a head reads of a page lies in one piece.
 */
export interface Placement {
  readonly sequences: Tensor; // i32 [maxRows]
  /** i32 [maxRows]; rows of one sequence follow each other with ascending positions. */
  readonly positions: Tensor;
  readonly pages: Tensor; // i32 [maxSequences, maxPages]
  readonly pageRows: number;
}

/** What lets a head skip its keys and values now and compute them later (Deja Vu, section 4.2). */
export interface Recovery {
  /**
   * f32 [maxSequences · window, `recoveryColumns`]: inputs of the latest `window` positions p of a sequence, at row p mod
   * window. For one type of weights, for it decides what is kept of an input.
   */
  readonly inputs: Tensor;
  /** i32 [maxSequences, heads]: keys and values of positions below this are in the cache. */
  readonly filled: Tensor;
  /** After every so many positions all heads catch up; at most the window. */
  readonly refresh: number;
  /** counts[slot, r] becomes the number of heads that caught up at row r: what was read of Wk and Wv. */
  readonly counts: Tensor;
  readonly slot: number;
}

/** Ops as a backend keeps them, to do them once more. */
export interface Recording {
  readonly isRecording: true;
}

export interface Kernels {
  readonly name: "reference" | "native";
  /** The instruction set in use, for example `avx512`; `javascript` on the reference backend. */
  readonly instructionSet: string;
  readonly threads: number;

  /** A zero-filled tensor, aligned to 64 bytes where that means something. */
  allocate(dtype: Dtype, shape: readonly number[]): Tensor;
  /**
   * A tensor whose bytes are those of `file` from `offset`, a multiple of 64, on: not read until they are used, and not
   * copied. The file must not change while the tensor lives; what is written to the tensor stays in memory.
   * Null on a backend or a system that cannot do it.
   */
  map(dtype: Dtype, shape: readonly number[], file: string, offset: number): Tensor | null;
  /** Hands `fill` the tensor's bytes (or a staging area for them) to write; the tensor holds them once it resolves. */
  upload(tensor: Tensor, fill: (bytes: Uint8Array) => void | Promise<void>): Promise<void>;
  /** Copies `values` to the tensor from element `offset` on, after all ops called before. */
  write(tensor: Tensor, values: HostArray, offset?: number): void;
  /** Waits for all ops called before, then fills `into` from element `offset` of the tensor on. */
  read(tensor: Tensor, into: HostArray, offset?: number): Promise<void>;
  /** Gives a tensor's memory back. Using it afterwards throws. */
  free(tensor: Tensor): void;
  /** Ends the threads and gives all memory back. */
  dispose(): void;

  /** out[r, :] = table[ids[r], :]. out f32 [maxRows, d], table weight [vocab, d], ids i32 [maxRows]. Ids out of range throw. */
  embedding(out: Tensor, table: Tensor, ids: Tensor, rows: number): void;
  /** out[r, :] += table[indices[r] + offset, :]. out f32 [maxRows, d], table weight [n, d], indices i32 [maxRows]. */
  addRows(out: Tensor, table: Tensor, indices: Tensor, offset: number, rows: number): void;
  /** Writes the heads of x[r, :] to their places. cache f32 or f16 [pages · pageRows, d], x f32 [maxRows, d], d = kvHeads · headDim. */
  storeRows(cache: Tensor, x: Tensor, headDim: number, placement: Placement, rows: number): void;
  /** out[outRow + r, :] = x[xRow + r, :] for f32 matrices of equal width. */
  copyRows(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void;
  /**
   * out[outRow + r, :] = x[xRow + r, :] for weights of equal width, rounded to out's dtype. To f16 and bf16: to nearest even.
   * To int8: scale = max |row| / 127, code = round(x · (127 / max)), in float32, to nearest even.
   * To int4, per block: v is the value of largest magnitude, the first of equals. For each divisor of
   * `int4Divisors` in turn, scale = v / divisor in float32, rounded to f16 (never −0); code = round(x / scale) + 8 within 0 … 15, 8
   * where the scale is 0; error = Σ (x − (code − 8) · scale)², summed in float32 by ascending column, every operation
   * rounded. The first divisor of the smallest error wins.
   * Codes of NaN and infinity are unspecified, and so are those of a block of int4 beyond ± 400,000.
   */
  convert(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void;
  /** out[c, r] = x[r, c] for r < rows. x f32 [maxRows, cols], out f32 [≥ cols, rows exactly]. */
  transpose(out: Tensor, x: Tensor, rows: number): void;

  /** out[r] = (x[r] − mean) / sqrt(variance + epsilon) · weight + bias, over the last axis. f32 throughout; out may be x. */
  layerNorm(
    out: Tensor,
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    epsilon: number,
    rows: number,
  ): void;

  /**
   * out[outRow + r, o] = activation(Σ_k x[r, k] · weight[o, k] + bias[o]) for every o of the selected units. NaN passes a ReLU as NaN.
   * x f32 [maxRows, k], weight [n, k], bias f32 [n], out f32 [≥ outRow + rows, n].
   * Unit u stands for the weight rows u·rowsPerUnit … (u+1)·rowsPerUnit − 1; `set` null means all.
   * Outputs of units outside the set are left as they are.
   */
  product(
    out: Tensor,
    outRow: number,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    activation: Activation,
    set: ActiveSet | null,
    rowsPerUnit: number,
    rows: number,
  ): void;

  /**
   * out[r, :] += bias + Σ_i a[r, i] · weight[i, :] over every i of the selected units, in ascending order of i.
   * a f32 [maxRows, n], weight [n, d] (the second matrix, transposed), bias f32 [d], out f32 [maxRows, d].
   */
  accumulate(
    out: Tensor,
    a: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    set: ActiveSet | null,
    rowsPerUnit: number,
    rows: number,
  ): void;

  /**
   * Causal attention over the cache: a row sees its own sequence's positions up to its own.
   * q and out f32 [maxRows, heads · headDim]; keys, values f32 or both f16 [pages · pageRows, kvHeads · headDim], where
   * heads is a multiple of kvHeads. Only the selected heads' columns of out are written. Scores are scaled by headDim^−½.
   */
  attention(
    out: Tensor,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: ActiveSet | null,
    headDim: number,
    placement: Placement,
    rows: number,
  ): void;

  /**
   * Columns of `Recovery.inputs` where x has d: as many for weights of floats, whose inputs are kept as they are. For
   * quantized weights a backend may keep them in a form of its own, ready for products.
   */
  recoveryColumns(weight: WeightDtype, d: number): number;

  /**
   * Keeps x as the rows' inputs and brings the caches of the selected heads (null: all) up to date: for each row in
   * turn, keys and values of every position from `filled` to the row's own are computed from the kept inputs, exactly
   * as `product` would have at their time. A head that is filled beyond a row's position has nothing to catch up with
   * there. x f32 [maxRows, d]; weights of one dtype [heads · headDim, d], biases f32; caches as in `attention`.
   */
  recover(
    keys: Tensor,
    values: Tensor,
    x: Tensor,
    keyWeight: Tensor,
    keyBias: Tensor | null,
    valueWeight: Tensor,
    valueBias: Tensor | null,
    heads: ActiveSet | null,
    headDim: number,
    recovery: Recovery,
    placement: Placement,
    rows: number,
  ): void;

  /** out[r, u] = L2 norm of x[r, u·width … (u+1)·width − 1]. out f32 [maxRows, units], x f32 [maxRows, units · width]. */
  unitNorms(out: Tensor, x: Tensor, rows: number): void;
  /** The k largest of scores[r, :], all if there are fewer (ties: the lower unit first; NaN ranks below all). scores f32 [maxRows, units]. */
  selectTopK(set: ActiveSet, scores: Tensor, k: number, rows: number): void;
  /** Every unit with scores[r, u] > threshold, compared as the float64 number given; NaN is never selected. */
  selectThreshold(set: ActiveSet, scores: Tensor, threshold: number, rows: number): void;
  /**
   * Which words' logits can be among the k largest, when `scores` are their logits by a matrix in int8. set[r] = every word
   * whose score plus bound is not below the k-th largest score minus bound, where bound = norms[1, word] · |x[r]| +
   * norms[0, word] · (what rounding x[r] to codes may have taken from it) and some more for what float32 sums lose.
   * out[r, :] = −∞, for the logits of the set to be written over. scores and out f32 [maxRows, words], x f32 [maxRows, k];
   * norms f32 [2, words]: of the int8 matrix's rows, and of their difference from the exact ones.
   */
  screen(
    set: ActiveSet,
    out: Tensor,
    scores: Tensor,
    x: Tensor,
    norms: Tensor,
    k: number,
    rows: number,
  ): void;
  /** out = the units of `set` with values[r, u] > 0 : rows of the second matrix that a ReLU made superfluous are dropped.
   *  Of a shared set, units that are above zero in any row stay. */
  refine(out: ActiveSet, set: ActiveSet, values: Tensor, rows: number): void;
  /** out, a shared set = the units that any of the rows selects. */
  unite(out: ActiveSet, set: ActiveSet, rows: number): void;

  /** out[r, :] = log softmax of x[r, :]. f32 [maxRows, n]; out may be x. */
  logSoftmax(out: Tensor, x: Tensor, rows: number): void;
  /** out[r] = index of the largest of x[r, :], the first of equals; NaN never wins, and 0 is the answer if nothing else does. out i32 [maxRows], x f32 [maxRows, n]. */
  argmax(out: Tensor, x: Tensor, rows: number): void;

  /**
   * The ops between `fork` and `join` do not depend on each other: none reads or writes what another of them writes, so
   * that a backend may run them as one. Nothing is read, written or freed in between, and forks do not nest. In a
   * profile they run one by one, so that every phase owns its time.
   */
  fork(): void;
  join(): void;

  /**
   * Calls `ops` and keeps the ops that it calls, for `replay`. Null where that cannot be: they were waited for, a tensor
   * was made, written or freed in between, or the backend keeps nothing.
   */
  record(ops: () => void): Recording | null;
  /**
   * Does the recorded ops once more, on what their tensors hold now. False, and nothing is done, where a tensor of the
   * backend has been freed since.
   */
  replay(recording: Recording): boolean;

  /** Books the time since the previous mark (or `startProfile`) to `phase`. Does nothing outside a profile. */
  mark(phase: Phase): void;
  startProfile(): void;
  /** Seconds per phase since `startProfile`. */
  stopProfile(): Promise<Record<Phase, number>>;
}
