/** Tensors of the reference backend: one typed array each. */
import { type Dtype, f16ToNumber, type HostArray, hostView, isQuantized } from "../../tensor/dtype.ts";
import { byteLength, elementCount, type Tensor } from "../../tensor/tensor.ts";

export interface ReferenceTensor extends Tensor {
  data: HostArray;
  freed: boolean;
}

export function allocateTensor(dtype: Dtype, shape: readonly number[]): ReferenceTensor {
  const tensor = { dtype, shape: [...shape] };
  const bytes = byteLength(tensor);
  const data = hostView(dtype, new ArrayBuffer(bytes), 0, isQuantized(dtype) ? bytes : elementCount(shape));
  return { ...tensor, data, freed: false };
}

/** The tensor's array; throws on a tensor of another backend and on one that was freed. */
export function dataOf(tensor: Tensor): HostArray {
  const own = tensor as ReferenceTensor;
  if (own.data === undefined) throw new TypeError("this tensor belongs to another backend");
  if (own.freed) throw new Error(`use of a freed tensor [${tensor.shape.join(", ")}]`);
  return own.data;
}

export const floatsOf = (tensor: Tensor): Float32Array => dataOf(tensor) as Float32Array;
export const intsOf = (tensor: Tensor): Int32Array => dataOf(tensor) as Int32Array;

/** A matrix row as float32: `values` from `offset` on. One object is reused for all rows of an op. */
export class RowReader {
  values: Float32Array;
  offset = 0;
  readonly #data: HostArray;
  readonly #width: number;
  readonly #table: Float32Array | null;

  constructor(tensor: Tensor) {
    this.#data = dataOf(tensor);
    this.#width = tensor.shape[1]!;
    this.#table = tensor.dtype === "f32" ? null : halfTable(tensor.dtype === "f16");
    this.values = this.#table === null ? (this.#data as Float32Array) : new Float32Array(this.#width);
  }

  seek(row: number): this {
    const start = row * this.#width;
    const table = this.#table;
    if (table === null) this.offset = start;
    else for (let i = 0; i < this.#width; i++) this.values[i] = table[this.#data[start + i]!]!;
    return this;
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
