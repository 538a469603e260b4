/**
 * How a quantized matrix [rows, columns] lies in memory: the codes of all rows, then the scales of all rows, which start at
 * a multiple of 64 bytes. A row of codes is a number of lines of 64 bytes, so that each starts where a cache line does, and a
 * part is the lines of 512 columns. An element is (code) · (its scale).
 *
 * - `int8`: a line is 64 columns, a signed byte each, −127 … 127; one float32 scale per row.
 * - `int4`: a line is 128 columns: byte j holds column j in its low and column j + 64 in its high four bits, each plus 8
 *   (so 0 … 15). A float16 scale, of either sign, for each block of up to 32 columns.
 *
 * The columns of a block are those whose codes lie in the same four bytes of every line of a part: so a vector of 32-bit sums
 * over the lines of a part has a block in each lane, and all its blocks are scaled at once. The blocks of int8 are those in
 * which a product rounds what it multiplies by: they are of the same columns.
 */
import type { QuantizedDtype } from "./dtype.ts";

/** Columns of a part, of a line of int8 and of half a line of int4, and of a block that follow each other. */
export const partColumns = 512;
export const groupColumns = 64;
export const runColumns = 4;
/** Blocks of a part, and columns of a block; the last part may have fewer columns, but not fewer blocks. */
export const partBlocks = groupColumns / runColumns;
export const blockColumns = partColumns / partBlocks;

/** The block of a column. */
export const blockOf = (column: number): number =>
  Math.floor(column / partColumns) * partBlocks + Math.floor((column % groupColumns) / runColumns);

/** Blocks of a row. */
export const blocksOf = (columns: number): number => Math.ceil(columns / partColumns) * partBlocks;

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
  const lineColumns = dtype === "int8" ? groupColumns : 2 * groupColumns;
  const lines = Math.ceil(columns / lineColumns);
  const codeStride = lines * 64;
  const scaleStride = dtype === "int8" ? 4 : blocksOf(columns) * 2;
  const scaleOffset = Math.ceil((rows * codeStride) / 64) * 64;
  return {
    paddedColumns: lines * lineColumns,
    codeStride,
    scaleStride,
    scaleOffset,
    bytes: scaleOffset + rows * scaleStride,
  };
}
