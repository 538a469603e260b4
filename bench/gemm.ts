/**
 * Times products and accumulations of many rows, beside the exact tiles of the same machine: `npx tsx bench/gemm.ts --help`.
 * The instruction sets take turns, so that what disturbs one disturbs all; f32 and f16 have only the tiles. Figures are medians.
 */
import { cpus } from "node:os";
import type { NativeKernels } from "../src/kernels/native/kernels.ts";
import { type InstructionSet, nativeInstructionSets, openNative } from "../src/kernels/native/native.ts";
import type { WeightDtype } from "../src/tensor/dtype.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { listOf, readArguments } from "./arguments.ts";

const shapes = [
  { n: 8192, k: 2048 },
  { n: 2048, k: 8192 },
];
/** Copies of the weights that take turns, so that they come from memory. */
const copies = 3;

const usage = `npx tsx bench/gemm.ts [options]

  --types=bf16,int4   weights; default: all
  --rows=16,128       rows of x; default: 16,64,128,512
  --threads=1,2       default: 1,2
  --isa=amx,avx512    instruction sets; default: the best three
  --samples=9         calls of which the median is taken`;
const { values } = readArguments(usage, {
  types: { type: "string" },
  rows: { type: "string" },
  threads: { type: "string" },
  isa: { type: "string" },
  samples: { type: "string", default: "9" },
});
const types = listOf(values.types, ["f32", "f16", "bf16", "int8", "int4"]) as readonly WeightDtype[];
const rowCounts = listOf(values.rows, ["16", "64", "128", "512"]).map(Number);
const threadCounts = listOf(values.threads, ["1", "2"]).map(Number);
const sets = listOf(values.isa, nativeInstructionSets().slice(0, 3)) as readonly InstructionSet[];
const samples = Number(values.samples);

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

/** Small numbers of no meaning: bytes that are finite in every type. */
async function fill(kernels: NativeKernels, tensor: Tensor): Promise<Tensor> {
  await kernels.upload(tensor, (bytes) => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = 0x20 + ((i * 37) % 29);
  });
  return tensor;
}

/** One backend with its operands; `run` gives the seconds of a product and of an accumulation. */
async function subject(
  isa: InstructionSet,
  threads: number,
  type: WeightDtype,
  n: number,
  k: number,
  rows: number,
) {
  const kernels = openNative({ instructionSet: isa, threads });
  const weights: Tensor[] = [];
  for (let i = 0; i < copies; i++) weights.push(await fill(kernels, kernels.allocate(type, [n, k])));
  const [x, hidden] = [kernels.allocate("f32", [rows, k]), kernels.allocate("f32", [rows, n])];
  const pulse = new Float32Array(1);
  const time = async (op: () => void) => {
    const start = performance.now();
    op();
    await kernels.read(hidden, pulse);
    return (performance.now() - start) / 1000;
  };
  let turn = 0;
  return {
    kernels,
    async run(): Promise<[product: number, accumulate: number]> {
      const weight = weights[turn++ % copies]!;
      return [
        await time(() => kernels.product(hidden, 0, x, weight, null, "relu", null, 1, rows)),
        await time(() => kernels.accumulate(x, hidden, weight, null, null, 1, rows)),
      ];
    },
  };
}

async function compare(
  threads: number,
  type: WeightDtype,
  n: number,
  k: number,
  rows: number,
): Promise<void> {
  const subjects = await Promise.all(sets.map((isa) => subject(isa, threads, type, n, k, rows)));
  const times = subjects.map(() => [[], []] as [number[], number[]]);
  for (let i = 0; i <= samples; i++)
    for (const [s, one] of subjects.entries()) {
      const both = await one.run();
      if (i > 0) for (const [op, seconds] of both.entries()) times[s]![op]!.push(seconds);
    }
  const cells = times.map((ops, s) => {
    const rates = ops.map((seconds) => ((2 * n * k * rows) / median(seconds) / 1e9).toFixed(0));
    return `${sets[s]} ${rates.join(" / ")}`.padEnd(26);
  });
  console.log(
    `${type.padEnd(5)} ${n}x${k} ${String(rows).padStart(4)} rows, ${threads} threads: ${cells.join("")}`,
  );
  for (const one of subjects) one.kernels.dispose();
}

console.log(`${cpus()[0]?.model}, Node ${process.version}; GFLOP/s of product / accumulate\n`);
for (const type of types)
  for (const { n, k } of shapes)
    for (const threads of threadCounts)
      for (const rows of rowCounts) await compare(threads, type, n, k, rows);
