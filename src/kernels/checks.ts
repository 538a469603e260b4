/** The preconditions of every op, checked alike on all backends: a violation is a bug in the caller and throws before any work. */
import type { Dtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ActiveSet } from "./contract.ts";

function fail(op: string, what: string): never {
  throw new RangeError(`${op}: ${what}`);
}

/** A matrix of at least `minRows` rows and exactly `columns` columns (−1: any) of one of the dtypes. */
function matrix(
  op: string,
  name: string,
  t: Tensor,
  dtype: Dtype | "float",
  minRows: number,
  columns: number,
): void {
  const isFloat = t.dtype === "f32" || t.dtype === "f16" || t.dtype === "bf16";
  if (dtype === "float" ? !isFloat : t.dtype !== dtype) fail(op, `${name} must be ${dtype}, is ${t.dtype}`);
  if (t.shape.length !== 2 || t.shape[0]! < minRows || (columns >= 0 && t.shape[1] !== columns))
    fail(op, `${name} must be [≥ ${minRows}, ${columns < 0 ? "any" : columns}], is [${t.shape.join(", ")}]`);
}

function vector(
  op: string,
  name: string,
  t: Tensor | null,
  dtype: Dtype,
  length: number,
  atLeast = false,
): void {
  if (t === null) return;
  if (t.dtype !== dtype || t.shape.length !== 1 || (atLeast ? t.shape[0]! < length : t.shape[0] !== length))
    fail(
      op,
      `${name} must be ${dtype} [${atLeast ? "≥ " : ""}${length}], is ${t.dtype} [${t.shape.join(", ")}]`,
    );
}

function integer(op: string, name: string, value: number, low: number): void {
  if (!Number.isInteger(value) || value < low) fail(op, `${name} must be an integer ≥ ${low}, is ${value}`);
}

function activeSet(op: string, set: ActiveSet | null, units: number, rows: number): void {
  if (set === null) return;
  if (set.units !== units) fail(op, `the active set has ${set.units} units, the tensors have ${units}`);
  matrix(op, "indices", set.indices, "i32", rows, set.units);
  matrix(op, "counts", set.counts, "i32", set.slot + 1, -1);
  if (set.counts.shape[1]! < rows) fail(op, `counts hold ${set.counts.shape[1]} rows, ${rows} are asked for`);
  integer(op, "slot", set.slot, 0);
}

export function checkEmbedding(out: Tensor, table: Tensor, ids: Tensor, rows: number): void {
  integer("embedding", "rows", rows, 0);
  matrix("embedding", "out", out, "f32", rows, -1);
  matrix("embedding", "table", table, "float", 1, out.shape[1]!);
  vector("embedding", "ids", ids, "i32", rows, true);
}

export function checkAddRows(out: Tensor, table: Tensor, firstRow: number, rows: number): void {
  integer("addRows", "rows", rows, 0);
  integer("addRows", "firstRow", firstRow, 0);
  matrix("addRows", "out", out, "f32", rows, -1);
  matrix("addRows", "table", table, "float", firstRow + rows, out.shape[1]!);
}

export function checkCopyRows(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
  integer("copyRows", "rows", rows, 0);
  integer("copyRows", "outRow", outRow, 0);
  integer("copyRows", "xRow", xRow, 0);
  matrix("copyRows", "x", x, "f32", xRow + rows, -1);
  matrix("copyRows", "out", out, "f32", outRow + rows, x.shape[1]!);
}

export function checkTranspose(out: Tensor, x: Tensor, rows: number): void {
  integer("transpose", "rows", rows, 0);
  matrix("transpose", "x", x, "f32", rows, -1);
  matrix("transpose", "out", out, "f32", x.shape[1]!, rows);
}

export function checkLayerNorm(
  out: Tensor,
  x: Tensor,
  weight: Tensor | null,
  bias: Tensor | null,
  rows: number,
): void {
  integer("layerNorm", "rows", rows, 0);
  matrix("layerNorm", "x", x, "f32", rows, -1);
  matrix("layerNorm", "out", out, "f32", rows, x.shape[1]!);
  vector("layerNorm", "weight", weight, "f32", x.shape[1]!);
  vector("layerNorm", "bias", bias, "f32", x.shape[1]!);
}

