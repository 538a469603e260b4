import { createRng } from "../../src/sampling/rng.ts";
import { f16ToNumber, numberToF16 } from "../../src/tensor/dtype.ts";
import type { Rows } from "../../src/train/rows.ts";
import type { Matrix } from "./algebra.ts";

/** Numbers from about −1.7 to 1.7 with variance 1, exact in binary16. */
export function randomMatrix(rows: number, columns: number, seed: number): Matrix {
  const rng = createRng(seed);
  const next = () => f16ToNumber(numberToF16((rng.next() - 0.5) * Math.sqrt(12)));
  return Array.from({ length: rows }, () => Array.from({ length: columns }, next));
}

/** A problem of predicting from rows made in a test; the last `heldOut` of them are held out. */
export function rowsOf(inputs: Matrix, values: Matrix, heldOut = 0): Rows {
  const train = inputs.length - heldOut;
  const width = inputs[0]!.length;
  return {
    width,
    units: values[0]!.length,
    inputs: Uint16Array.from(inputs.flat(), numberToF16),
    value: (row, unit) => values[row]![unit]!,
    train: Int32Array.from({ length: train }, (_, i) => i),
    heldOut: Int32Array.from({ length: heldOut }, (_, i) => train + i),
  };
}
