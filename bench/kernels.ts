/**
 * Times the kernels of the native backend beside the read bandwidth of the same threads: `npx tsx bench/kernels.ts --help`.
 * Weights are copied until they exceed the caches and the copies take turns, unless the shape fits in a cache anyway.
 */
import { cpus } from "node:os";
import type { ActiveSet, Kernels, Placement, Recovery } from "../src/kernels/contract.ts";
import { type InstructionSet, openNative } from "../src/kernels/native/native.ts";
import { measureReadBandwidth } from "../src/kernels/native/probe.ts";
import { RandomWeights } from "../src/models/random-weights.ts";
import { type WeightDtype, weightDtypes } from "../src/tensor/dtype.ts";
import { byteLength, type Tensor } from "../src/tensor/tensor.ts";
import { listOf, readArguments } from "./arguments.ts";

const shapes = [
  { name: "tiny", d: 192, n: 768, spread: 0 },
  { name: "medium", d: 2048, n: 8192, spread: 512e6 },
  { name: "large", d: 4096, n: 16384, spread: 512e6 },
];
const samples = 9;
const secondsPerSample = 0.03;

const usage = `npx tsx bench/kernels.ts [part of a shape's name: tiny, medium, large, small] [options]

  --threads=N        default: all cores
  --isa=NAME         instruction set; default: the best
  --types=f16,int4   weights; default: all
  --only=memory      nothing but ops of one row of x, beside the speed of memory
  --no-huge-pages    keep weights out of large pages

npx tsx bench/kernels.ts medium --types=int4 --only=memory --threads=2`;
const { values, positionals: wanted } = readArguments(
  usage,
  {
    threads: { type: "string" },
    isa: { type: "string" },
    types: { type: "string" },
    only: { type: "string" },
    "no-huge-pages": { type: "boolean" },
  },
  true,
);
const { threads, only } = values;
const isa = values.isa as InstructionSet | undefined;
const kernels = openNative({
  ...(threads ? { threads: Number(threads) } : {}),
  ...(isa ? { instructionSet: isa } : {}),
  hugePages: !values["no-huge-pages"],
});
const dtypes = listOf(values.types, weightDtypes) as readonly WeightDtype[];
const weights = new RandomWeights(kernels, Math.random);
const flushed = new Float32Array(1);
const pulse = kernels.allocate("f32", [1]);

/** Median and quartiles of the seconds that one call takes, over samples of many calls. */
async function time(call: (turn: number) => void): Promise<[low: number, median: number, high: number]> {
  let turn = 0;
  const run = async (count: number) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) call(turn++);
    await kernels.read(pulse, flushed);
    return (performance.now() - start) / 1000 / count;
  };
  const first = Math.min(await run(1), await run(3));
  const count = Math.max(1, Math.round(secondsPerSample / first));
  await run(count);
  const times: number[] = [];
  for (let i = 0; i < samples; i++) times.push(await run(count));
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.round(share * (samples - 1))]!;
  return [at(0.25), at(0.5), at(0.75)];
}

const random = (shape: readonly [number, number], dtype: WeightDtype = "f32"): Promise<Tensor> =>
  weights.matrix(dtype, ...shape);

function randomSet(units: number, density: number): ActiveSet {
  const chosen = new Set<number>();
  while (chosen.size < Math.round(units * density)) chosen.add(Math.floor(Math.random() * units));
  const set: ActiveSet = {
    units,
    indices: kernels.allocate("i32", [1, units]),
    counts: kernels.allocate("i32", [1, 1]),
    slot: 0,
  };
  kernels.write(
    set.indices,
    Int32Array.from(chosen).sort((a, b) => a - b),
  );
  kernels.write(set.counts, Int32Array.of(chosen.size));
  return set;
}

function report(what: string, times: readonly number[], amount: number, unit: string, roof?: number): void {
  const rates = times.map((t) => amount / t / 1e9);
  const share = roof ? `${(rates[1]! / roof).toFixed(2)} of read` : "";
  const spread = `${rates[2]!.toFixed(1)} … ${rates[0]!.toFixed(1)}`;
  console.log(
    `${what.padEnd(34)} ${(times[1]! * 1e6).toFixed(2).padStart(10)} µs ${rates[1]!.toFixed(1).padStart(7)} ${unit} (${spread}) ${share}`,
  );
}

