/** Codes and scales of quantized matrices, one element at a time. */
import { f16ToNumber, numberToF16 } from "../../tensor/dtype.ts";
import {
  blockOf,
  blocksOf,
  groupColumns,
  int4Divisors,
  type QuantizedLayout,
  quantizedLayout,
} from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { dataOf } from "./tensor.ts";

/** The integer nearest to a float32 of magnitude below 2^22, ties to the even one: the addition rounds. */
const nearest = (value: number): number => Math.fround(value + 12582912) - 12582912;

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);

/** Reads and writes single codes and scales of a quantized tensor. */
export class QuantizedMatrix {
  readonly rows: number;
  readonly columns: number;
  readonly #layout: QuantizedLayout;
  readonly #isInt4: boolean;
  readonly #bytes: Uint8Array;
  readonly #scales: DataView;

  constructor(tensor: Tensor) {
    [this.rows, this.columns] = tensor.shape as [number, number];
    this.#isInt4 = tensor.dtype === "int4";
    this.#layout = quantizedLayout(this.#isInt4 ? "int4" : "int8", this.rows, this.columns);
    this.#bytes = dataOf(tensor) as Uint8Array;
    this.#scales = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
  }

  /** Padding included. */
  get paddedColumns(): number {
    return this.#layout.paddedColumns;
  }

  /** Fills `into` with the codes of a row: of int8 −127 … 127, of int4 −8 … 7. */
  readCodes(row: number, into: Int8Array): void {
    const bytes = this.#bytes;
    const start = row * this.#layout.codeStride;
    for (let c = 0; c < this.columns; c++) {
      if (!this.#isInt4)
        into[c] = bytes[start + c]!; // the array makes bytes above 127 negative
      else into[c] = ((bytes[start + nibbleByte(c)]! >> nibbleShift(c)) & 15) - 8;
    }
  }

  setCode(row: number, column: number, code: number): void {
    const start = row * this.#layout.codeStride;
    if (!this.#isInt4) {
      this.#bytes[start + column] = code;
      return;
    }
    const at = start + nibbleByte(column);
    const shift = nibbleShift(column);
    const other = this.#bytes[at]! & (15 << (4 - shift));
    this.#bytes[at] = other | ((code + 8) << shift);
  }

  /** Fills `into` with the scales of a row's blocks; those of int8 all have the row's. */
  readScales(row: number, into: Float32Array): void {
    const at = this.#scaleAt(row, 0);
    if (!this.#isInt4) into.fill(this.#scales.getFloat32(at, true));
    else
      into.forEach((_, block) => {
        into[block] = f16ToNumber(this.#scales.getUint16(at + 2 * block, true));
      });
  }

  setScale(row: number, column: number, scale: number): void {
    const at = this.#scaleAt(row, column);
    if (this.#isInt4) this.#scales.setUint16(at, numberToF16(scale), true);
    else this.#scales.setFloat32(at, scale, true);
  }

  #scaleAt(row: number, column: number): number {
    const { scaleOffset, scaleStride } = this.#layout;
    return scaleOffset + row * scaleStride + (this.#isInt4 ? blockOf(column) * 2 : 0);
  }
}

/** Which of a row's bytes holds a column of int4, and in which of its bits. */
const nibbleByte = (column: number): number =>
  Math.floor(column / (2 * groupColumns)) * groupColumns + (column % groupColumns);
const nibbleShift = (column: number): number => (column % (2 * groupColumns) < groupColumns ? 0 : 4);

/** What a value of largest magnitude `most` is stored by: values times `inverse` are codes up to 127. */
function scaleOf(most: number): { scale: number; inverse: number } {
  const inverse = Math.fround(127 / most);
  if (Number.isFinite(inverse)) return { scale: Math.fround(most / 127), inverse };
  return { scale: 0, inverse: 0 };
}

/** Rounds a row of numbers to codes, block by block; returns the blocks' scales, NaN where a value is not finite. */
export function roundBlocks(codes: Int8Array, values: Float32Array): Float32Array {
  const most = new Float32Array(blocksOf(values.length));
  for (let c = 0; c < values.length; c++) {
    const block = blockOf(c);
    most[block] = Math.max(most[block]!, Math.abs(values[c]!)); // NaN stays NaN
  }
  const scales = Array.from(most, scaleOf);
  for (let c = 0; c < values.length; c++) codes[c] = codeOf(values[c]!, scales[blockOf(c)]!.inverse);
  return most.map((size, block) => (Number.isFinite(size) ? scales[block]!.scale : Number.NaN));
}

/** The same with one scale for the whole row. */
export function roundRow(codes: Float32Array, values: Float32Array): number {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  const { scale, inverse } = scaleOf(most);
  for (let c = 0; c < values.length; c++) codes[c] = codeOf(values[c]!, inverse);
  return Number.isFinite(most) ? scale : Number.NaN;
}

const codeOf = (value: number, inverse: number): number =>
  nearest(clamp(Math.fround(value * inverse), -127, 127));

/** Codes of a block of int4 for one scale, and the squared error that they leave, in float32. */
function tryScale(codes: Float32Array, values: Float32Array, scale: number): number {
  let error = 0;
  for (let i = 0; i < values.length; i++) {
    codes[i] = scale === 0 ? 0 : nearest(clamp(Math.fround(values[i]! / scale), -8, 7));
    const difference = Math.fround(values[i]! - Math.fround(codes[i]! * scale));
    error = Math.fround(error + Math.fround(difference * difference));
  }
  return error;
}

/** Leaves in `codes` those of the scale of least squared error, which is returned. */
export function roundInt4Block(codes: Float32Array, values: Float32Array): number {
  let largest = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(largest)) largest = value;
  const tried = new Float32Array(values.length);
  let best = { scale: 0, error: Number.POSITIVE_INFINITY };
  for (const divisor of int4Divisors) {
    const scale = f16ToNumber(numberToF16(Math.fround(largest / divisor))) || 0; // not −0
    const error = tryScale(tried, values, scale);
    if (!(error < best.error)) continue;
    best = { scale, error };
    codes.set(tried);
  }
  return best.scale;
}
