/** The product of a row of x with rows of a weight matrix, which depends on the weights' dtype. */
import { isQuantized } from "../../tensor/dtype.ts";
import { blockColumns } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { QuantizedMatrix, roundBlock } from "./quantized.ts";
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
  readonly #scales: Float32Array; // [blocks], of x
  readonly #row: Int8Array; // [columns], of the weights

  constructor(weight: Tensor) {
    this.#weight = new QuantizedMatrix(weight);
    this.#codes = new Int8Array(this.#weight.columns);
    this.#row = new Int8Array(this.#weight.columns);
    this.#scales = new Float32Array(Math.ceil(this.#weight.columns / blockColumns));
  }

  take(x: Float32Array, start: number): void {
    const { columns } = this.#weight;
    for (let block = 0; block < this.#scales.length; block++) {
      const at = block * blockColumns;
      const count = Math.min(blockColumns, columns - at);
      this.#scales[block] = roundBlock(this.#codes, at, x, start + at, count);
    }
  }

  with(weightRow: number): number {
    const [weight, row, codes] = [this.#weight, this.#row, this.#codes];
    weight.readCodes(weightRow, row);
    let sum = 0;
    for (let block = 0; block < this.#scales.length; block++) {
      const at = block * blockColumns;
      const end = Math.min(at + blockColumns, weight.columns);
      let dot = 0;
      for (let c = at; c < end; c++) dot += codes[c]! * row[c]!;
      sum += this.#scales[block]! * weight.scale(weightRow, at) * dot;
    }
    return sum;
  }
}
