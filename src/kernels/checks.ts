/** The preconditions of every op, checked alike on all backends: a violation is a bug in the caller and throws before any work. */
import { type Dtype, isWeightDtype, type WeightDtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ActiveSet, Kernels, Placement, Recovery } from "./contract.ts";

function fail(op: string, what: string): never {
  throw new RangeError(`${op}: ${what}`);
}

/** What a matrix may be made of: one dtype, any that weights have, or either of the two that caches have. */
type Kind = Dtype | "weight" | "cache";

function isOfKind(dtype: Dtype, kind: Kind): boolean {
  if (kind === "weight") return isWeightDtype(dtype);
  if (kind === "cache") return dtype === "f32" || dtype === "f16";
  return dtype === kind;
}

/** A matrix of at least `minRows` rows and exactly `columns` columns (−1: any) of one of the dtypes. */
function matrix(op: string, name: string, t: Tensor, kind: Kind, minRows: number, columns: number): void {
  if (!isOfKind(t.dtype, kind)) fail(op, `${name} must be ${kind}, is ${t.dtype}`);
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
  const setRows = set.shared ? Math.min(rows, 1) : rows;
  matrix(op, "indices", set.indices, "i32", setRows, set.units);
  matrix(op, "counts", set.counts, "i32", set.slot + 1, -1);
  if (set.counts.shape[1]! < setRows)
    fail(op, `counts hold ${set.counts.shape[1]} rows, ${setRows} are asked for`);
  integer(op, "slot", set.slot, 0);
}

export function checkMap(dtype: Dtype, shape: readonly number[], offset: number): void {
  for (const extent of shape) integer("map", "extent", extent, 0);
  integer("map", "offset", offset, 0);
  if (offset % 64 !== 0) fail("map", `the offset of ${dtype} must be a multiple of 64, is ${offset}`);
}

export function checkEmbedding(out: Tensor, table: Tensor, ids: Tensor, rows: number): void {
  integer("embedding", "rows", rows, 0);
  matrix("embedding", "out", out, "f32", rows, -1);
  matrix("embedding", "table", table, "weight", 1, out.shape[1]!);
  vector("embedding", "ids", ids, "i32", rows, true);
}

export function checkAddRows(
  out: Tensor,
  table: Tensor,
  indices: Tensor,
  offset: number,
  rows: number,
): void {
  integer("addRows", "rows", rows, 0);
  integer("addRows", "offset", offset, 0);
  matrix("addRows", "out", out, "f32", rows, -1);
  matrix("addRows", "table", table, "weight", 1, out.shape[1]!);
  vector("addRows", "indices", indices, "i32", rows, true);
}

function placed(op: string, placement: Placement, rows: number): void {
  vector(op, "sequences", placement.sequences, "i32", rows, true);
  vector(op, "positions", placement.positions, "i32", rows, true);
  matrix(op, "pages", placement.pages, "i32", 1, -1);
  integer(op, "pageRows", placement.pageRows, 1);
}

export function checkStoreRows(cache: Tensor, x: Tensor, headDim: number, at: Placement, rows: number): void {
  integer("storeRows", "rows", rows, 0);
  integer("storeRows", "headDim", headDim, 1);
  integer("storeRows", "heads", x.shape[1]! / headDim, 1);
  matrix("storeRows", "x", x, "f32", rows, -1);
  matrix("storeRows", "cache", cache, "cache", 1, x.shape[1]!);
  placed("storeRows", at, rows);
}

export function checkCopyRows(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
  integer("copyRows", "rows", rows, 0);
  integer("copyRows", "outRow", outRow, 0);
  integer("copyRows", "xRow", xRow, 0);
  matrix("copyRows", "x", x, "f32", xRow + rows, -1);
  matrix("copyRows", "out", out, "f32", outRow + rows, x.shape[1]!);
}

