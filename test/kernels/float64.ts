/**
 * The judge's judge: every op as a formula over plain arrays of float64, written apart from the reference backend and
 * sharing nothing with it but the contract. It checks nothing and keeps no time.
 */
import type { ActiveSet, Kernels, Placement } from "../../src/kernels/contract.ts";
import type { Dtype, HostArray, QuantizedDtype } from "../../src/tensor/dtype.ts";
import { bf16ToNumber, f16ToNumber, isQuantized, numberToBf16, numberToF16 } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { byteLength, elementCount } from "../../src/tensor/tensor.ts";
import { upTo } from "../helpers/up-to.ts";
import { decode, encode, roundedInBlocks } from "./float64-quantized.ts";

interface Numbers extends Tensor {
  readonly values: number[];
  /** What a quantized tensor holds; `values` is what it means. */
  readonly bytes: Uint8Array;
}

const of = (tensor: Tensor): number[] => (tensor as Numbers).values;
const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
const widen: Record<Exclude<Dtype, QuantizedDtype>, (stored: number) => number> = {
  f32: (v) => v,
  f16: f16ToNumber,
  bf16: bf16ToNumber,
  i32: (v) => v,
  u8: (v) => v,
};

/** What is left of a number once it is stored. */
const narrow = {
  f32: (v: number) => Math.fround(v),
  f16: (v: number) => f16ToNumber(numberToF16(v)),
  bf16: (v: number) => bf16ToNumber(numberToBf16(v)),
};
/** The elements as they lie in memory. */
function stored(tensor: Tensor): number[] {
  if (tensor.dtype === "f16") return of(tensor).map(numberToF16);
  return tensor.dtype === "bf16" ? of(tensor).map(numberToBf16) : of(tensor);
}

/** Row r of a matrix. */
function row(tensor: Tensor, r: number): number[] {
  const columns = tensor.shape[1]!;
  return of(tensor).slice(r * columns, (r + 1) * columns);
}

function setRow(tensor: Tensor, r: number, values: number[]): void {
  const columns = tensor.shape[1]!;
  values.forEach((v, c) => {
    of(tensor)[r * columns + c] = v;
  });
}

function unitsOf(set: ActiveSet, r: number): number[] {
  const setRow = set.shared ? 0 : r;
  return row(set.indices, setRow).slice(0, row(set.counts, set.slot)[setRow]!);
}

function setUnits(set: ActiveSet, r: number, units: number[]): void {
  setRow(set.indices, r, units);
  of(set.counts)[set.slot * set.counts.shape[1]! + r] = units.length;
}

/** The weight rows that row r computes. */
function active(set: ActiveSet | null, perUnit: number, n: number, r: number): number[] {
  if (set === null) return upTo(n);
  return unitsOf(set, r).flatMap((unit) => upTo(perUnit).map((j) => unit * perUnit + j));
}

/**
 * Row r's sequence and position, and what a cache with pages of [kvHeads, pageRows, headDim] has for a head of a position
 * of its sequence: indices of its elements.
 */
function placeOf(placement: Placement, r: number, headDim: number) {
  const [sequence, position] = [of(placement.sequences)[r]!, of(placement.positions)[r]!];
  const pages = row(placement.pages, sequence);
  const { pageRows } = placement;
  const at = (cache: Tensor, p: number, head: number) => {
    const page = pages[Math.floor(p / pageRows)]!;
    const start = page * pageRows * cache.shape[1]! + (head * pageRows + (p % pageRows)) * headDim;
    return upTo(headDim).map((i) => start + i);
  };
  return { sequence, position, at };
}

function softmax(x: number[]): number[] {
  const most = Math.max(...x);
  const powers = x.map((v) => Math.exp(v - most));
  return powers.map((p) => p / sum(powers));
}

