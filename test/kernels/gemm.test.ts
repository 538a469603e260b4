/**
 * Products of 16 rows and more with any weights but f32, which a matrix unit may do on operands rounded to bfloat16, or vectors
 * on 16-bit integers or on widened weights, against formulas in float64, on every instruction set.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type InstructionSet,
  NativeUnavailableError,
  nativeInstructionSets,
} from "../../src/kernels/native/native.ts";
import { fromFloat32, toFloat32, type WeightDtype } from "../../src/tensor/dtype.ts";
import { expectSame } from "../helpers/same.ts";
import { upTo } from "../helpers/up-to.ts";
import { blockOf } from "./float64-quantized.ts";
import { Bench, factorRounding, type Matrix, type Units } from "./quantized-lab.ts";

type Type = Exclude<WeightDtype, "f32">;
const types: readonly Type[] = ["f16", "bf16", "int8", "int4"];
const type = fc.constantFrom(...types);
const rowCount = fc.constantFrom(16, 17, 31, 32, 33, 49, 66, 130);
const size = fc.constantFrom(1, 3, 31, 33, 63, 65, 130, 259, 521);
const filling = fc.constantFrom("none", "shared full", "shared");
const seed = fc.integer({ min: 1, max: 2 ** 30 });

/** Of bfloat16 each of two factors is rounded by at most 2^-8 of itself; their product and the float32 sums fit beside. */
const tolerance = (type: Type): number => (type === "f16" ? 2 ** -15 : 2 ** -7) * 1.01;

/** The sum of products, and that of their sizes. */
function dot(a: readonly number[], b: readonly number[]): [sum: number, sizes: number] {
  let [total, sizes] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const product = a[i]! * b[i]!;
    total += product;
    sizes += Math.abs(product);
  }
  return [total, sizes];
}

/** Euclidean norm and sum of sizes. */
const normsOf = (values: readonly number[]) =>
  [Math.sqrt(dot(values, values)[0]), values.reduce((a, b) => a + Math.abs(b), 0)] as const;
type Norms = ReturnType<typeof normsOf>;

/** What rounding by norms takes from floats of 16 bits; one scale for all that is summed is the worst that may be. */
const normRounding = (x: Norms, weight: Norms): number =>
  (weight[0] * x[1]) / 65400 + (x[0] * weight[1]) / 65534;

/** By column, the largest of the block of x that it belongs to. */
function largestOfBlock(x: readonly number[]): number[] {
  const most: number[] = [];
  x.forEach((v, c) => {
    most[blockOf(c)] = Math.max(most[blockOf(c)] ?? 0, Math.abs(v));
  });
  return x.map((_, c) => most[blockOf(c)]!);
}

/** What x loses where a product with codes runs in integers: half of a 127th of the largest of its block. */
function byteRounding(largest: readonly number[], weight: readonly number[]): number {
  let total = 0;
  for (let c = 0; c < weight.length; c++) total += Math.abs(weight[c]!) * largest[c]!;
  return total / 253;
}

/** The weight rows that take part. */
const chosen = (units: Units | null, n: number, perUnit: number): number[] =>
  units === null ? upTo(n) : units.rows[0]!.flatMap((u) => upTo(perUnit).map((j) => u * perUnit + j));

function near(actual: readonly number[], expected: Matrix, bound: Matrix): void {
  const [flat, bounds] = [expected.flat(), bound.flat()];
  expect(actual.length).toBe(flat.length);
  for (let i = 0; i < flat.length; i++)
    if (!(Math.abs(actual[i]! - flat[i]!) <= bounds[i]!))
      expect.fail(`element ${i} is ${actual[i]}, should be ${flat[i]} within ${bounds[i]}`);
}

const weightOf = (lab: Bench, type: Type, rows: number, columns: number) =>
  type === "bf16" || type === "f16"
    ? lab.floats(rows, columns, (v) => v, type)
    : lab.quantized(type, rows, columns);

