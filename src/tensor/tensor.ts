/** What every part may know of a tensor. Where its bytes live is the business of the backend that made it. */
import type { Dtype } from "./dtype.ts";
import { bytesPerElement } from "./dtype.ts";

export interface Tensor {
  readonly dtype: Dtype;
  /** Row-major extents, outermost first. */
  readonly shape: readonly number[];
}

/** Number of elements; 1 for a tensor without dimensions. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Bytes that a contiguous tensor occupies. */
export function byteLength(tensor: Tensor): number {
  return elementCount(tensor.shape) * bytesPerElement[tensor.dtype];
}