export function openFloat64(): Kernels {
  return {
    name: "reference",
    instructionSet: "float64",
    threads: 1,
    recoveryColumns: (_weight, d) => d,
    allocate: (dtype, shape): Numbers => ({
      dtype,
      shape,
      values: new Array(elementCount(shape)).fill(0),
      bytes: new Uint8Array(isQuantized(dtype) ? byteLength({ dtype, shape }) : 0),
    }),
    map: () => null,
    async upload() {
      throw new Error("not needed here");
    },
    write(tensor, values: HostArray, offset = 0) {
      if (isQuantized(tensor.dtype)) {
        (tensor as Numbers).bytes.set(values, offset);
        Object.assign(of(tensor), decode(tensor, (tensor as Numbers).bytes));
        return;
      }
      values.forEach((v, i) => {
        of(tensor)[offset + i] = widen[tensor.dtype as keyof typeof widen](v);
      });
    },
    async read(tensor, into, offset = 0) {
      const { bytes } = tensor as Numbers;
      into.set((isQuantized(tensor.dtype) ? [...bytes] : stored(tensor)).slice(offset, offset + into.length));
    },
    free() {},
    dispose() {},
    screen() {
      throw new Error("screening is checked against full products");
    },
    fork() {},
    record(ops) {
      ops();
      return null;
    },
    replay: () => false,
    join() {},

    embedding(out, table, ids, rows) {
      for (const r of upTo(rows)) setRow(out, r, row(table, of(ids)[r]!));
    },
    addRows(out, table, indices, offset, rows) {
      for (const r of upTo(rows)) {
        const other = row(table, of(indices)[r]! + offset);
        setRow(
          out,
          r,
          row(out, r).map((v, c) => v + other[c]!),
        );
      }
    },
    storeRows(cache, x, headDim, placement, rows) {
      for (const r of upTo(rows)) {
        const { position, at } = placeOf(placement, r, headDim);
        row(x, r).forEach((v, c) => {
          of(cache)[at(cache, position, Math.floor(c / headDim))[c % headDim]!] = v;
        });
      }
    },
    copyRows(out, outRow, x, xRow, rows) {
      const taken = upTo(rows).map((r) => row(x, xRow + r));
      taken.forEach((values, r) => {
        setRow(out, outRow + r, values);
      });
    },
    convert(out, outRow, x, xRow, rows) {
      for (const r of upTo(rows)) {
        const values = row(x, xRow + r).map(Math.fround);
        if (isQuantized(out.dtype)) encode(out, (out as Numbers).bytes, outRow + r, values);
        else setRow(out, outRow + r, values.map(narrow[out.dtype as keyof typeof narrow]));
      }
      if (isQuantized(out.dtype)) Object.assign(of(out), decode(out, (out as Numbers).bytes));
    },
    transpose(out, x, rows) {
      for (const c of upTo(x.shape[1]!))
        setRow(
          out,
          c,
          upTo(rows).map((r) => row(x, r)[c]!),
        );
    },
    layerNorm(out, x, weight, bias, epsilon, rows) {
      for (const r of upTo(rows)) {
        const values = row(x, r);
        const mean = sum(values) / values.length;
        const variance = sum(values.map((v) => (v - mean) ** 2)) / values.length;
        const scaled = values.map((v) => (v - mean) / Math.sqrt(variance + epsilon));
        const weighted = weight ? scaled.map((v, c) => v * of(weight)[c]!) : scaled;
        setRow(out, r, bias ? weighted.map((v, c) => v + of(bias)[c]!) : weighted);
      }
    },
    product(out, outRow, x, weight, bias, activation, set, perUnit, rows) {
      for (const r of upTo(rows)) {
        const input = isQuantized(weight.dtype) ? roundedInBlocks(row(x, r)) : row(x, r);
        const result = row(out, outRow + r);
        for (const o of active(set, perUnit, weight.shape[0]!, r)) {
          const w = row(weight, o);
          const value = sum(input.map((v, i) => v * w[i]!)) + (bias ? of(bias)[o]! : 0);
          result[o] = activation === "relu" ? Math.max(value, 0) : value;
        }
        setRow(out, outRow + r, result);
      }
    },
    accumulate(out, a, weight, bias, set, perUnit, rows) {
      for (const r of upTo(rows)) {
        const [factors, result] = [row(a, r), row(out, r)];
        if (bias)
          of(bias).forEach((b, c) => {
            result[c]! += b;
          });
        for (const i of active(set, perUnit, weight.shape[0]!, r))
          row(weight, i).forEach((w, c) => {
            result[c]! += factors[i]! * w;
          });
        setRow(out, r, result);
      }
    },
    attention(out, q, keys, values, heads, headDim, placement, rows) {
      const headCount = q.shape[1]! / headDim;
      const group = headCount / (keys.shape[1]! / headDim);
      for (const r of upTo(rows)) {
        const [query, result] = [row(q, r), row(out, r)];
        const { position, at } = placeOf(placement, r, headDim);
        for (const head of active(heads, 1, headCount, r)) {
          const shared = Math.floor(head / group);
          const part = (cache: Tensor, t: number) => at(cache, t, shared).map((i) => of(cache)[i]!);
          const seen = upTo(position + 1);
          const mine = query.slice(head * headDim, (head + 1) * headDim);
          const scores = seen.map((t) => {
            const key = part(keys, t);
            return sum(mine.map((v, i) => v * key[i]!)) / Math.sqrt(headDim);
          });
          const weights = softmax(scores);
          for (const i of upTo(headDim))
            result[head * headDim + i] = sum(seen.map((t) => weights[t]! * part(values, t)[i]!));
        }
        setRow(out, r, result);
      }
    },
    recover(keys, values, x, kWeight, kBias, vWeight, vBias, heads, headDim, recovery, placement, rows) {
      const headCount = keys.shape[1]! / headDim;
      const window = recovery.inputs.shape[0]! / placement.pages.shape[0]!;
      for (const r of upTo(rows)) {
        const { sequence, position, at } = placeOf(placement, r, headDim);
        const input = (p: number) => sequence * window + (p % window);
        setRow(recovery.inputs, input(position), row(x, r));
        const all = (position + 1) % recovery.refresh === 0;
        const chosen = active(all ? null : heads, 1, headCount, r);
        const filled = row(recovery.filled, sequence);
        of(recovery.counts)[recovery.slot * recovery.counts.shape[1]! + r] = chosen.filter(
          (head) => filled[head]! <= position,
        ).length;
        for (const head of chosen) {
          for (const p of upTo(position + 1).slice(filled[head]!))
            for (const [cache, weight, bias] of [
              [keys, kWeight, kBias],
              [values, vWeight, vBias],
            ] as const) {
              const given = row(recovery.inputs, input(p));
              const kept = isQuantized(weight.dtype) ? roundedInBlocks(given) : given;
              at(cache, p, head).forEach((place, i) => {
                const o = head * headDim + i;
                const w = row(weight, o);
                of(cache)[place] = sum(kept.map((v, c) => v * w[c]!)) + (bias ? of(bias)[o]! : 0);
              });
            }
          filled[head] = Math.max(filled[head]!, position + 1);
        }
        setRow(recovery.filled, sequence, filled);
      }
    },
    unitNorms(out, x, rows) {
      const width = x.shape[1]! / out.shape[1]!;
      for (const r of upTo(rows))
        setRow(
          out,
          r,
          upTo(out.shape[1]!).map((u) => Math.hypot(...row(x, r).slice(u * width, (u + 1) * width))),
        );
    },
    selectTopK(set, scores, k, rows) {
      for (const r of upTo(rows)) {
        const s = row(scores, r);
        // A unit's place is the number of units that come before it.
        const before = (u: number, v: number) =>
          Number.isNaN(s[u]) ? Number.isNaN(s[v]) && u < v : !(s[u]! <= s[v]!) || (s[u] === s[v] && u < v);
        const place = (v: number) => upTo(set.units).filter((u) => u !== v && before(u, v)).length;
        setUnits(
          set,
          r,
          upTo(set.units).filter((v) => place(v) < k),
        );
      }
    },
    selectThreshold(set, scores, threshold, rows) {
      for (const r of upTo(rows))
        setUnits(
          set,
          r,
          upTo(set.units).filter((u) => row(scores, r)[u]! > threshold),
        );
    },
    refine(out, set, values, rows) {
      for (const r of upTo(set.shared ? Math.min(rows, 1) : rows)) {
        const judging = set.shared ? upTo(rows) : [r];
        setUnits(
          out,
          r,
          unitsOf(set, r).filter((u) => judging.some((j) => row(values, j)[u]! > 0)),
        );
      }
    },
    unite(out, set, rows) {
      const listed = upTo(rows).map((r) => unitsOf(set, r));
      setUnits(
        out,
        0,
        upTo(set.units).filter((u) => listed.some((units) => units.includes(u))),
      );
    },
    logSoftmax(out, x, rows) {
      for (const r of upTo(rows)) {
        const values = row(x, r);
        const most = Math.max(...values);
        const rest = Math.log(sum(values.map((v) => Math.exp(v - most))));
        setRow(
          out,
          r,
          values.map((v) => v - most - rest),
        );
      }
    },
    argmax(out, x, rows) {
      for (const r of upTo(rows)) {
        const numbers = row(x, r).filter((v) => !Number.isNaN(v));
        of(out)[r] = numbers.length === 0 ? 0 : row(x, r).indexOf(Math.max(...numbers));
      }
    },
    mark() {},
    startProfile() {},
    async stopProfile() {
      return { predictor: 0, attention: 0, mlp: 0, output: 0, rest: 0 };
    },
  };
}
