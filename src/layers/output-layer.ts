/**
 * The output layer: logits of all words, or of those alone that can still win. At sparse densities it is the largest
 * matrix that a token reads, and the next token needs only the best few logits exactly. So a copy of the matrix in int8
 * gives every logit with a bound on its error, and only words whose upper bound reaches the k-th best lower bound are
 * computed from the matrix itself (decision 12). The result is the same as that of the full product.
 */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import { byteLength, type Tensor } from "../tensor/tensor.ts";

/** Matrices below this are read so fast that screening them would cost more. */
const leastBytes = 16e6;
/** More of the best words than this are not worth searching for. */
export const mostNeeded = 256;
/** Rows that are measured at a time. */
const blockRows = 256;

export interface Screen {
  readonly approximate: Tensor; // int8 [vocab_size, width]
  /** f32 [2, vocab_size]: L2 norms of each row of the approximate matrix, and of its difference from the exact one. */
  readonly norms: Tensor;
}

/** Whether a screen would read clearly less than the matrix. */
export function isWorthScreening({ dtype, shape }: Tensor): boolean {
  const bytes = shape[0]! * shape[1]! * (dtype === "f32" ? 4 : 2);
  return (dtype === "f32" || dtype === "f16" || dtype === "bf16") && bytes >= leastBytes;
}

/** Bytes of the screen of a matrix. */
export const screenBytes = ({ shape }: Tensor): number =>
  byteLength({ dtype: "int8", shape }) + byteLength({ dtype: "f32", shape: [2, shape[0]!] });

/**
 * Makes the approximate copy of an output matrix [vocab_size, width], in ops that are queued like any others: nobody
 * waits. The tensors become the caller's.
 */
export function makeScreen(kernels: Kernels, exact: Tensor): Screen {
  const [vocabSize, width] = exact.shape as [number, number];
  const scratch: Tensor[] = [];
  const make = (...shape: number[]): Tensor => {
    const tensor = kernels.allocate("f32", shape);
    scratch.push(tensor);
    return tensor;
  };
  const approximate = kernels.allocate("int8", [vocabSize, width]);
  const norms = kernels.allocate("f32", [2, vocabSize]);
  kernels.convert(approximate, 0, exact, 0, vocabSize);
  const columns = [make(vocabSize, 1), make(vocabSize, 1)] as const;
  const rounded = make(blockRows, width);
  const difference = make(blockRows, width);
  const measured = make(blockRows, 1);
  const { slack, least } = upwards(kernels, width, make);
  const take = subtraction(kernels, scratch);
  for (let first = 0; first < vocabSize; first += blockRows) {
    const rows = Math.min(blockRows, vocabSize - first);
    kernels.convert(rounded, 0, approximate, first, rows);
    kernels.convert(difference, 0, exact, first, rows);
    take(difference, rounded, rows);
    for (const [i, block] of [rounded, difference].entries()) {
      kernels.unitNorms(measured, block, rows);
      kernels.product(columns[i]!, first, measured, slack, least, "none", null, 1, rows);
    }
  }
  const line = make(1, vocabSize);
  for (const [row, column] of columns.entries()) {
    kernels.transpose(line, column, vocabSize);
    kernels.copyRows(norms, row, line, 0, 1);
  }
  for (const tensor of scratch) kernels.free(tensor);
  return { approximate, norms };
}

/** What a norm in float32 is multiplied by, and what is added, so that it is never below the true one. */
function upwards(kernels: Kernels, width: number, make: (...shape: number[]) => Tensor) {
  const slack = make(1, 1);
  const least = make(1);
  kernels.write(slack, Float32Array.of(1 + (width + 64) * 2 ** -24));
  kernels.write(least, Float32Array.of(Math.sqrt(width) * 2 ** -62)); // squares below 2^-126 may have vanished
  return { slack, least };
}

/** out[r, :] −= x[r, :], as an accumulation of row r alone, times −1. */
function subtraction(kernels: Kernels, scratch: Tensor[]) {
  const set: ActiveSet = {
    units: blockRows,
    indices: kernels.allocate("i32", [blockRows, blockRows]),
    counts: kernels.allocate("i32", [1, blockRows]),
    slot: 0,
  };
  const minusOne = kernels.allocate("f32", [blockRows, blockRows]);
  scratch.push(set.indices, set.counts, minusOne);
  const own = new Int32Array(blockRows ** 2);
  for (let r = 0; r < blockRows; r++) own[r * blockRows] = r;
  kernels.write(set.indices, own);
  kernels.write(set.counts, new Int32Array(blockRows).fill(1));
  kernels.write(minusOne, new Float32Array(blockRows ** 2).fill(-1));
  return (out: Tensor, x: Tensor, rows: number): void =>
    kernels.accumulate(out, minusOne, x, null, set, 1, rows);
}

/** The words that screening leaves, and room for the approximate logits. */
export interface ScreenBuffers {
  readonly candidates: ActiveSet; // of vocab_size units
  readonly approximate: Tensor; // f32 [maxRows, vocab_size]
}

/**
 * logits[r, :] = exact · x[r, :], where `needed` of the largest of each row suffice: the others may be −∞ instead.
 * @param x f32 [maxRows, width]
 */
export function screenedLogits(
  kernels: Kernels,
  logits: Tensor,
  x: Tensor,
  exact: Tensor,
  { approximate, norms }: Screen,
  { candidates, approximate: scores }: ScreenBuffers,
  needed: number,
  rows: number,
): void {
  kernels.product(scores, 0, x, approximate, null, "none", null, 1, rows);
  kernels.screen(candidates, logits, scores, x, norms, needed, rows);
  kernels.product(logits, 0, x, exact, null, "none", candidates, 1, rows);
}
