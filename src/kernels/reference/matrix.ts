/** Products with weight matrices, as plain as they can be written. Sums run in float64 and are rounded once. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { Activation, ActiveSet } from "../contract.ts";
import { dotWith } from "./dot.ts";
import { RowReader } from "./row-reader.ts";
import { floatsOf, intsOf } from "./tensor.ts";

/** Calls `visit` with each weight row that row `r` of the activations needs, in ascending order. */
export function forEachSelected(
  set: ActiveSet | null,
  rowsPerUnit: number,
  n: number,
  r: number,
  visit: (weightRow: number) => void,
): void {
  if (set === null) {
    for (let i = 0; i < n; i++) visit(i);
    return;
  }
  const indices = intsOf(set.indices);
  const setRow = set.shared ? 0 : r;
  const count = intsOf(set.counts)[set.slot * set.counts.shape[1]! + setRow]!;
  for (let s = 0; s < count; s++) {
    const first = indices[setRow * set.units + s]! * rowsPerUnit;
    for (let j = 0; j < rowsPerUnit; j++) visit(first + j);
  }
}

export function product(
  out: Tensor,
  outRow: number,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  activation: Activation,
  set: ActiveSet | null,
  rowsPerUnit: number,
  rows: number,
): void {
  const [n, k] = weight.shape as [number, number];
  const y = floatsOf(out);
  const input = floatsOf(x);
  const b = bias && floatsOf(bias);
  const dot = dotWith(weight);
  for (let r = 0; r < rows; r++) {
    dot.take(input, r * k);
    forEachSelected(set, rowsPerUnit, n, r, (o) => {
      const sum = dot.with(o) + (b ? b[o]! : 0);
      y[(outRow + r) * n + o] = activation === "relu" && sum < 0 ? 0 : sum;
    });
  }
}

export function accumulate(
  out: Tensor,
  a: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  set: ActiveSet | null,
  rowsPerUnit: number,
  rows: number,
): void {
  const [n, d] = weight.shape as [number, number];
  const y = floatsOf(out);
  const input = floatsOf(a);
  const w = new RowReader(weight);
  const sum = new Float64Array(d);
  for (let r = 0; r < rows; r++) {
    if (bias) sum.set(floatsOf(bias));
    else sum.fill(0);
    forEachSelected(set, rowsPerUnit, n, r, (i) => {
      const { values, offset } = w.seek(i);
      const factor = input[r * n + i]!;
      for (let c = 0; c < d; c++) sum[c]! += factor * values[offset + c]!;
    });
    for (let c = 0; c < d; c++) y[r * d + c]! += sum[c]!;
  }
}

export function transpose(out: Tensor, x: Tensor, rows: number): void {
  const columns = x.shape[1]!;
  const y = floatsOf(out);
  const input = floatsOf(x);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = input[r * columns + c]!;
}
