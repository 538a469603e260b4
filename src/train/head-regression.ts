/**
 * Predictors of heads: the linear map of the source closest to what the heads are worth in the mean square (decision 4).
 * Deja Vu classifies whether a head is among the largest; the worth itself ranks the small ones better, which are the
 * ones to leave out, and needs no training.
 */
import type { Kernels } from "../kernels/contract.ts";
import type { Parameters } from "./factors.ts";
import { inputMoments } from "./moments.ts";
import type { Rows } from "./rows.ts";

/** Added to the covariance's diagonal, as a share of its mean: keeps directions without data from mattering. */
const ridge = 1e-3;
const maxIterations = 200;

/** Solves (C + λI)·wᵤ = cross[u] for all units together by conjugate gradients; products with C run on the kernels. */
export async function regressHeads(kernels: Kernels, rows: Rows): Promise<Parameters> {
  const { units, width } = rows;
  const { mean, covariance, valueMean, cross } = await inputMoments(kernels, rows, true);
  const diagonal = new Float32Array(width * width);
  await kernels.read(covariance, diagonal);
  let trace = 0;
  for (let i = 0; i < width; i++) trace += diagonal[i * width + i]!;
  const lambda = (ridge * trace) / width;
  const directions = kernels.allocate("f32", [units, width]);
  const images = kernels.allocate("f32", [units, width]);
  const image = new Float32Array(units * width);
  const multiply = async (vectors: Float32Array): Promise<Float32Array> => {
    kernels.write(directions, vectors);
    kernels.product(images, 0, directions, covariance, null, "none", null, 1, units);
    await kernels.read(images, image);
    for (let i = 0; i < image.length; i++) image[i]! += lambda * vectors[i]!;
    return image;
  };
  try {
    const up = await conjugateGradients(multiply, cross, units, width);
    const bias = valueMean.map((value, u) => {
      let shift = 0;
      for (let i = 0; i < width; i++) shift += up[u * width + i]! * mean[i]!;
      return value - shift;
    });
    return { rank: 0, down: null, up, bias };
  } finally {
    for (const tensor of [covariance, directions, images]) kernels.free(tensor);
  }
}

/** One system per row of `target` [units, width], side by side. */
async function conjugateGradients(
  multiply: (vectors: Float32Array) => Promise<Float32Array>,
  target: Float32Array,
  units: number,
  width: number,
): Promise<Float32Array> {
  const solution = new Float32Array(target.length);
  const residual = target.slice();
  const direction = target.slice();
  const dot = (a: Float32Array, b: Float32Array, u: number): number => {
    let sum = 0;
    for (let i = u * width; i < (u + 1) * width; i++) sum += a[i]! * b[i]!;
    return sum;
  };
  const norms = Array.from({ length: units }, (_, u) => dot(residual, residual, u));
  const enough = norms.map((norm) => norm * 1e-10);
  for (let iteration = 0; iteration < maxIterations; iteration++) {
    if (norms.every((norm, u) => norm <= enough[u]!)) break;
    const image = await multiply(direction);
    for (let u = 0; u < units; u++) {
      if (norms[u]! <= enough[u]!) continue;
      const step = norms[u]! / dot(direction, image, u);
      for (let i = u * width; i < (u + 1) * width; i++) {
        solution[i]! += step * direction[i]!;
        residual[i]! -= step * image[i]!;
      }
      const next = dot(residual, residual, u);
      for (let i = u * width; i < (u + 1) * width; i++)
        direction[i] = residual[i]! + (next / norms[u]!) * direction[i]!;
      norms[u] = next;
    }
  }
  return solution;
}