export function checkProduct(
  out: Tensor,
  outRow: number,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  set: ActiveSet | null,
  rowsPerUnit: number,
  rows: number,
): void {
  integer("product", "rows", rows, 0);
  integer("product", "outRow", outRow, 0);
  integer("product", "rowsPerUnit", rowsPerUnit, 1);
  matrix("product", "x", x, "f32", rows, -1);
  matrix("product", "weight", weight, "float", 1, x.shape[1]!);
  matrix("product", "out", out, "f32", outRow + rows, weight.shape[0]!);
  vector("product", "bias", bias, "f32", weight.shape[0]!);
  activeSet("product", set, weight.shape[0]! / rowsPerUnit, rows);
}

export function checkAccumulate(
  out: Tensor,
  a: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  set: ActiveSet | null,
  rowsPerUnit: number,
  rows: number,
): void {
  integer("accumulate", "rows", rows, 0);
  integer("accumulate", "rowsPerUnit", rowsPerUnit, 1);
  matrix("accumulate", "out", out, "f32", rows, -1);
  matrix("accumulate", "weight", weight, "float", 1, out.shape[1]!);
  matrix("accumulate", "a", a, "f32", rows, weight.shape[0]!);
  vector("accumulate", "bias", bias, "f32", out.shape[1]!);
  activeSet("accumulate", set, weight.shape[0]! / rowsPerUnit, rows);
}

export function checkAttention(
  out: Tensor,
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  heads: ActiveSet | null,
  headDim: number,
  position: number,
  rows: number,
): void {
  integer("attention", "rows", rows, 0);
  integer("attention", "position", position, 0);
  integer("attention", "headDim", headDim, 1);
  matrix("attention", "q", q, "f32", rows, -1);
  matrix("attention", "out", out, "f32", rows, q.shape[1]!);
  matrix("attention", "keys", keys, "f32", position + rows, -1);
  matrix("attention", "values", values, "f32", position + rows, keys.shape[1]!);
  const headCount = q.shape[1]! / headDim;
  const kvHeads = keys.shape[1]! / headDim;
  integer("attention", "heads", headCount, 1);
  integer("attention", "kvHeads", kvHeads, 1);
  integer("attention", "heads per kvHead", headCount / kvHeads, 1);
  activeSet("attention", heads, headCount, rows);
}

export function checkUnitNorms(out: Tensor, x: Tensor, rows: number): void {
  integer("unitNorms", "rows", rows, 0);
  matrix("unitNorms", "out", out, "f32", rows, -1);
  matrix("unitNorms", "x", x, "f32", rows, -1);
  integer("unitNorms", "width", x.shape[1]! / out.shape[1]!, 1);
}

export function checkSelect(op: string, set: ActiveSet, scores: Tensor, rows: number): void {
  integer(op, "rows", rows, 0);
  matrix(op, "scores", scores, "f32", rows, -1);
  activeSet(op, set, scores.shape[1]!, rows);
}

export function checkTopK(set: ActiveSet, scores: Tensor, k: number, rows: number): void {
  integer("selectTopK", "k", k, 0);
  checkSelect("selectTopK", set, scores, rows);
}

export function checkRefine(out: ActiveSet, set: ActiveSet, values: Tensor, rows: number): void {
  checkSelect("refine", set, values, rows);
  checkSelect("refine", out, values, rows);
}

export function checkLogSoftmax(out: Tensor, x: Tensor, rows: number): void {
  integer("logSoftmax", "rows", rows, 0);
  matrix("logSoftmax", "x", x, "f32", rows, -1);
  matrix("logSoftmax", "out", out, "f32", rows, x.shape[1]!);
}

export function checkArgmax(out: Tensor, x: Tensor, rows: number): void {
  integer("argmax", "rows", rows, 0);
  matrix("argmax", "x", x, "f32", rows, -1);
  vector("argmax", "out", out, "i32", rows, true);
}
