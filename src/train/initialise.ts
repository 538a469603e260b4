/**
 * A predictor before training: the best low-rank stand-in for fc1 on the captured inputs.
 *
 * Among all rank-r maps of h, the one closest to W1·h + b1 in the mean square over the data is its projection on the
 * r principal directions V of the pre-activations: V·Vᵀ·W1·(h − mean) + W1·mean + b1. V spans the top eigenvectors of
 * W1·C·W1ᵀ, where C is the inputs' covariance, and is found by subspace iteration (Halko et al. 2011, section 4.5).
 */
import type { Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { transposed } from "../tensor/transposed.ts";
import type { Factors } from "./factors.ts";
import { inputMoments } from "./moments.ts";
import type { Rows } from "./rows.ts";

const iterations = 8;

/** Makes the rows of a [rank, n] matrix orthonormal, the earlier ones first (modified Gram–Schmidt, run twice). */
function orthonormalise(v: Float32Array, rank: number, n: number): void {
  for (let pass = 0; pass < 2; pass++)
    for (let i = 0; i < rank; i++) {
      const row = v.subarray(i * n, (i + 1) * n);
      for (let j = 0; j < i; j++) {
        const other = v.subarray(j * n, (j + 1) * n);
        let dot = 0;
        for (let c = 0; c < n; c++) dot += row[c]! * other[c]!;
        for (let c = 0; c < n; c++) row[c]! -= dot * other[c]!;
      }
      let norm = 0;
      for (const value of row) norm += value * value;
      const scale = norm > 0 ? 1 / Math.sqrt(norm) : 0;
      for (let c = 0; c < n; c++) row[c]! *= scale;
    }
}

/**
 * @param weight fc1, float [n, d]
 * @param bias its bias [n]
 * @param rank columns of the factors; a smaller predictor is made of their leading columns (`truncate`)
 * @param next random numbers in [0, 1)
 */
export async function lowRankFactors(
  kernels: Kernels,
  rows: Rows,
  weight: Tensor,
  bias: Float32Array,
  rank: number,
  next: () => number,
): Promise<Factors> {
  const [n, d] = weight.shape as [number, number];
  const { mean, covariance } = await inputMoments(kernels, rows);
  const directions = kernels.allocate("f32", [rank, n]);
  const inInput = kernels.allocate("f32", [rank, d]);
  const scaled = kernels.allocate("f32", [rank, d]);
  const means = kernels.allocate("f32", [1, d]);
  const meanOut = kernels.allocate("f32", [1, n]);
  try {
    const v = Float32Array.from({ length: rank * n }, () => next() - 0.5);
    const zeros = new Float32Array(rank * d);
    const toInput = () => {
      kernels.write(directions, v);
      kernels.write(inInput, zeros);
      kernels.accumulate(inInput, directions, weight, null, null, 1, rank);
    };
    orthonormalise(v, rank, n);
    for (let i = 0; i < iterations; i++) {
      toInput();
      kernels.product(scaled, 0, inInput, covariance, null, "none", null, 1, rank);
      kernels.product(directions, 0, scaled, weight, null, "none", null, 1, rank);
      await kernels.read(directions, v);
      orthonormalise(v, rank, n);
    }
    toInput();
    const down = new Float32Array(rank * d);
    await kernels.read(inInput, down);
    kernels.write(means, mean);
    kernels.product(meanOut, 0, means, weight, null, "none", null, 1, 1);
    const offset = new Float32Array(n);
    await kernels.read(meanOut, offset);
    const base = offset.map((value, unit) => value + bias[unit]!);
    return { rank, units: n, width: d, down, up: transposed(v, rank, n), base, mean };
  } finally {
    for (const tensor of [covariance, directions, inInput, scaled, means, meanOut]) kernels.free(tensor);
  }
}
