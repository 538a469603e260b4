/** From scores to active sets. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { ActiveSet } from "../contract.ts";
import { floatsOf, intsOf } from "./tensor.ts";

function setCount(set: ActiveSet, row: number, count: number): void {
  intsOf(set.counts)[set.slot * set.counts.shape[1]! + row] = count;
}

function getCount(set: ActiveSet, row: number): number {
  return intsOf(set.counts)[set.slot * set.counts.shape[1]! + row]!;
}

export function selectTopK(set: ActiveSet, scores: Tensor, k: number, rows: number): void {
  const units = set.units;
  const values = floatsOf(scores);
  const indices = intsOf(set.indices);
  for (let r = 0; r < rows; r++) {
    const key = (unit: number): number => {
      const score = values[r * units + unit]!;
      return Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score;
    };
    const isNaNAt = (unit: number): number => (Number.isNaN(values[r * units + unit]!) ? 1 : 0);
    const order = Array.from({ length: units }, (_, unit) => unit).sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return x !== y ? (x > y ? -1 : 1) : isNaNAt(a) - isNaNAt(b) || a - b;
    });
    const best = order.slice(0, k).sort((a, b) => a - b);
    indices.set(best, r * units);
    setCount(set, r, best.length);
  }
}

export function selectThreshold(set: ActiveSet, scores: Tensor, threshold: number, rows: number): void {
  const values = floatsOf(scores);
  const indices = intsOf(set.indices);
  for (let r = 0; r < rows; r++) {
    const start = r * set.units;
    let count = 0;
    for (let unit = 0; unit < set.units; unit++)
      if (values[start + unit]! > threshold) indices[start + count++] = unit;
    setCount(set, r, count);
  }
}

export function refine(out: ActiveSet, set: ActiveSet, values: Tensor, rows: number): void {
  const a = floatsOf(values);
  const from = intsOf(set.indices);
  const to = intsOf(out.indices);
  const isPositive = (unit: number, first: number, last: number): boolean => {
    for (let r = first; r <= last; r++) if (a[r * set.units + unit]! > 0) return true;
    return false;
  };
  const setRows = set.shared ? Math.min(rows, 1) : rows;
  for (let r = 0; r < setRows; r++) {
    const start = r * set.units;
    const candidates = getCount(set, r);
    let count = 0;
    for (let s = 0; s < candidates; s++) {
      const unit = from[start + s]!;
      if (isPositive(unit, r, set.shared ? rows - 1 : r)) to[start + count++] = unit;
    }
    setCount(out, r, count);
  }
}

export function unite(out: ActiveSet, set: ActiveSet, rows: number): void {
  const indices = intsOf(set.indices);
  const units = new Set<number>();
  for (let r = 0; r < rows; r++)
    for (let s = 0; s < getCount(set, r); s++) units.add(indices[r * set.units + s]!);
  const all = [...units].sort((a, b) => a - b);
  intsOf(out.indices).set(all);
  setCount(out, 0, all.length);
}

export function unitNorms(out: Tensor, x: Tensor, rows: number): void {
  const units = out.shape[1]!;
  const width = x.shape[1]! / units;
  const y = floatsOf(out);
  const input = floatsOf(x);
  for (let u = 0; u < rows * units; u++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += input[u * width + i]! ** 2;
    y[u] = Math.sqrt(sum);
  }
}

export function argmax(out: Tensor, x: Tensor, rows: number): void {
  const n = x.shape[1]!;
  const input = floatsOf(x);
  for (let r = 0; r < rows; r++) {
    let best = -1;
    for (let i = 0; i < n; i++) {
      const value = input[r * n + i]!;
      if (!Number.isNaN(value) && (best < 0 || value > input[r * n + best]!)) best = i;
    }
    intsOf(out)[r] = Math.max(best, 0);
  }
}
