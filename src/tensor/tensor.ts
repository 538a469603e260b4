/** What every part may know of a tensor. Where its bytes live is the business of the backend that made it. */
import type { Dtype } from "./dtype.ts";
import { bytesPerElement, isQuantized } from "./dtype.ts";
import { quantizedLayout } from "./quantized.ts";

export interface Tensor {
  readonly dtype: Dtype;
  /** Row-major extents, outermost first. */
  readonly shape: readonly number[];
}

/** Number of elements; 1 for a tensor without dimensions. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/**
 * Bytes that a tensor occupies, scales included.
 * @throws RangeError when a quantized tensor is not a matrix
 */
export function byteLength({ dtype, shape }: Tensor): number {
  if (!isQuantized(dtype)) return elementCount(shape) * bytesPerElement[dtype];
  if (shape.length !== 2)
    throw new RangeError(`a tensor of ${dtype} must be a matrix, its shape is [${shape.join(", ")}]`);
  return quantizedLayout(dtype, shape[0]!, shape[1]!).bytes;
}
