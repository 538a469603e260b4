/** The product of a row of x with rows of a weight matrix, which depends on the weights' dtype. */
import { isQuantized } from "../../tensor/dtype.ts";
import { blockOf, blocksOf } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { QuantizedMatrix, roundBlocks } from "./quantized.ts";
import { RowReader } from "./row-reader.ts";

export interface Dot {
  /** Takes the row of x that starts at `start`. */
  take(x: Float32Array, start: number): void;
  /** Its product with a row of the weights. */
  with(weightRow: number): number;
}

export const dotWith = (weight: Tensor): Dot =>
  isQuantized(weight.dtype) ? new QuantizedDot(weight) : new FloatDot(weight);

class FloatDot implements Dot {
  readonly #columns: number;
  readonly #rows: RowReader;
  #x: Float32Array = new Float32Array(0);
  #start = 0;

  constructor(weight: Tensor) {
    this.#columns = weight.shape[1]!;
    this.#rows = new RowReader(weight);
  }

  take(x: Float32Array, start: number): void {
    this.#x = x;
    this.#start = start;
  }

  with(weightRow: number): number {
    const { values, offset } = this.#rows.seek(weightRow);
    const [x, start] = [this.#x, this.#start];
    let sum = 0;
    for (let i = 0; i < this.#columns; i++) sum += x[start + i]! * values[offset + i]!;
    return sum;
  }
}

/** Rounds the row of x, block by block, so that the products are sums of integers. */
class QuantizedDot implements Dot {
  readonly #weight: QuantizedMatrix;
  readonly #codes: Int8Array; // [columns], of x
  #scales: Float32Array = new Float32Array(0); // [blocks], of x
  readonly #row: Int8Array; // [columns], of the weights
  readonly #rowScales: Float32Array; // [blocks], of the weights
  readonly #dots: Int32Array; // [blocks]

  constructor(weight: Tensor) {
    this.#weight = new QuantizedMatrix(weight);
    this.#codes = new Int8Array(this.#weight.columns);
    this.#row = new Int8Array(this.#weight.columns);
    this.#rowScales = new Float32Array(blocksOf(this.#weight.columns));
    this.#dots = new Int32Array(this.#rowScales.length);
  }

  take(x: Float32Array, start: number): void {
    this.#scales = roundBlocks(this.#codes, x.subarray(start, start + this.#weight.columns));
  }

  with(weightRow: number): number {
    const [weight, row, codes, dots] = [this.#weight, this.#row, this.#codes, this.#dots];
    weight.readCodes(weightRow, row);
    weight.readScales(weightRow, this.#rowScales);
    dots.fill(0);
    for (let c = 0; c < codes.length; c++) dots[blockOf(c)]! += codes[c]! * row[c]!;
    let sum = 0;
    for (let block = 0; block < dots.length; block++)
      sum += this.#scales[block]! * this.#rowScales[block]! * dots[block]!;
    return sum;
  }
}