/** One row of x. Of sparse products every turn takes another set, until the rows taken exceed the caches too. */
async function memoryBound(shape: (typeof shapes)[number], dtype: WeightDtype): Promise<void> {
  const { d, n, spread } = shape;
  const bytes = byteLength({ dtype, shape: [n, d] });
  const copies: Tensor[] = [];
  do copies.push(await random([n, d], dtype));
  while (copies.length * bytes < spread);
  const [x, hidden] = [await random([1, d]), await random([1, n])];
  const sums = await random([1, d]);
  for (const density of [1, 0.1, 0.25, 0.5]) {
    const count = density < 1 ? (spread ? Math.ceil(1 / density) : 1) : 0;
    const sets = Array.from({ length: count }, () => randomSet(n, density));
    const setOf = (turn: number) => sets[Math.floor(turn / copies.length) % sets.length] ?? null;
    const share = density < 1 ? `${density * 100} %` : "dense";
    const roof = spread ? measureReadBandwidth(kernels) : undefined;
    const product = await time((turn) =>
      kernels.product(hidden, 0, x, copies[turn % copies.length]!, null, "relu", setOf(turn), 1, 1),
    );
    report(`${shape.name} product ${dtype} ${share}`, product, bytes * density, "GB/s", roof);
    const accumulate = await time((turn) =>
      kernels.accumulate(sums, hidden, copies[turn % copies.length]!, null, setOf(turn), 1, 1),
    );
    report(`${shape.name} accumulate ${dtype} ${share}`, accumulate, bytes * density, "GB/s", roof);
  }
  for (const copy of copies) kernels.free(copy);
}

/** Rows that are computed together: all of the weights, or a quarter of them for all rows. */
async function manyRows(
  shape: (typeof shapes)[number],
  dtype: WeightDtype,
  rows: number,
  density = 1,
): Promise<void> {
  const { d, n } = shape;
  const weight = await random([n, d], dtype);
  const [x, hidden] = [await random([rows, d]), await random([rows, n])];
  const set = density < 1 ? { ...randomSet(n, density), shared: true } : null;
  const title = `${rows} rows${set ? ` ${density * 100} %` : ""}`;
  const flops = 2 * d * n * rows * density;
  const product = await time(() => kernels.product(hidden, 0, x, weight, null, "relu", set, 1, rows));
  report(`${shape.name} product ${dtype} ${title}`, product, flops, "GFLOP/s");
  const accumulate = await time(() => kernels.accumulate(x, hidden, weight, null, set, 1, rows));
  report(`${shape.name} accumulate ${dtype} ${title}`, accumulate, flops, "GFLOP/s");
  for (const tensor of [weight, x, hidden]) kernels.free(tensor);
}

/** Rows in one sequence from `first` on, in pages of `pageRows`. */
function oneSequence(first: number, rows: number, capacity: number, pageRows: number): Placement {
  const integers = (shape: number[], values: number[]) => {
    const tensor = kernels.allocate("i32", shape);
    kernels.write(tensor, Int32Array.from(values));
    return tensor;
  };
  const pages = Array.from({ length: Math.ceil(capacity / pageRows) }, (_, i) => i);
  return {
    sequences: integers([rows], new Array(rows).fill(0)),
    positions: integers(
      [rows],
      Array.from({ length: rows }, (_, r) => first + r),
    ),
    pages: integers([1, pages.length], pages),
    pageRows,
  };
}

