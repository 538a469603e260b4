/**
 * A predictor before training: the best low-rank stand-in for fc1 on the captured inputs.
 *
 * Among all rank-r maps of h, the one closest to W1·h + b1 in the mean square over the data is its projection on the
 * r principal directions V of the pre-activations: V·Vᵀ·W1·(h − mean) + W1·mean + b1. V spans the top eigenvectors of
 * W1·C·W1ᵀ, where C is the inputs' covariance, and is found by subspace iteration (Halko et al. 2011, section 4.5).
 */
import type { Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { createBatch, fillBatch } from "./batches.ts";
import type { Factors } from "./factors.ts";
import type { Rows } from "./rows.ts";

const batchSize = 512;
const iterations = 8;

/** Mean [width] and covariance f32 [width, width] of the training inputs. */
async function inputStatistics(
  kernels: Kernels,
  rows: Rows,
): Promise<{ mean: Float32Array; covariance: Tensor }> {
  const { width } = rows;
  const size = Math.min(batchSize, rows.train.length);
  const batch = createBatch(rows, size);
  const x = kernels.allocate("f32", [size, width]);
  const xt = kernels.allocate("f32", [width, size]);
  const covariance = kernels.allocate("f32", [width, width]);
  const sum = new Float64Array(width);
  let count = 0;
  for (let start = 0; start + size <= rows.train.length; start += size) {
    fillBatch(batch, rows, rows.train.subarray(start, start + size));
    for (let i = 0; i < batch.inputs.length; i++) sum[i % width]! += batch.inputs[i]!;
    kernels.write(x, batch.inputs);
    kernels.transpose(xt, x, size);
    kernels.accumulate(covariance, xt, x, null, null, 1, width);
    count += size;
  }
  const mean = Float32Array.from(sum, (value) => value / count);
  const products = new Float32Array(width * width);
  await kernels.read(covariance, products);
  for (let i = 0; i < width; i++)
    for (let j = 0; j < width; j++)
      products[i * width + j] = products[i * width + j]! / count - mean[i]! * mean[j]!;
  kernels.write(covariance, products);
  kernels.free(x);
  kernels.free(xt);
  return { mean, covariance };
}

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
  const { mean, covariance } = await inputStatistics(kernels, rows);
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

function transposed(v: Float32Array, rank: number, n: number): Float32Array {
  const out = new Float32Array(v.length);
  for (let i = 0; i < rank; i++) for (let u = 0; u < n; u++) out[u * rank + i] = v[i * n + u]!;
  return out;
}
