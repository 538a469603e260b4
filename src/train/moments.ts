/** First and second moments of a predictor's inputs, on the kernels. */
import type { Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { createBatch, fillBatch } from "./batches.ts";
import type { Rows } from "./rows.ts";

const batchSize = 512;

export interface Moments {
  readonly mean: Float32Array; // [width]
  readonly covariance: Tensor; // f32 [width, width]; the caller frees it
  /** Mean of each unit's worth [units], and its covariance with the inputs [units, width]. */
  readonly valueMean: Float32Array;
  readonly cross: Float32Array;
}

/**
 * Moments over the training rows, whole batches of them.
 * @param withValues also those of the units' worth; for few units
 */
export async function inputMoments(kernels: Kernels, rows: Rows, withValues = false): Promise<Moments> {
  const { width } = rows;
  const units = withValues ? rows.units : 0;
  const size = Math.min(batchSize, rows.train.length);
  const batch = createBatch(rows, size);
  const x = kernels.allocate("f32", [size, width]);
  const xt = kernels.allocate("f32", [width, size]);
  const covariance = kernels.allocate("f32", [width, width]);
  const sum = new Float64Array(width);
  const valueSum = new Float64Array(units);
  const crossSum = new Float64Array(units * width);
  let count = 0;
  for (let start = 0; start + size <= rows.train.length; start += size) {
    const numbers = rows.train.subarray(start, start + size);
    fillBatch(batch, rows, numbers);
    for (let i = 0; i < batch.inputs.length; i++) sum[i % width]! += batch.inputs[i]!;
    for (let u = 0; u < units; u++)
      for (const [at, row] of numbers.entries()) {
        const value = rows.value(row, u);
        valueSum[u]! += value;
        for (let i = 0; i < width; i++) crossSum[u * width + i]! += value * batch.inputs[at * width + i]!;
      }
    kernels.write(x, batch.inputs);
    kernels.transpose(xt, x, size);
    kernels.accumulate(covariance, xt, x, null, null, 1, width);
    count += size;
  }
  const mean = Float32Array.from(sum, (value) => value / count);
  const valueMean = Float32Array.from(valueSum, (value) => value / count);
  const cross = Float32Array.from(
    crossSum,
    (value, i) => value / count - valueMean[Math.floor(i / width)]! * mean[i % width]!,
  );
  const products = new Float32Array(width * width);
  await kernels.read(covariance, products);
  for (let i = 0; i < width; i++)
    for (let j = 0; j < width; j++)
      products[i * width + j] = products[i * width + j]! / count - mean[i]! * mean[j]!;
  kernels.write(covariance, products);
  kernels.free(x);
  kernels.free(xt);
  return { mean, covariance, valueMean, cross };
}