/** Keys and values of all heads, computed by `recover` and by two plain products. */
async function caching(shape: (typeof shapes)[number], dtype: WeightDtype, rows: number): Promise<void> {
  const { d } = shape;
  const heads = d / 64;
  const [keyWeight, valueWeight] = [await random([d, d], dtype), await random([d, d], dtype)];
  const [keys, values] = [await random([rows, d]), await random([rows, d])];
  const [x, projected] = [await random([rows, d]), await random([rows, d])];
  const recovery: Recovery = {
    inputs: await random([16, d]),
    filled: kernels.allocate("i32", [1, heads]),
    refresh: 16,
    counts: kernels.allocate("i32", [1, rows]),
    slot: 0,
  };
  const placement = oneSequence(0, rows, rows, rows);
  const empty = new Int32Array(heads);
  const flops = 4 * d * d * rows;
  const late = await time(() => {
    kernels.write(recovery.filled, empty);
    // biome-ignore format: an argument a line is too long
    kernels.recover(keys, values, x, keyWeight, null, valueWeight, null, null, 64, recovery, placement, rows);
  });
  report(`${shape.name} recover ${dtype} ${rows} rows`, late, flops, "GFLOP/s");
  const plain = await time(() => {
    kernels.write(recovery.filled, empty);
    kernels.product(projected, 0, x, keyWeight, null, "none", null, 1, rows);
    kernels.storeRows(keys, projected, 64, placement, rows);
    kernels.product(projected, 0, x, valueWeight, null, "none", null, 1, rows);
    kernels.storeRows(values, projected, 64, placement, rows);
  });
  report(`${shape.name} two products ${dtype} ${rows} rows`, plain, flops, "GFLOP/s");
  for (const tensor of [keyWeight, valueWeight, keys, values, x, projected]) kernels.free(tensor);
}

/** The ops that are small beside the matrices, at the tiny model's and a usual model's sizes. */
async function smallOps(k: Kernels): Promise<void> {
  const line = async (what: string, bytes: number, call: () => void) =>
    report(what, await time(call), bytes, "GB/s");
  for (const [d, n, heads, seen] of [
    [192, 768, 6, 128],
    [4096, 16384, 32, 1024],
  ] as const) {
    const [x, y, scores] = [await random([1, d]), await random([1, d]), await random([1, n])];
    const [keys, values, norm] = [await random([seen, d]), await random([seen, d]), await random([1, d])];
    const weight = k.allocate("f32", [d]);
    const [set, refined] = [randomSet(n, 0), randomSet(n, 0)];
    const best = k.allocate("i32", [1]);
    k.write(weight, Float32Array.from({ length: d }, Math.random));
    await line(`copyRows ${d}`, d * 8, () => k.copyRows(y, 0, x, 0, 1));
    await line(`layerNorm ${d}`, d * 16, () => k.layerNorm(y, x, weight, weight, 1e-5, 1));
    for (const pageRows of [seen, 16]) {
      const placement = oneSequence(seen - 1, 1, seen, pageRows);
      await line(`attention ${heads} heads, ${seen} seen, pages of ${pageRows}`, seen * d * 8, () =>
        k.attention(y, x, keys, values, null, d / heads, placement, 1),
      );
    }
    await line(`selectThreshold ${n}`, n * 4, () => k.selectThreshold(set, scores, 0.25, 1));
    await line(`refine ${n}`, n * 4, () => k.refine(refined, set, scores, 1));
    await line(`selectTopK ${n}, a quarter`, n * 4, () => k.selectTopK(set, scores, n / 4, 1));
    await line(`logSoftmax ${n}`, n * 8, () => k.logSoftmax(scores, scores, 1));
    await line(`argmax ${n}`, n * 4, () => k.argmax(best, scores, 1));
    for (const tensor of [x, y, scores, keys, values, norm, weight]) k.free(tensor);
  }
}

console.log(
  `${cpus()[0]?.model}, ${kernels.threads} threads, ${kernels.instructionSet}, Node ${process.version}`,
);
console.log("median (quartiles) of one call\n");
for (const shape of shapes) {
  if (wanted.length > 0 && !wanted.some((part) => shape.name.includes(part))) continue;
  for (const dtype of dtypes) await memoryBound(shape, dtype);
  if (shape.name === "large" || only === "memory") continue;
  for (const dtype of dtypes) {
    for (const rows of [64, 512]) await manyRows(shape, dtype, rows);
    for (const density of [1, 0.25]) await manyRows(shape, dtype, 8, density);
    for (const rows of [1, 8, 64]) await caching(shape, dtype, rows);
  }
}
if (only !== "memory" && (wanted.length === 0 || wanted.includes("small"))) await smallOps(kernels);
kernels.dispose();