function suite(instructionSet: InstructionSet): void {
  it("products are near those of float64, and touch nothing else", () => {
    const draws = [size, size, fc.constantFrom(1, 3), rowCount, type, filling, fc.boolean(), seed] as const;
    fc.assert(
      fc.property(...draws, (units, k, perUnit, rows, type, fill, relu, s) => {
        const lab = new Bench(instructionSet, 1 + (s % 3), s);
        const n = units * perUnit;
        const [x, out] = [lab.floats(rows + 1, k), lab.floats(rows + 1, n)];
        const [weight, bias] = [weightOf(lab, type, n, k), s % 2 ? lab.floats(1, n) : null];
        const set = lab.set(units, rows, fill);
        const expected = out.values.map((row) => [...row]);
        const bound = out.values.map((row) => row.map(() => 0));
        const [xNorms, weightNorms] = [x.values.map(normsOf), weight.values.map(normsOf)];
        const largest = x.values.map(largestOfBlock);
        const roundingOf = (r: number, o: number) =>
          type === "f16"
            ? normRounding(xNorms[r]!, weightNorms[o]!)
            : type === "bf16"
              ? 0
              : byteRounding(largest[r]!, weight.values[o]!);
        for (const o of chosen(set, n, perUnit))
          for (let r = 0; r < rows; r++) {
            const [total, sizes] = dot(x.values[r]!, weight.values[o]!);
            const value = total + (bias ? bias.values[0]![o]! : 0);
            expected[r]![o] = relu && value < 0 ? 0 : value;
            bound[r]![o] = tolerance(type) * sizes + 1e-6 + roundingOf(r, o);
          }
        lab.product(out, x, weight, bias, relu, set, perUnit, rows);
        near(lab.read(out), expected, bound);
        lab.dispose();
      }),
      { numRuns: 60, seed: 21 },
    );
  });

  it("accumulations are near those of float64, and never look at what is not selected", () => {
    const draws = [size, size, fc.constantFrom(1, 3), rowCount, type, filling, seed] as const;
    fc.assert(
      fc.property(...draws, (units, d, perUnit, rows, type, fill, s) => {
        const lab = new Bench(instructionSet, 1 + (s % 3), s);
        const n = units * perUnit;
        const set = lab.set(units, rows, fill);
        const selected = chosen(set, n, perUnit);
        const taken = new Set(selected);
        const a = lab.floats(rows + 1, n, (v, i) => (taken.has(i % n) ? Math.max(v, 0) : Number.NaN));
        const [out, bias] = [lab.floats(rows + 1, d), s % 2 ? lab.floats(1, d) : null];
        const weight = weightOf(lab, type, n, d);
        const bound = out.values.map((row) => row.map(() => 0));
        const factors = a.values.map((row) => selected.map((i) => row[i]!));
        const columns = out.values[0]!.map((_, c) => selected.map((i) => weight.values[i]![c]!));
        const [factorNorms, columnNorms] = [factors.map(normsOf), columns.map(normsOf)];
        const expected = out.values.map((row, r) => {
          if (r === rows) return row;
          const codeRounding =
            type === "int4" &&
            factorRounding(instructionSet, selected, a.values[r]!, weight.values, weight.scales!);
          return row.map((before, c) => {
            const [total, sizes] = dot(factors[r]!, columns[c]!);
            const rounding = codeRounding
              ? codeRounding(c)
              : type === "f16"
                ? normRounding(factorNorms[r]!, columnNorms[c]!)
                : 0;
            bound[r]![c] = tolerance(type) * sizes + 1e-6 + rounding;
            return before + (bias ? bias.values[0]![c]! : 0) + total;
          });
        });
        lab.accumulate(out, a, weight, bias, set, perUnit, rows);
        near(lab.read(out), expected, bound);
        lab.dispose();
      }),
      { numRuns: 60, seed: 22 },
    );
  });

  for (const type of types) {
    const run = (threads: number, rows: number, fill: string): readonly [number[], number[]] => {
      const lab = new Bench(instructionSet, threads, 5);
      const [n, k] = [210, 1100];
      const [weight, back, x] = [
        weightOf(lab, type, n, k),
        weightOf(lab, type, n, k),
        lab.floats(600, k, (v) => v),
      ];
      const [hidden, out] = [lab.zeros(rows, n), lab.zeros(rows, k)];
      const set = lab.set(n / 3, rows, fill);
      lab.product(hidden, x, weight, null, true, set, 3, rows);
      lab.accumulate(out, hidden, back, null, set, 3, rows);
      const results = [lab.read(hidden), lab.read(out)] as const;
      lab.dispose();
      return results;
    };

    it(`${type}: threads, whole sets and the rows beside change no bit`, () => {
      const [products, sums] = run(1, 130, "none");
      for (const [threads, rows, fill] of [
        [2, 130, "none"],
        [3, 130, "shared full"],
        [1, type === "f16" ? 25 : 16, "none"], // f16: fewer may be exact
        [2, 49, "shared full"],
        [2, 600, "none"], // more than are packed at once
      ] as const) {
        const [product, accumulation] = run(threads, rows, fill);
        const same = Math.min(rows, 130);
        expectSame(product.slice(0, same * 210), products.slice(0, same * 210));
        expectSame(accumulation.slice(0, same * 1100), sums.slice(0, same * 1100));
      }
    });

    it(`${type}: NaN in a row makes that row NaN and no other`, () => {
      const lab = new Bench(instructionSet, 2, 3);
      const [weight, x] = [
        weightOf(lab, type, 40, 70),
        lab.floats(20, 70, (v, i) => (i === 75 ? Number.NaN : v)),
      ];
      const [out, sums] = [lab.zeros(20, 40), lab.zeros(20, 70)];
      lab.product(out, x, weight, null, true, null, 1, 20);
      lab.accumulate(sums, out, weight, null, null, 1, 20);
      for (const [result, columns] of [
        [lab.read(out), 40],
        [lab.read(sums), 70],
      ] as const)
        result.forEach((v, i) => {
          expect(Number.isNaN(v)).toBe(Math.floor(i / columns) === 1);
        });
      lab.dispose();
    });
  }
}

