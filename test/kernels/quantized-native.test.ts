/** The native kernels of int8 and int4 weights against formulas in float64, on every instruction set. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadAddon } from "../../src/kernels/native/binding.ts";
import {
  type InstructionSet,
  NativeUnavailableError,
  nativeInstructionSets,
} from "../../src/kernels/native/native.ts";
import type { QuantizedDtype } from "../../src/tensor/dtype.ts";
import { expectSame } from "../helpers/same.ts";
import { upTo } from "../helpers/up-to.ts";
import { blockOf } from "./float64-quantized.ts";
import { Bench, factorRounding, type Matrix, type Units } from "./quantized-lab.ts";

const formats: readonly QuantizedDtype[] = ["int8", "int4"];
const size = fc.constantFrom(1, 3, 31, 33, 63, 64, 65, 100, 127, 129, 193, 520, 1100);
const rowCount = fc.constantFrom(1, 2, 3, 5, 15); // more may go to a matrix unit: gemm.test.ts
const format = fc.constantFrom(...formats);
const seed = fc.integer({ min: 1, max: 2 ** 30 });
const filling = fc.constantFrom("none", "empty", "full", "random", "shared");
const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

/** x as a product with quantized weights sees it: rounded to multiples of a scale for each block. */
function rounded(x: readonly number[]): number[] {
  const blocks: number[][] = [];
  x.forEach((v, c) => {
    blocks[blockOf(c)] ??= [];
    blocks[blockOf(c)]!.push(v);
  });
  return x.map((v, c) => {
    const block = blocks[blockOf(c)]!;
    if (!block.every(Number.isFinite)) return Number.NaN;
    const most = Math.max(...block.map(Math.abs));
    const inverse = Math.fround(127 / most);
    if (most === 0 || inverse === Infinity) return 0;
    return toEven(Math.fround(v * inverse)) * Math.fround(most / 127);
  });
}

/** The nearest integer, the even one of two. */
function toEven(v: number): number {
  const down = Math.floor(v);
  if (v - down !== 0.5) return Math.round(v);
  return down % 2 === 0 ? down : down + 1;
}

function near(actual: readonly number[], expected: readonly number[], bound: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (!Object.is(a, e) && !(Math.abs(a - e) <= bound[i]!))
      expect.fail(`element ${i} is ${a}, should be ${e} within ${bound[i]}`);
  }
}

/** Weight rows that row r computes. */
const chosen = (units: Units | null, r: number, n: number, perUnit: number): number[] =>
  units === null
    ? upTo(n)
    : units.rows[units.shared ? 0 : r]!.flatMap((u) => upTo(perUnit).map((j) => u * perUnit + j));

function productOf(
  x: Matrix,
  weight: Matrix,
  bias: number[] | null,
  relu: boolean,
  units: Units | null,
  perUnit: number,
  out: Matrix,
) {
  const result = out.map((row) => [...row]);
  const bound = out.map((row) => row.map(() => 0));
  x.forEach((row, r) => {
    const codes = rounded(row);
    for (const o of chosen(units, r, weight.length, perUnit)) {
      const terms = codes.map((v, k) => v * weight[o]![k]!);
      const value = sum(terms) + (bias ? bias[o]! : 0);
      result[r]![o] = relu && value < 0 ? 0 : value;
      bound[r]![o] = 3e-6 * (1e-6 + sum(terms.map(Math.abs)) + Math.abs(value));
    }
  });
  return [result.flat(), bound.flat()] as const;
}

function accumulateOf(
  instructionSet: InstructionSet,
  a: Matrix,
  weight: Matrix,
  bias: number[] | null,
  units: Units | null,
  perUnit: number,
  out: Matrix,
  scales: Matrix,
) {
  const bound = out.map((row) => row.map(() => 0));
  const result = out.map((row, r) => {
    const rows = chosen(units, r, weight.length, perUnit);
    const roundingOf = factorRounding(instructionSet, rows, a[r]!, weight, scales);
    return row.map((before, c) => {
      const terms = rows.map((i) => a[r]![i]! * weight[i]![c]!);
      const size = sum(terms.map(Math.abs));
      bound[r]![c] = roundingOf(c) + 3e-6 * (1 + Math.abs(before) + size);
      return before + (bias ? bias[c]! : 0) + sum(terms);
    });
  });
  return [result.flat(), bound.flat()] as const;
}

