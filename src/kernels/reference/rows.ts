/** Ops that work on one row at a time: look-ups, copies, norms, softmax. */
import type { Tensor } from "../../tensor/tensor.ts";
import { RowReader } from "./row-reader.ts";
import { floatsOf, intsOf } from "./tensor.ts";

export function embedding(out: Tensor, table: Tensor, ids: Tensor, rows: number): void {
  const [vocab, d] = table.shape as [number, number];
  const y = floatsOf(out);
  const reader = new RowReader(table);
  for (let r = 0; r < rows; r++) {
    const id = intsOf(ids)[r]!;
    if (id < 0 || id >= vocab)
      throw new RangeError(`embedding: id ${id} is outside the table of ${vocab} rows`);
    const { values, offset } = reader.seek(id);
    for (let c = 0; c < d; c++) y[r * d + c] = values[offset + c]!;
  }
}

export function addRows(out: Tensor, table: Tensor, indices: Tensor, offset: number, rows: number): void {
  const [n, d] = table.shape as [number, number];
  const y = floatsOf(out);
  const reader = new RowReader(table);
  for (let r = 0; r < rows; r++) {
    const row = intsOf(indices)[r]! + offset;
    if (row < 0 || row >= n) throw new RangeError(`addRows: row ${row} is outside the table of ${n} rows`);
    const { values, offset: start } = reader.seek(row);
    for (let c = 0; c < d; c++) y[r * d + c]! += values[start + c]!;
  }
}

export function copyRows(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
  const d = x.shape[1]!;
  floatsOf(out).set(floatsOf(x).subarray(xRow * d, (xRow + rows) * d), outRow * d);
}

export function layerNorm(
  out: Tensor,
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  epsilon: number,
  rows: number,
): void {
  const d = x.shape[1]!;
  const y = floatsOf(out);
  const input = floatsOf(x);
  const w = weight && floatsOf(weight);
  const b = bias && floatsOf(bias);
  for (let start = 0; start < rows * d; start += d) {
    let mean = 0;
    for (let i = 0; i < d; i++) mean += input[start + i]!;
    mean /= d;
    let variance = 0;
    for (let i = 0; i < d; i++) variance += (input[start + i]! - mean) ** 2;
    const scale = 1 / Math.sqrt(variance / d + epsilon);
    for (let i = 0; i < d; i++)
      y[start + i] = (input[start + i]! - mean) * scale * (w ? w[i]! : 1) + (b ? b[i]! : 0);
  }
}

export function logSoftmax(out: Tensor, x: Tensor, rows: number): void {
  const n = x.shape[1]!;
  const y = floatsOf(out);
  const input = floatsOf(x);
  for (let start = 0; start < rows * n; start += n) {
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < n; i++) max = Math.max(max, input[start + i]!);
    let sum = 0;
    for (let i = 0; i < n; i++) sum += Math.exp(input[start + i]! - max);
    const logSum = max + Math.log(sum);
    for (let i = 0; i < n; i++) y[start + i] = input[start + i]! - logSum;
  }
}
