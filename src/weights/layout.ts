/** What a safetensors file may hold: the dtypes, the limits, and the size of a tensor. The only size calculation. */

import type { QuantizedDtype } from "../tensor/dtype.ts";

/** Element types that are read and written, in the spelling of the format. */
export type TensorDtype = "F32" | "F16" | "BF16" | "I32" | "U8";

/** What a tensor is: of the format's own types, or a matrix that is quantized as src/tensor/quantized.ts says. */
export type StoredDtype = TensorDtype | QuantizedDtype;

export const elementBytes: Readonly<Record<TensorDtype, number>> = { F32: 4, F16: 2, BF16: 2, I32: 4, U8: 1 };

export const maxHeaderBytes = 100_000_000;
export const maxDimensions = 8;

/** Where a tensor is. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Row-major extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /** Path of the file that holds it. */
  readonly file: string;
  /** Position of its first byte, from the start of the file. */
  readonly begin: number;
  /** Position after its last byte, from the start of the file. */
  readonly end: number;
}

export function isTensorDtype(text: string): text is TensorDtype {
  return Object.hasOwn(elementBytes, text);
}

/** Bytes of a contiguous tensor, or null if an extent or the product is not an integer from 0 to 2^53 − 1. */
export function tensorBytes(dtype: TensorDtype, shape: readonly number[]): number | null {
  let bytes = elementBytes[dtype];
  for (const extent of shape) {
    if (!Number.isSafeInteger(extent) || extent < 0) return null;
    bytes *= extent;
    if (!Number.isSafeInteger(bytes)) return null;
  }
  return bytes;
}
