/**
 * The output layer: logits of all words, or of those alone that can still win. At sparse densities it is the largest
 * matrix that a token reads, and the next token needs only the best few logits exactly. So a copy of the matrix in int8
 * gives every logit with a bound on its error, and only words whose upper bound reaches the k-th best lower bound are
 * computed from the matrix itself (decision 12). The result is the same as that of the full product.
 */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";

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

/** Makes the approximate copy of an output matrix [vocab_size, width]. The tensors become the caller's. */
export async function makeScreen(kernels: Kernels, exact: Tensor): Promise<Screen> {
  const [vocabSize, width] = exact.shape as [number, number];
  const approximate = kernels.allocate("int8", [vocabSize, width]);
  const norms = kernels.allocate("f32", [2, vocabSize]);
  kernels.convert(approximate, 0, exact, 0, vocabSize);
  const blocks = [
    kernels.allocate("f32", [blockRows, width]),
    kernels.allocate("f32", [blockRows, width]),
  ] as const;
  const [rounded, true_] = [new Float32Array(blockRows * width), new Float32Array(blockRows * width)];
  const values = new Float32Array(2 * vocabSize);
  for (let first = 0; first < vocabSize; first += blockRows) {
    const rows = Math.min(blockRows, vocabSize - first);
    kernels.convert(blocks[0], 0, approximate, first, rows);
    kernels.convert(blocks[1], 0, exact, first, rows);
    await kernels.read(blocks[0], rounded);
    await kernels.read(blocks[1], true_);
    for (let r = 0; r < rows; r++) {
      let [size, error] = [0, 0];
      for (let i = r * width; i < (r + 1) * width; i++) {
        size += rounded[i]! * rounded[i]!;
        error += (true_[i]! - rounded[i]!) ** 2;
      }
      values[first + r] = Math.sqrt(size);
      values[vocabSize + first + r] = Math.sqrt(error);
    }
  }
  kernels.write(norms, values);
  for (const block of blocks) kernels.free(block);
  return { approximate, norms };
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
