/**
 * How a quantized matrix [rows, columns] lies in memory: the codes of all rows, then the scales of all rows. Columns are
 * padded with zeros to whole groups of 64, so that a row of codes of the usual sizes starts on a cache line.
 *
 * - `int8`: codes are signed bytes, −127 … 127, one per column; one float32 scale per row.
 * - `int4`: a group of 64 columns is 32 bytes: byte j holds column j in its low and column j + 32 in its high four bits,
 *   each plus 8 (so 0 … 15). One float16 scale, of either sign, per block of 32 columns, two per group.
 *
 * An element is (code) · (its scale). The scales start at a multiple of 64 bytes.
 */
import type { QuantizedDtype } from "./dtype.ts";

/** Columns that share a scale in `int4`. */
export const blockColumns = 32;
/** Columns of a group, to which rows are padded. */
export const groupColumns = 64;

/**
 * What the value of largest magnitude in a block of `int4` may be divided by to give the scale: it becomes the code −8 or
 * a fraction beside it, or by a positive divisor one beside 7. The one of least squared error is taken.
 */
export const int4Divisors: readonly number[] = [-8, -7.5, -7, -8.5, -9, 8, 7.5, 7];

export interface QuantizedLayout {
  /** Columns with padding. */
  readonly paddedColumns: number;
  /** Bytes of one row's codes. */
  readonly codeStride: number;
  /** Bytes of one row's scales. */
  readonly scaleStride: number;
  /** Where the scales of row 0 start. */
  readonly scaleOffset: number;
  /** Of the whole matrix. */
  readonly bytes: number;
}

export function quantizedLayout(dtype: QuantizedDtype, rows: number, columns: number): QuantizedLayout {
  const groups = Math.ceil(columns / groupColumns);
  const paddedColumns = groups * groupColumns;
  const codeStride = dtype === "int8" ? paddedColumns : paddedColumns / 2;
  const scaleStride = dtype === "int8" ? 4 : groups * 4;
  const scaleOffset = Math.ceil((rows * codeStride) / 64) * 64;
  return { paddedColumns, codeStride, scaleStride, scaleOffset, bytes: scaleOffset + rows * scaleStride };
}
