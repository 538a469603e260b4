/** Gathers captured rows into float32 batches. */
import { f16ToNumber } from "../tensor/dtype.ts";
import type { Rows } from "./rows.ts";

const widened = Float32Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));

export interface Batch {
  readonly inputs: Float32Array; // [size, width]
  readonly active: Uint8Array; // [size, units]: 1 where the unit was worth something
}

export function createBatch(rows: Rows, size: number): Batch {
  return { inputs: new Float32Array(size * rows.width), active: new Uint8Array(size * rows.units) };
}

/** Fills the batch with the rows numbered `numbers`; at most as many as it holds. */
export function fillBatch(batch: Batch, rows: Rows, numbers: Int32Array): void {
  const { width, units, inputs } = rows;
  for (const [at, row] of numbers.entries()) {
    for (let i = 0; i < width; i++) batch.inputs[at * width + i] = widened[inputs[row * width + i]!]!;
    for (let u = 0; u < units; u++) batch.active[at * units + u] = rows.value(row, u) > 0 ? 1 : 0;
  }
}

/** Mean worth of each unit over the training rows: how often a neuron was active, how large a head's output was. */
export function meanValues(rows: Rows): Float32Array {
  const sums = new Float64Array(rows.units);
  for (const row of rows.train) for (let u = 0; u < rows.units; u++) sums[u]! += rows.value(row, u);
  return Float32Array.from(sums, (sum) => sum / Math.max(1, rows.train.length));
}

/** Fisher–Yates with the caller's random numbers. */
export function shuffle(numbers: Int32Array, nextInt: (n: number) => number): void {
  for (let i = numbers.length - 1; i > 0; i--) {
    const j = nextInt(i + 1);
    const held = numbers[i]!;
    numbers[i] = numbers[j]!;
    numbers[j] = held;
  }
}