export function checkConvert(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
  integer("convert", "rows", rows, 0);
  integer("convert", "outRow", outRow, 0);
  integer("convert", "xRow", xRow, 0);
  matrix("convert", "x", x, "weight", xRow + rows, -1);
  matrix("convert", "out", out, "weight", outRow + rows, x.shape[1]!);
  if (out === x) fail("convert", "out must be another tensor than x");
}

export function checkScreen(
  set: ActiveSet,
  out: Tensor,
  scores: Tensor,
  x: Tensor,
  norms: Tensor,
  k: number,
  rows: number,
): void {
  integer("screen", "rows", rows, 0);
  integer("screen", "k", k, 1);
  if (set.shared) fail("screen", "a shared set has words for one row only");
  activeSet("screen", set, scores.shape[1]!, rows);
  matrix("screen", "scores", scores, "f32", rows, set.units);
  matrix("screen", "out", out, "f32", rows, set.units);
  matrix("screen", "x", x, "f32", rows, -1);
  matrix("screen", "norms", norms, "f32", 2, set.units);
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
  matrix("product", "weight", weight, "weight", 1, x.shape[1]!);
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
  matrix("accumulate", "weight", weight, "weight", 1, out.shape[1]!);
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
  placement: Placement,
  rows: number,
): void {
  integer("attention", "rows", rows, 0);
  integer("attention", "headDim", headDim, 1);
  matrix("attention", "q", q, "f32", rows, -1);
  matrix("attention", "out", out, "f32", rows, q.shape[1]!);
  matrix("attention", "keys", keys, "cache", 1, -1);
  matrix("attention", "values", values, keys.dtype, keys.shape[0]!, keys.shape[1]!);
  placed("attention", placement, rows);
  const headCount = q.shape[1]! / headDim;
  const kvHeads = keys.shape[1]! / headDim;
  integer("attention", "heads", headCount, 1);
  integer("attention", "kvHeads", kvHeads, 1);
  integer("attention", "heads per kvHead", headCount / kvHeads, 1);
  activeSet("attention", heads, headCount, rows);
}

export function checkRecover(
  inputColumns: Kernels["recoveryColumns"],
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
  const op = "recover";
  const [width, d] = [keys.shape[1]!, x.shape[1]!];
  integer(op, "rows", rows, 0);
  integer(op, "headDim", headDim, 1);
  integer(op, "heads", width / headDim, 1);
  matrix(op, "x", x, "f32", rows, -1);
  matrix(op, "keys", keys, "cache", 1, -1);
  matrix(op, "values", values, keys.dtype, keys.shape[0]!, width);
  matrix(op, "keyWeight", keyWeight, "weight", width, d);
  matrix(op, "valueWeight", valueWeight, keyWeight.dtype, width, d);
  vector(op, "keyBias", keyBias, "f32", width);
  vector(op, "valueBias", valueBias, "f32", width);
  placed(op, placement, rows);
  const sequences = placement.pages.shape[0]!;
  matrix(op, "filled", recovery.filled, "i32", sequences, width / headDim);
  matrix(op, "inputs", recovery.inputs, "f32", sequences, inputColumns(keyWeight.dtype as WeightDtype, d));
  const window = recovery.inputs.shape[0]! / sequences;
  integer(op, "window", window, 1);
  integer(op, "refresh", recovery.refresh, 1);
  if (recovery.refresh > window) fail(op, `refresh ${recovery.refresh} exceeds the window of ${window}`);
  matrix(op, "counts", recovery.counts, "i32", recovery.slot + 1, -1);
  if (recovery.counts.shape[1]! < rows) fail(op, `counts hold ${recovery.counts.shape[1]} rows of ${rows}`);
  activeSet(op, heads, width / headDim, rows);
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
  if (Boolean(out.shared) !== Boolean(set.shared)) fail("refine", "both sets must be shared, or neither");
}

export function checkUnite(out: ActiveSet, set: ActiveSet, rows: number): void {
  integer("unite", "rows", rows, 1);
  if (!out.shared || set.shared) fail("unite", "out must be a shared set, and the other must not");
  activeSet("unite", set, out.units, rows);
  activeSet("unite", out, set.units, rows);
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
