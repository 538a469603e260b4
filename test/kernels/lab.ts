/** What the conformance suite is made with: tensors from seeds, and comparisons. */
import { expect } from "vitest";
import type { ActiveSet, Kernels, Placement } from "../../src/kernels/contract.ts";
import {
  bf16ToNumber,
  type Dtype,
  f16ToNumber,
  fromFloat32,
  type HostArray,
  hostView,
  isQuantized,
  numberToF16,
  type QuantizedDtype,
  type WeightDtype,
} from "../../src/tensor/dtype.ts";
import { quantizedLayout } from "../../src/tensor/quantized.ts";
import { byteLength, elementCount, type Tensor } from "../../src/tensor/tensor.ts";

/** Sequence and position of a row. */
export type Place = readonly [sequence: number, position: number];

export type Filling = "none" | "empty" | "full" | "random";

/** Makes tensors of pseudo-random numbers in one backend and reads them back. */
export class Lab {
  readonly kernels: Kernels;
  #state: number;
  readonly #made: Tensor[] = [];

  constructor(kernels: Kernels, seedValue: number) {
    this.kernels = kernels;
    this.#state = seedValue;
  }

  /** A number in [0, 1): a 32-bit mixing generator, good enough for tests. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  tensor(type: Dtype, shape: readonly number[], values: HostArray): Tensor {
    const tensor = this.kernels.allocate(type, shape);
    this.kernels.write(tensor, values);
    this.#made.push(tensor);
    return tensor;
  }

  /** Gives back what was made here, so that later scenarios meet used memory and used numbers. */
  free(): void {
    for (const tensor of this.#made.splice(0)) this.kernels.free(tensor);
  }

  /** Uniform in [−1, 1); of quantized types roughly so. */
  random(shape: readonly number[], type: WeightDtype = "f32"): Tensor {
    if (isQuantized(type)) return this.tensor(type, shape, this.#randomBytes(type, shape));
    const values = new Float32Array(elementCount(shape));
    for (let i = 0; i < values.length; i++) values[i] = this.next() * 2 - 1;
    return this.tensor(type, shape, fromFloat32(type, values));
  }

  /** Any codes, zero in the padding, and scales of both signs where there may be. */
  #randomBytes(type: QuantizedDtype, [rows = 0, columns = 0]: readonly number[]): Uint8Array {
    const { bytes, codeStride, scaleOffset, scaleStride } = quantizedLayout(type, rows, columns);
    const view = new DataView(new ArrayBuffer(bytes));
    const below = (limit: number) => Math.floor(this.next() * limit);
    const code = (column: number) => (column < columns ? below(255) - 127 : 0);
    const nibble = (column: number) => (column < columns ? below(16) : 8);
    const scale = (most: number) => (this.next() + 0.5) / 1.5 / most;
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < codeStride; j++) {
        const column = Math.floor(j / 64) * 128 + (j % 64);
        if (type === "int8") view.setInt8(r * codeStride + j, code(j));
        else view.setUint8(r * codeStride + j, nibble(column) + 16 * nibble(column + 64));
      }
      const scales = scaleOffset + r * scaleStride;
      if (type === "int8") view.setFloat32(scales, scale(127), true);
      else
        for (let at = scales; at < scales + scaleStride; at += 2)
          view.setUint16(at, numberToF16(this.next() < 0.5 ? scale(8) : -scale(8)), true);
    }
    return new Uint8Array(view.buffer);
  }

  floats(shape: readonly number[], values: ArrayLike<number>): Tensor {
    return this.tensor("f32", shape, Float32Array.from(values));
  }

  integers(shape: readonly number[], values: ArrayLike<number>): Tensor {
    return this.tensor("i32", shape, Int32Array.from(values));
  }

  /** A set for `rows` rows, in the second of three slots; unlisted indices are poison that nothing may read. */
  set(units: number, opRows: number, fill: Filling, shared = false): ActiveSet | null {
    if (fill === "none") return null;
    const rows = shared ? 1 : opRows;
    const indices = new Int32Array(Math.max(rows, 1) * units).fill(-7);
    const counts = new Int32Array(3 * Math.max(rows, 1)).fill(-7);
    for (let r = 0; r < rows; r++) {
      const share = fill === "empty" ? 0 : fill === "full" ? 1 : this.next();
      const chosen = Array.from({ length: units }, (_, u) => u).filter(() => this.next() < share);
      indices.set(chosen, r * units);
      counts[Math.max(rows, 1) + r] = chosen.length;
    }
    return {
      units,
      indices: this.integers([Math.max(rows, 1), units], indices),
      counts: this.integers([3, Math.max(rows, 1)], counts),
      slot: 1,
      ...(shared ? { shared } : {}),
    };
  }

  /** A set that lists, for each row, the units given. */
  setOf(units: number, chosen: readonly (readonly number[])[]): ActiveSet {
    const indices = new Int32Array(chosen.length * units).fill(-7);
    for (const [r, some] of chosen.entries()) indices.set(some, r * units);
    return {
      units,
      indices: this.integers([chosen.length, units], indices),
      counts: this.integers(
        [1, chosen.length],
        chosen.map(({ length }) => length),
      ),
      slot: 0,
    };
  }

  /** A set that lists the same units for every row, as a shared set and row by row. */
  sharedAndNot(units: number, rows: number, fill: Filling): [ActiveSet | null, ActiveSet | null] {
    if (fill === "none") return [null, null];
    const share = fill === "empty" ? 0 : fill === "full" ? 1 : 0.4;
    const chosen = Array.from({ length: units }, (_, u) => u).filter(() => this.next() < share);
    const make = (setRows: number) => this.setOf(units, Array<number[]>(setRows).fill(chosen));
    return [{ ...make(1), shared: true }, make(Math.max(rows, 1))];
  }

  /**
   * Rows in sequences that have room for `capacity` positions each, on pages in random order; pages beyond the last
   * position are poison. `pageRows` 0: one page a sequence. Returns the number of cache rows too.
   */
  places(rows: readonly Place[], sequences: number, capacity: number, pageRows: number): [Placement, number] {
    const size = pageRows || capacity;
    const perSequence = Math.ceil(capacity / size);
    const order = Array.from({ length: sequences * perSequence }, (_, i) => i);
    for (let i = order.length - 1; i > 0; i--) {
      const other = Math.floor(this.next() * (i + 1));
      [order[i], order[other]] = [order[other]!, order[i]!];
    }
    const pages = order.flatMap((page, i) => ((i + 1) % perSequence === 0 ? [page, -7] : [page]));
    const placement: Placement = {
      sequences: this.integers([rows.length + 1], [...rows.map(([sequence]) => sequence), -7]),
      positions: this.integers([rows.length + 1], [...rows.map(([, position]) => position), -7]),
      pages: this.integers([sequences, perSequence + 1], pages),
      pageRows: size,
    };
    return [placement, sequences * perSequence * size];
  }

  async read(tensor: Tensor): Promise<number[]> {
    const bytes = byteLength(tensor);
    const count = isQuantized(tensor.dtype) ? bytes : elementCount(tensor.shape);
    const into = hostView(tensor.dtype, new ArrayBuffer(bytes), 0, count);
    await this.kernels.read(tensor, into);
    return [...into];
  }

  /** A tensor of floats as numbers. */
  async numbers(tensor: Tensor): Promise<number[]> {
    const stored = await this.read(tensor);
    if (tensor.dtype === "f16") return stored.map(f16ToNumber);
    return tensor.dtype === "bf16" ? stored.map(bf16ToNumber) : stored;
  }

  /** The units that a set lists, row by row. */
  async units(set: ActiveSet, rows: number): Promise<number[][]> {
    const indices = await this.read(set.indices);
    const counts = await this.read(set.counts);
    return Array.from({ length: rows }, (_, r) =>
      indices.slice(r * set.units, r * set.units + counts[set.slot * set.counts.shape[1]! + r]!),
    );
  }
}

export type Scenario<T> = (lab: Lab) => Promise<T>;

export async function play<T>(kernels: Kernels, seedValue: number, scenario: Scenario<T>): Promise<T> {
  const lab = new Lab(kernels, seedValue);
  const result = await scenario(lab);
  lab.free();
  return result;
}

/** Fails unless the numbers agree within `tolerance` of the largest; NaN and infinities must match. */
export function expectClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  const finite = expected.filter(Number.isFinite).map(Math.abs);
  const bound = tolerance * (1 + finite.reduce((a, b) => Math.max(a, b), 0));
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (!Object.is(a, e) && !(Math.abs(a - e) <= bound))
      expect.fail(`element ${i} is ${a}, should be ${e} within ${bound}`);
  }
}
