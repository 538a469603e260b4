/** Matrix rows of any dtype as float32. */
import { f16ToNumber, type HostArray, isQuantized } from "../../tensor/dtype.ts";
import { blockOf, blocksOf } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { QuantizedMatrix } from "./quantized.ts";
import { dataOf } from "./tensor.ts";

/** A matrix row as float32: `values` from `offset` on. One object is reused for all rows of an op. */
export class RowReader {
  values: Float32Array;
  offset = 0;
  readonly #data: HostArray;
  readonly #width: number;
  readonly #table: Float32Array | null;
  readonly #quantized: QuantizedMatrix | null;
  readonly #codes: Int8Array;
  readonly #scales: Float32Array; // [blocks]

  constructor(tensor: Tensor) {
    const { dtype } = tensor;
    this.#data = dataOf(tensor);
    this.#width = tensor.shape[1]!;
    this.#table = dtype === "f16" || dtype === "bf16" ? halfTable(dtype === "f16") : null;
    this.#quantized = isQuantized(dtype) ? new QuantizedMatrix(tensor) : null;
    this.#codes = new Int8Array(isQuantized(dtype) ? this.#width : 0);
    this.#scales = new Float32Array(isQuantized(dtype) ? blocksOf(this.#width) : 0);
    this.values = dtype === "f32" ? (this.#data as Float32Array) : new Float32Array(this.#width);
  }

  seek(row: number): this {
    const start = row * this.#width;
    const [table, quantized] = [this.#table, this.#quantized];
    if (table !== null) for (let i = 0; i < this.#width; i++) this.values[i] = table[this.#data[start + i]!]!;
    else if (quantized !== null) this.#seekQuantized(quantized, row);
    else this.offset = start;
    return this;
  }

  #seekQuantized(matrix: QuantizedMatrix, row: number): void {
    const codes = this.#codes;
    matrix.readCodes(row, codes);
    matrix.readScales(row, this.#scales);
    for (let c = 0; c < codes.length; c++) this.values[c] = codes[c]! * this.#scales[blockOf(c)]!;
  }
}

const tables = new Map<boolean, Float32Array>();

/** All 65,536 values of binary16 or bfloat16. */
function halfTable(isF16: boolean): Float32Array {
  let table = tables.get(isF16);
  if (table === undefined) {
    table = isF16
      ? Float32Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits))
      : new Float32Array(Uint32Array.from({ length: 65536 }, (_, bits) => bits << 16).buffer);
    tables.set(isF16, table);
  }
  return table;
}
