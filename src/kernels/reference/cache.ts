/** Ops on the key/value cache: storing rows, attending to them, and computing late what a skipped head left out. */
import { type FloatDtype, fromFloat32 } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ActiveSet, Placement, Recovery } from "../contract.ts";
import { type Dot, dotWith } from "./dot.ts";
import { forEachSelected } from "./matrix.ts";
import { RowReader } from "./row-reader.ts";
import { dataOf, floatsOf, intsOf } from "./tensor.ts";

/** First cache row of the page of a sequence's position; throws where the tables lead outside the cache. */
function pageStart(placement: Placement, sequence: number, position: number, cache: Tensor): number {
  const { pages, pageRows } = placement;
  const [sequences, maxPages] = pages.shape as [number, number];
  const page = Math.floor(position / pageRows);
  const isInside = sequence >= 0 && sequence < sequences && position >= 0 && page < maxPages;
  const start = isInside ? intsOf(pages)[sequence * maxPages + page]! * pageRows : -1;
  if (start < 0 || start + pageRows > cache.shape[0]!)
    throw new RangeError(`position ${position} of sequence ${sequence} is outside the cache`);
  return start;
}

/** Where head 0 of a sequence's position is, in steps of headDim; each head is pageRows behind the one before. */
function firstHead(
  placement: Placement,
  sequence: number,
  position: number,
  cache: Tensor,
  kvHeads: number,
): number {
  return pageStart(placement, sequence, position, cache) * kvHeads + (position % placement.pageRows);
}

/** The cache as the rows that its heads have, one after the other. */
const asHeadRows = (cache: Tensor, headDim: number): Tensor => ({
  ...cache,
  shape: [(cache.shape[0]! * cache.shape[1]!) / headDim, headDim],
});

const sequenceOf = (placement: Placement, r: number): number => intsOf(placement.sequences)[r]!;
const positionOf = (placement: Placement, r: number): number => intsOf(placement.positions)[r]!;

export function storeRows(
  cache: Tensor,
  x: Tensor,
  headDim: number,
  placement: Placement,
  rows: number,
): void {
  const kvHeads = x.shape[1]! / headDim;
  const input = floatsOf(x);
  for (let r = 0; r < rows; r++) {
    const first = firstHead(placement, sequenceOf(placement, r), positionOf(placement, r), cache, kvHeads);
    for (let head = 0; head < kvHeads; head++) {
      const start = (r * kvHeads + head) * headDim;
      storeHead(cache, first + head * placement.pageRows, input.subarray(start, start + headDim));
    }
  }
}

function storeHead(cache: Tensor, headRow: number, values: Float32Array): void {
  dataOf(cache).set(fromFloat32(cache.dtype as FloatDtype, values), headRow * values.length);
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
  const headCount = width / headDim;
  const kvHeads = keys.shape[1]! / headDim;
  const group = headCount / kvHeads;
  const y = floatsOf(out);
  const query = floatsOf(q);
  const [k, v] = [new RowReader(asHeadRows(keys, headDim)), new RowReader(asHeadRows(values, headDim))];
  const mixed = new Float64Array(headDim);
  for (let r = 0; r < rows; r++) {
    const visible = positionOf(placement, r) + 1;
    pageStart(placement, sequenceOf(placement, r), visible - 1, keys); // throws for a position that cannot be
    const seen = Array.from({ length: visible }, (_, t) =>
      firstHead(placement, sequenceOf(placement, r), t, keys, kvHeads),
    );
    const weights = new Float64Array(visible);
    forEachSelected(heads, 1, headCount, r, (head) => {
      const start = r * width + head * headDim;
      const shared = Math.floor(head / group) * placement.pageRows; // to the head whose keys and values it uses
      let max = Number.NEGATIVE_INFINITY;
      for (let t = 0; t < visible; t++) {
        const key = k.seek(seen[t]! + shared);
        let dot = 0;
        for (let i = 0; i < headDim; i++) dot += query[start + i]! * key.values[key.offset + i]!;
        weights[t] = dot / Math.sqrt(headDim);
        max = Math.max(max, weights[t]!);
      }
      let sum = 0;
      for (let t = 0; t < visible; t++) sum += weights[t] = Math.exp(weights[t]! - max);
      mixed.fill(0);
      for (let t = 0; t < visible; t++) {
        const value = v.seek(seen[t]! + shared);
        for (let i = 0; i < headDim; i++) mixed[i]! += weights[t]! * value.values[value.offset + i]!;
      }
      for (let i = 0; i < headDim; i++) y[start + i] = mixed[i]! / sum;
    });
  }
}

/** weight[head's rows] · (the row of x that `weight` has taken) + bias */
function projectHead(head: number, headDim: number, weight: Dot, bias: Float32Array | null): Float32Array {
  const projected = new Float32Array(headDim);
  for (let i = 0; i < headDim; i++) {
    const o = head * headDim + i;
    projected[i] = weight.with(o) + (bias ? bias[o]! : 0);
  }
  return projected;
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
  const [kw, vw] = [dotWith(keyWeight), dotWith(valueWeight)];
  const [kb, vb] = [keyBias && floatsOf(keyBias), valueBias && floatsOf(valueBias)];
  for (let r = 0; r < rows; r++) {
    const sequence = sequenceOf(placement, r);
    const position = positionOf(placement, r);
    pageStart(placement, sequence, position, keys); // throws before anything is written
    const inputRow = (p: number): number => (sequence * window + (p % window)) * d;
    inputs.set(floatsOf(x).subarray(r * d, (r + 1) * d), inputRow(position));
    let caughtUp = 0;
    const isRefresh = (position + 1) % recovery.refresh === 0;
    forEachSelected(isRefresh ? null : heads, 1, headCount, r, (head) => {
      const from = filled[sequence * headCount + head]!;
      if (from > position) return; // an earlier call got further than this row
      caughtUp += 1;
      for (let p = from; p <= position; p++) {
        const first = firstHead(placement, sequence, p, keys, headCount);
        for (const [cache, weight, bias] of [
          [keys, kw, kb],
          [values, vw, vb],
        ] as const) {
          weight.take(inputs, inputRow(p));
          storeHead(cache, first + head * placement.pageRows, projectHead(head, headDim, weight, bias));
        }
      }
      filled[sequence * headCount + head] = position + 1;
    });
    intsOf(recovery.counts)[recovery.slot * recovery.counts.shape[1]! + r] = caughtUp;
  }
}