function suite(instructionSet: InstructionSet): void {
  const open = (seedValue: number, threads = 2) => new Bench(instructionSet, threads, seedValue);
  const check = (
    title: string,
    run: (...values: never[]) => void,
    draws: fc.Arbitrary<unknown>[],
    numRuns = 100,
  ) =>
    it(title, () =>
      fc.assert(
        fc.property(fc.tuple(...draws), (values) => run(...(values as never[]))),
        { numRuns, seed: 20 },
      ),
    );

  check(
    "product, dense and of active sets",
    (
      units: number,
      k: number,
      perUnit: number,
      rows: number,
      type: QuantizedDtype,
      fill: string,
      relu: boolean,
      s: number,
    ) => {
      const lab = open(s);
      const [x, out] = [lab.floats(rows, k), lab.floats(rows, units * perUnit)];
      const weight = lab.quantized(type, units * perUnit, k);
      const bias = s % 2 ? lab.floats(1, units * perUnit) : null;
      const set = lab.set(units, rows, fill);
      const [expected, bound] = productOf(
        x.values,
        weight.values,
        bias?.values[0] ?? null,
        relu,
        set,
        perUnit,
        out.values,
      );
      lab.product(out, x, weight, bias, relu, set, perUnit, rows);
      near(lab.read(out), expected, bound);
      lab.dispose();
    },
    [
      fc.constantFrom(1, 3, 17, 40),
      size,
      fc.constantFrom(1, 3),
      rowCount,
      format,
      filling,
      fc.boolean(),
      seed,
    ],
  );

  check(
    "accumulate, dense and of active sets",
    (
      units: number,
      d: number,
      perUnit: number,
      rows: number,
      type: QuantizedDtype,
      fill: string,
      s: number,
    ) => {
      const lab = open(s);
      const [a, out] = [lab.floats(rows, units * perUnit), lab.floats(rows, d)];
      const weight = lab.quantized(type, units * perUnit, d);
      const bias = s % 2 ? lab.floats(1, d) : null;
      const set = lab.set(units, rows, fill);
      const [expected, bound] = accumulateOf(
        instructionSet,
        a.values,
        weight.values,
        bias?.values[0] ?? null,
        set,
        perUnit,
        out.values,
        weight.scales,
      );
      lab.accumulate(out, a, weight, bias, set, perUnit, rows);
      near(lab.read(out), expected, bound);
      lab.dispose();
    },
    [fc.constantFrom(1, 2, 5, 17, 40), size, fc.constantFrom(1, 3), rowCount, format, filling, seed],
  );

  check(
    "embedding and addRows dequantize exactly",
    (d: number, rows: number, type: QuantizedDtype, s: number) => {
      const lab = open(s);
      const [out, table] = [lab.floats(rows, d), lab.quantized(type, 9, d)];
      const ids = Array.from({ length: rows }, (_, r) => (r * 5 + s) % 7);
      lab.embedding(out, table, ids);
      const expected = ids.map((id) => table.values[id]!.map(Math.fround));
      expectSame(lab.read(out), expected.flat());
      lab.addRows(out, table, ids, 2);
      expectSame(
        lab.read(out),
        expected.flatMap((row, r) =>
          row.map((v, c) => Math.fround(v + Math.fround(table.values[ids[r]! + 2]![c]!))),
        ),
      );
      lab.dispose();
    },
    [size, rowCount, format, seed],
  );

  for (const type of formats) {
    it(`${type}: rows together, shared sets, whole sets and threads change no bit`, () => {
      const results = new Map<string, number[]>();
      for (const threads of [1, 2, 3])
        for (const rows of [1, 2, 3, 5, 15])
          for (const fill of ["none", "full", "shared full"]) {
            const lab = open(5, threads);
            const [n, k] = [1170, 325]; // rows enough for strands
            const weight = lab.quantized(type, n, k);
            const back = lab.quantized(type, n, k);
            const x = lab.floats(15, k);
            const [hidden, out] = [lab.zeros(rows, n), lab.zeros(rows, k)];
            const set = lab.set(n / 3, rows, fill);
            lab.product(hidden, x, weight, null, true, set, 3, rows);
            lab.accumulate(out, hidden, back, null, set, 3, rows);
            const [products, sums] = [lab.read(hidden), lab.read(out)];
            for (let r = 0; r < rows; r++) {
              const row = [...products.slice(r * n, (r + 1) * n), ...sums.slice(r * k, (r + 1) * k)];
              const first = results.get(`${r}`);
              if (first) expectSame(row, first);
              else results.set(`${r}`, row);
            }
            lab.dispose();
          }
    });

    it(`${type}: what is not finite in x makes every output NaN, and in a factor every column`, () => {
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        const lab = open(3);
        const weight = lab.quantized(type, 9, 70);
        const x = lab.floats(1, 70, (v, i) => (i === 66 ? bad : v));
        const out = lab.zeros(1, 9);
        lab.product(out, x, weight, null, true, null, 1, 1);
        expect(lab.read(out).every(Number.isNaN)).toBe(true);
        const sums = lab.zeros(1, 70);
        const a = lab.floats(1, 9, (v, i) => (i === 8 ? Number.NaN : v));
        lab.accumulate(sums, a, weight, null, null, 1, 1);
        expect(lab.read(sums).every(Number.isNaN)).toBe(true);
        lab.dispose();
      }
    });

    it(`${type}: zeros and numbers too small to scale count as zero`, () => {
      const lab = open(3);
      const weight = lab.quantized(type, 9, 70);
      for (const value of [0, 1e-40, 2 ** -149]) {
        const out = lab.zeros(1, 9);
        lab.product(
          out,
          lab.floats(1, 70, () => value),
          weight,
          null,
          false,
          null,
          1,
          1,
        );
        expect(lab.read(out).every((v) => v === 0)).toBe(true);
      }
      lab.dispose();
    });
  }

  check(
    "convert rounds as the formats say",
    (columns: number, from: "f32" | "f16" | "bf16", s: number) => {
      const lab = open(s);
      const x = lab.floats(6, columns, (v, i) => (i % 7 === 0 ? 0 : v * 10 ** ((i % 5) - 2)), from);
      for (const type of formats) {
        const made = lab.quantized(type, 9, columns);
        const untouched = lab.rows(made, 0, 1);
        lab.convert(made, 1, x, 1, 5);
        expectSame(lab.rows(made, 0, 1).flat(), untouched.flat());
        expectSame(lab.rows(made, 1, 5).flat(), lab.encode(type, x.values.slice(1)).flat());
      }
      lab.dispose();
    },
    [size, fc.constantFrom("f32", "f16", "bf16"), seed],
  );

  check(
    "convert widens to the values that embedding gives, and narrows floats to nearest even",
    (columns: number, type: QuantizedDtype, s: number) => {
      const lab = open(s);
      const table = lab.quantized(type, 5, columns);
      const wide = lab.zeros(5, columns);
      lab.convert(wide, 0, table, 0, 5);
      expectSame(lab.read(wide), table.values.flat().map(Math.fround));
      const x = lab.floats(3, columns, (v, i) =>
        i % 11 === 3 ? Infinity : i % 13 === 5 ? 1e-7 * v : v * 3 ** ((i % 30) - 15),
      );
      for (const narrow of ["f16", "bf16"] as const)
        expectSame(lab.narrowed(x, narrow), lab.nearest(x, narrow));
      lab.dispose();
    },
    [size, format, seed],
  );

  check(
    "recover computes the products of the positions that are missing",
    (d: number, rows: number, type: QuantizedDtype, s: number) => {
      const lab = open(s);
      const [heads, headDim] = [3, 5];
      const width = heads * headDim;
      const [x, keyWeight, valueWeight] = [
        lab.floats(rows, d),
        lab.quantized(type, width, d),
        lab.quantized(type, width, d),
      ];
      const bias = lab.floats(1, width);
      const [keys, values, other] = [lab.zeros(rows, width), lab.zeros(rows, width), lab.zeros(rows, width)];
      lab.recover(keys, values, x, keyWeight, bias, valueWeight, headDim, rows);
      // A cache of one page has head after head, of all rows.
      const byHead = (of: readonly number[]): number[] =>
        of.map((_, i) => {
          const [head, row, c] = [
            Math.floor(i / headDim / rows),
            Math.floor(i / headDim) % rows,
            i % headDim,
          ];
          return of[(row * heads + head) * headDim + c]!;
        });
      lab.product(other, x, keyWeight, bias, false, null, 1, rows);
      expectSame(lab.read(keys), byHead(lab.read(other)));
      lab.product(other, x, valueWeight, null, false, null, 1, rows);
      expectSame(lab.read(values), byHead(lab.read(other)));
      lab.dispose();
    },
    [size, rowCount, format, seed],
  );
}

