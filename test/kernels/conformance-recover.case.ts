/** Keys and values that are computed late: the same numbers as at their time, bit for bit, whatever was selected. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Recovery } from "../../src/kernels/contract.ts";
import { type FloatDtype, isQuantized, type WeightDtype } from "../../src/tensor/dtype.ts";
import { expectSame } from "../helpers/same.ts";
import { pageRows } from "./conformance-cache.case.ts";
import { type Filling, Lab, type Place, play } from "./lab.ts";
import { type Subject, seed } from "./subject.ts";

const capacity = 24;
const sequences = 3;

interface Shape {
  heads: number;
  headDim: number;
  d: number;
  refresh: number;
  window: number;
  page: number;
  type: WeightDtype;
  cacheType: FloatDtype;
  biased: boolean;
  /** Rows of a sequence in one step are at most this. */
  longest: number;
}

/**
 * Steps of some rows of some sequences, each with its own selection of heads; behind every step stand what there is to
 * say of the caches, and whether what they hold is what a dense product would have stored.
 */
async function steps(lab: Lab, shape: Shape): Promise<number[]> {
  const { heads, headDim, d, refresh, window, page, type, cacheType, biased } = shape;
  const k = lab.kernels;
  const width = heads * headDim;
  const [kWeight, vWeight] = [lab.random([width, d], type), lab.random([width, d], type)];
  const [kBias, vBias] = biased ? [lab.random([width]), lab.random([width])] : [null, null];
  const [first, cacheRows] = lab.places([], sequences, capacity, page);
  const cache = () => lab.random([cacheRows, width], cacheType);
  const [keys, values, denseKeys, denseValues] = [cache(), cache(), cache(), cache()];
  const recovery: Recovery = {
    inputs: k.allocate("f32", [sequences * window, k.recoveryColumns(type, d)]),
    filled: lab.integers([sequences, heads], new Array(sequences * heads).fill(0)),
    refresh,
    counts: lab.integers([2, 64], new Array(128).fill(-7)),
    slot: 1,
  };
  const pages = await lab.read(first.pages);
  const next = new Array<number>(sequences).fill(0);
  const told: number[] = [];
  for (let step = 0; step < 4; step++) {
    const places: Place[] = [];
    for (const sequence of [1, 0, 2]) {
      const room = Math.min(capacity - next[sequence]!, shape.longest);
      const count = step === 0 && sequence === 1 ? room : Math.floor(lab.next() * (room + 1));
      for (let i = 0; i < count; i++) places.push([sequence, next[sequence]!++]);
    }
    const rows = places.length;
    const placement = { ...lab.places(places, sequences, capacity, page)[0], pages: first.pages };
    const fill = (["none", "empty", "full", "random", "random"] as Filling[])[Math.floor(lab.next() * 5)]!;
    const set = lab.set(heads, rows, fill, lab.next() < 0.4);
    const x = lab.random([rows + 1, d]);
    // Beside another op of its input the work may wait for the join, but not the inputs that it still reads.
    const isForked = lab.next() < 0.5;
    const beside = lab.random([rows + 1, width]);
    if (isForked) k.fork();
    k.product(beside, 0, x, kWeight, kBias, "none", null, 1, rows);
    // biome-ignore format: an argument a line is too long
    k.recover(keys, values, x, kWeight, kBias, vWeight, vBias, set, headDim, recovery, placement, rows);
    if (isForked) k.join();
    if (lab.next() < 0.3) {
      // Once more, for other heads: those that are filled beyond a row have nothing to catch up with there.
      const other = lab.set(heads, rows, "random");
      // biome-ignore format: an argument a line is too long
      k.recover(keys, values, x, kWeight, kBias, vWeight, vBias, other, headDim, recovery, placement, rows);
    }
    const projected = lab.random([rows + 1, width]);
    const all = lab.set(width, rows, "full"); // a set for each row: exact, however many rows there are
    k.product(projected, 0, x, kWeight, kBias, "none", all, 1, rows);
    k.storeRows(denseKeys, projected, headDim, placement, rows);
    k.product(projected, 0, x, vWeight, vBias, "none", all, 1, rows);
    k.storeRows(denseValues, projected, headDim, placement, rows);

    const filled = await lab.read(recovery.filled);
    for (const [late, dense] of [
      [await lab.numbers(keys), await lab.numbers(denseKeys)],
      [await lab.numbers(values), await lab.numbers(denseValues)],
    ] as const) {
      filled.forEach((positions, i) => {
        const [sequence, head] = [Math.floor(i / heads), i % heads];
        for (let p = 0; p < positions; p++) {
          const page = pages[(sequence * pages.length) / sequences + Math.floor(p / first.pageRows)]!;
          const at = ((page * heads + head) * first.pageRows + (p % first.pageRows)) * headDim;
          expectSame(late.slice(at, at + headDim), dense.slice(at, at + headDim));
        }
      });
      told.push(...late);
    }
    told.push(...filled, ...(await lab.read(recovery.counts)));
    if (!isQuantized(type)) told.push(...(await lab.read(recovery.inputs))); // else in a form of the backend's own
  }
  return told;
}

