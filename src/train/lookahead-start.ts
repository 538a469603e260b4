/**
 * Where predictors start that read another tensor than fc1 does. fc1 is a map of mlp-input; started as it stands on a
 * source from before, it would be a map of the wrong space. So mlp-input is first guessed from the source by linear
 * regression, and fc1 of that guess takes fc1's place (decision 6: at the same density the divergence falls by a quarter
 * half a block ahead, by half a block ahead).
 */
import type { Kernels } from "../kernels/contract.ts";
import { f16ToNumber } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { regressHeads } from "./head-regression.ts";
import type { Rows } from "./rows.ts";

/**
 * W1·(G·s + g) + b1 for the source s, where G·s + g is the best linear guess of mlp-input.
 * @param rows of the source
 * @param target the same rows of mlp-input
 * @param fc1 float [n, d]
 * @param bias its bias [n]
 * @returns `weight` f32 [n, d], which the caller frees, and `offset` [n]
 */
export async function fc1OfGuess(
  kernels: Kernels,
  rows: Rows,
  target: Rows,
  fc1: Tensor,
  bias: Float32Array,
): Promise<{ weight: Tensor; offset: Float32Array }> {
  const { units, width } = rows;
  const value = (row: number, i: number) => f16ToNumber(target.inputs[row * width + i]!);
  const guess = await regressHeads(kernels, { ...rows, units: width, value });
  const f32 = (...shape: number[]) => kernels.allocate("f32", shape);
  const weight = f32(units, width);
  const [map, mapT, productT] = [f32(width, width), f32(width, width), f32(width, units)];
  const [shift, image] = [f32(1, width), f32(1, units)];
  kernels.write(map, guess.up);
  kernels.transpose(mapT, map, width);
  // The transposed of W1·G is Gᵀ·W1ᵀ, row by row a product with W1.
  kernels.product(productT, 0, mapT, fc1, null, "none", null, 1, width);
  kernels.transpose(weight, productT, width);
  kernels.write(shift, guess.bias);
  kernels.product(image, 0, shift, fc1, null, "none", null, 1, 1);
  const offset = new Float32Array(units);
  await kernels.read(image, offset);
  for (let u = 0; u < units; u++) offset[u]! += bias[u]!;
  for (const tensor of [map, mapT, productT, shift, image]) kernels.free(tensor);
  return { weight, offset };
}
