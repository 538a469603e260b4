/** Ops on the key/value cache: storing rows, attending to them, and computing late what a skipped head left out. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { ActiveSet, Placement, Recovery } from "../contract.ts";
import { forEachSelected } from "./matrix.ts";
import { floatsOf, intsOf, RowReader } from "./tensor.ts";

/** Cache row of a sequence's position; throws where the tables lead outside the cache. */
function cacheRow(placement: Placement, sequence: number, position: number, cache: Tensor): number {
  const { pages, pageRows } = placement;
  const [sequences, maxPages] = pages.shape as [number, number];
  const page = Math.floor(position / pageRows);
  const isInside = sequence >= 0 && sequence < sequences && position >= 0 && page < maxPages;
  const row = isInside ? intsOf(pages)[sequence * maxPages + page]! * pageRows + (position % pageRows) : -1;
  if (row < 0 || row >= cache.shape[0]!)
    throw new RangeError(`position ${position} of sequence ${sequence} is outside the cache`);
  return row;
}

const sequenceOf = (placement: Placement, r: number): number => intsOf(placement.sequences)[r]!;
const positionOf = (placement: Placement, r: number): number => intsOf(placement.positions)[r]!;

export function storeRows(cache: Tensor, x: Tensor, placement: Placement, rows: number): void {
  const d = x.shape[1]!;
  const input = floatsOf(x);
  for (let r = 0; r < rows; r++) {
    const row = cacheRow(placement, sequenceOf(placement, r), positionOf(placement, r), cache);
    floatsOf(cache).set(input.subarray(r * d, (r + 1) * d), row * d);
  }
}

export function attention(
  out: Tensor,
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  heads: ActiveSet | null,
  headDim: number,
  placement: Placement,
  rows: number,
): void {
  const width = q.shape[1]!;
  const kvWidth = keys.shape[1]!;
  const headCount = width / headDim;
  const group = width / kvWidth;
  const y = floatsOf(out);
  const [query, k, v] = [floatsOf(q), floatsOf(keys), floatsOf(values)];
  for (let r = 0; r < rows; r++) {
    const visible = positionOf(placement, r) + 1;
    cacheRow(placement, sequenceOf(placement, r), visible - 1, keys); // throws for a position that cannot be
    const cacheRows = Array.from({ length: visible }, (_, t) =>
      cacheRow(placement, sequenceOf(placement, r), t, keys),
    );
    const weights = new Float64Array(visible);
    forEachSelected(heads, 1, headCount, r, (head) => {
      const start = r * width + head * headDim;
      const kvStart = Math.floor(head / group) * headDim;
      let max = Number.NEGATIVE_INFINITY;
      for (let t = 0; t < visible; t++) {
        let dot = 0;
        for (let i = 0; i < headDim; i++)
          dot += query[start + i]! * k[cacheRows[t]! * kvWidth + kvStart + i]!;
        weights[t] = dot / Math.sqrt(headDim);
        max = Math.max(max, weights[t]!);
      }
      let sum = 0;
      for (let t = 0; t < visible; t++) sum += weights[t] = Math.exp(weights[t]! - max);
      for (let i = 0; i < headDim; i++) {
        let mixed = 0;
        for (let t = 0; t < visible; t++) mixed += weights[t]! * v[cacheRows[t]! * kvWidth + kvStart + i]!;
        y[start + i] = mixed / sum;
      }
    });
  }
}

/** cache[row, head's columns] = weight[head's rows] · input + bias */
function projectHead(
  cache: Tensor,
  row: number,
  head: number,
  headDim: number,
  input: Float32Array,
  weight: RowReader,
  bias: Float32Array | null,
): void {
  const y = floatsOf(cache);
  for (let o = head * headDim; o < (head + 1) * headDim; o++) {
    const { values, offset } = weight.seek(o);
    let sum = 0;
    for (let i = 0; i < input.length; i++) sum += input[i]! * values[offset + i]!;
    y[row * cache.shape[1]! + o] = sum + (bias ? bias[o]! : 0);
  }
}

export function recover(
  keys: Tensor,
  values: Tensor,
  x: Tensor,
  keyWeight: Tensor,
  keyBias: Tensor | null,
  valueWeight: Tensor,
  valueBias: Tensor | null,
  heads: ActiveSet | null,
  headDim: number,
  recovery: Recovery,
  placement: Placement,
  rows: number,
): void {
  const d = x.shape[1]!;
  const headCount = keys.shape[1]! / headDim;
  const window = recovery.inputs.shape[0]! / placement.pages.shape[0]!;
  const inputs = floatsOf(recovery.inputs);
  const filled = intsOf(recovery.filled);
  const [kw, vw] = [new RowReader(keyWeight), new RowReader(valueWeight)];
  const [kb, vb] = [keyBias && floatsOf(keyBias), valueBias && floatsOf(valueBias)];
  for (let r = 0; r < rows; r++) {
    const sequence = sequenceOf(placement, r);
    const position = positionOf(placement, r);
    cacheRow(placement, sequence, position, keys); // throws before anything is written
    const inputRow = (p: number): number => (sequence * window + (p % window)) * d;
    inputs.set(floatsOf(x).subarray(r * d, (r + 1) * d), inputRow(position));
    let caughtUp = 0;
    const isRefresh = (position + 1) % recovery.refresh === 0;
    forEachSelected(isRefresh ? null : heads, 1, headCount, r, (head) => {
      const from = filled[sequence * headCount + head]!;
      if (from > position) return; // an earlier call got further than this row
      caughtUp += 1;
      for (let p = from; p <= position; p++) {
        const row = cacheRow(placement, sequence, p, keys);
        const input = inputs.subarray(inputRow(p), inputRow(p) + d);
        projectHead(keys, row, head, headDim, input, kw, kb);
        projectHead(values, row, head, headDim, input, vw, vb);
      }
      filled[sequence * headCount + head] = position + 1;
    });
    intsOf(recovery.counts)[recovery.slot * recovery.counts.shape[1]! + r] = caughtUp;
  }
}