export function recovery(subject: Subject): void {
  const { property, agree, dtype, cacheDtype, tolerance } = subject;

  const refreshAndWindow = fc.constantFrom<[number, number]>(
    [1, 1],
    [1, 5],
    [4, 4],
    [4, 7],
    [16, 16],
    [16, 64],
    [capacity + 8, capacity + 8], // never
  );
  property<
    [number, number, number, [number, number], number, number, WeightDtype, FloatDtype, boolean, number]
  >(
    "recover, over steps of several sequences",
    [
      fc.constantFrom(1, 3, 6),
      fc.constantFrom(1, 5, 17),
      fc.constantFrom(3, 17, 35),
      refreshAndWindow,
      pageRows,
      fc.constantFrom(1, 4, 13),
      dtype,
      cacheDtype,
      fc.boolean(),
      seed,
    ],
    (heads, headDim, d, [refresh, window], page, longest, type, cacheType, biased, s) => {
      const shape = { heads, headDim, d, refresh, window, page, longest, type, cacheType, biased };
      // Sums that differ in their last bits may be rounded to neighbours in f16.
      return agree(s, (lab) => steps(lab, shape), cacheType === "f16" ? 2 ** -10 : tolerance);
    },
    30,
  );

  it.runIf(subject.isThreaded)("recover: 1, 2 and 3 threads give the same bits", async () => {
    const sizes = { heads: 5, headDim: 33, d: 259, refresh: 16, window: 16, page: 3 };
    const shape = { ...sizes, cacheType: "f32", biased: true } as const;
    const backends = [1, 2, 3].map((threads) => subject.open(threads));
    for (const type of subject.types)
      for (const longest of [1, 13]) {
        const [one, two, three] = await Promise.all(
          backends.map((k) => play(k, 12, (lab) => steps(lab, { ...shape, longest, type }))),
        );
        expectSame(two!, one!);
        expectSame(three!, one!);
      }
    for (const backend of backends) backend.dispose();
  });

  it("recover counts what it reads of the weights, and never more than the window back", async () => {
    const lab = new Lab(subject.kernels, 1);
    const [weight, caches] = [lab.random([6, 4]), [lab.random([8, 6]), lab.random([8, 6])] as const];
    const placement = lab.places(
      Array.from({ length: 8 }, (_, p): Place => [0, p]),
      1,
      8,
      0,
    )[0];
    const recovery: Recovery = {
      inputs: lab.random([4, 4]),
      filled: lab.integers([1, 3], [0, 0, 0]),
      refresh: 4,
      counts: lab.integers([1, 8], new Array(8).fill(-7)),
      slot: 0,
    };
    const set = lab.integers([1, 3], [1, -7, -7]);
    const one = { units: 3, indices: set, counts: lab.integers([1, 1], [1]), slot: 0, shared: true };
    // biome-ignore format: an argument a line is too long
    subject.kernels.recover(...caches, lab.random([8, 4]), weight, null, weight, null, one, 2, recovery, placement, 6);
    expect(await lab.read(recovery.counts)).toEqual([1, 1, 1, 3, 1, 1, -7, -7]);
    expect(await lab.read(recovery.filled)).toEqual([4, 6, 4]);
    lab.free();
  });
}
