/** Gathers captured rows into float32 batches. */
import { f16ToNumber } from "../tensor/dtype.ts";
import type { Rows } from "./rows.ts";

const widened = Float32Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));

export interface Batch {
  readonly inputs: Float32Array; // [size, width]
  readonly active: Uint8Array; // [size, units]
}

export function createBatch(rows: Rows, size: number): Batch {
  return { inputs: new Float32Array(size * rows.width), active: new Uint8Array(size * rows.units) };
}

/** Fills the batch with the rows numbered `numbers`; at most as many as it holds. */
export function fillBatch(batch: Batch, rows: Rows, numbers: Int32Array): void {
  const { width, units, inputs } = rows;
  for (const [at, row] of numbers.entries()) {
    for (let i = 0; i < width; i++) batch.inputs[at * width + i] = widened[inputs[row * width + i]!]!;
    for (let u = 0; u < units; u++) batch.active[at * units + u] = rows.isActive(row, u) ? 1 : 0;
  }
}

/** How often each unit belongs to the true set, over the training rows: what the static selector ranks by. */
export function frequencies(rows: Rows): Float32Array {
  const counts = new Float32Array(rows.units);
  for (const row of rows.train)
    for (let u = 0; u < rows.units; u++) if (rows.isActive(row, u)) counts[u]! += 1;
  return counts.map((count) => count / Math.max(1, rows.train.length));
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