/** x has outliers, as the inputs of real layers have. */
function accuracy(instructionSet: InstructionSet): void {
  it("f16: many rows lose no more than x rounded to float16 would", () => {
    const lab = new Bench(instructionSet, 2, 31);
    const [rows, n, k] = [26, 60, 1300];
    const withOutliers = (v: number, i: number) => Math.tan(v * 1.3) * (i % 97 === 5 ? 8 : 1);
    const [weight, back] = [lab.floats(n, k, (v) => v, "f16"), lab.floats(k, n, (v) => v, "f16")];
    const [x, out, sums] = [lab.floats(rows, k, withOutliers), lab.zeros(rows, n), lab.zeros(rows, n)];
    lab.product(out, x, weight, null, false, null, 1, rows);
    lab.accumulate(sums, x, back, null, null, 1, rows);
    const rounded = x.values.map((row) => [...toFloat32("f16", fromFloat32("f16", Float32Array.from(row)))]);
    const [product, accumulation] = [lab.read(out), lab.read(sums)];
    const lost = { product: 0, accumulation: 0, productRounded: 0, accumulationRounded: 0 };
    const columns = back.values[0]!.map((_, o) => back.values.map((row) => row[o]!));
    for (let r = 0; r < rows; r++)
      for (let o = 0; o < n; o++) {
        const [exact, once] = [x.values[r]!, rounded[r]!].map((v) => dot(v, weight.values[o]!)[0]);
        const [exactSum, onceSum] = [x.values[r]!, rounded[r]!].map((v) => dot(v, columns[o]!)[0]);
        lost.product += (product[r * n + o]! - exact!) ** 2;
        lost.accumulation += (accumulation[r * n + o]! - exactSum!) ** 2;
        lost.productRounded += (once! - exact!) ** 2;
        lost.accumulationRounded += (onceSum! - exactSum!) ** 2;
      }
    expect(lost.product).toBeLessThan(lost.productRounded);
    expect(lost.accumulation).toBeLessThan(lost.accumulationRounded);
    lab.dispose();
  });
}

/** Large enough for weights to be widened once for all rows; strands, tails and pieces of sets are in it. */
function exactness(instructionSet: InstructionSet): void {
  for (const [type, rows] of [
    ["f32", 26],
    ["f16", 15],
    ["bf16", 13],
  ] as const)
    for (const fill of ["none", "shared"])
      it(`${type}, ${fill === "none" ? "all units" : "a shared set"}: rows together get the bits that each has alone`, () => {
        const run = (threads: number, together: number): [number[], number[]] => {
          const lab = new Bench(instructionSet, threads, 9);
          const [n, k] = [540, 541];
          const [weight, back] = [lab.floats(n, k, (v) => v, type), lab.floats(n, k, (v) => v, type)];
          const [x, bias] = [lab.floats(rows, k, (v) => v), lab.floats(1, n)];
          const set = lab.set(n / 3, rows, fill);
          const some = lab.zeros(together, k);
          const results: [number[], number[]] = [[], []];
          for (let r = 0; r < rows; r += together) {
            const [part, sums] = [lab.zeros(together, n), lab.zeros(together, k)];
            const count = Math.min(together, rows - r);
            const values = x.tensor.view as Float32Array;
            (some.tensor.view as Float32Array).set(values.subarray(r * k, (r + count) * k));
            lab.product(part, some, weight, bias, true, set, 3, count);
            lab.accumulate(sums, part, back, null, set, 3, count);
            results[0].push(...lab.read(part).slice(0, count * n));
            results[1].push(...lab.read(sums).slice(0, count * k));
          }
          lab.dispose();
          return results;
        };
        const alone = run(1, 1);
        for (const [threads, together] of [
          [1, rows],
          [2, rows],
          [3, 7],
        ] as const) {
          const [product, accumulation] = run(threads, together);
          expectSame(product, alone[0]);
          expectSame(accumulation, alone[1]);
        }
      });
}

function available() {
  try {
    return nativeInstructionSets();
  } catch (error) {
    if (error instanceof NativeUnavailableError) return error.message;
    throw error;
  }
}

const found = available();
const sets = found.length === 0 ? "no instruction set here has a matrix unit" : found;
if (typeof sets === "string") describe.skip(`many-row products: ${sets}`, () => it("is skipped", () => {}));
else
  for (const instructionSet of sets)
    describe(`many-row products: ${instructionSet}`, () => {
      suite(instructionSet);
      accuracy(instructionSet);
      exactness(instructionSet);
    });