function surface(): void {
  it("refuses types that are not there and sizes that do not fit", () => {
    const addon = loadAddon();
    const engine = new addon.Engine(addon.instructionSets[0]!, 1, new Int32Array(64), true);
    const add = (bytes: number, dtype: number, rows: number, columns: number) =>
      engine.add(new ArrayBuffer(bytes + 64), bytes, dtype, rows, columns, true);
    for (const dtype of [-1, 7, 2 ** 31 - 1]) expect(() => add(64, dtype, 1, 64)).toThrow(/fit/);
    // int8 [3, 65]: 3 rows of 128 bytes, then 3 scales; int4 [3, 65]: 3 rows of 64, then 3 · 16 scales of 2 bytes.
    expect(() => add(3 * 128 + 12, 5, 3, 65)).not.toThrow();
    expect(() => add(3 * 64 + 96, 6, 3, 65)).not.toThrow();
    for (const bytes of [3 * 128, 3 * 128 + 11, 3 * 128 + 13, 3 * 65 + 12])
      expect(() => add(bytes, 5, 3, 65)).toThrow(/fit/);
    for (const bytes of [3 * 64, 3 * 64 + 95, 3 * 64 + 97]) expect(() => add(bytes, 6, 3, 65)).toThrow(/fit/);
    expect(() => add(0, 5, 2 ** 33, 2 ** 33)).toThrow(/fit/);
    engine.dispose();
  });
}

let sets: readonly InstructionSet[] | null = null;
try {
  sets = nativeInstructionSets();
} catch (error) {
  if (!(error instanceof NativeUnavailableError)) throw error;
}
if (sets === null) describe.skip("quantized native kernels: no addon", () => it("is skipped", () => {}));
else {
  for (const set of sets) describe(`quantized native kernels: ${set}`, () => suite(set));
  describe("quantized native kernels: surface", surface);
}
