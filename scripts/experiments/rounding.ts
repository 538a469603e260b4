/**
 * What rules of rounding cost: weights are rounded by rows of the unit, as they lie in memory, and run in float32, so that nothing
 * but the rounding counts.
 *
 *     npx tsx scripts/experiments/rounding.ts --text valid.txt
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { readCorpus } from "../../src/eval/documents.ts";
import { score } from "../../src/eval/score.ts";
import { bundledModel, load } from "../../src/load.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { f16ToNumber, numberToF16 } from "../../src/tensor/dtype.ts";
import { int4Divisors } from "../../src/tensor/quantized.ts";
import { openWeights, type TensorData, writeSafetensors } from "../../src/weights/index.ts";
import { printTable } from "./markdown.ts";

const { values } = parseArgs({
  options: {
    text: { type: "string", multiple: true },
    documents: { type: "string", default: "325" },
    model: { type: "string", default: bundledModel },
  },
});

type Rule = (row: Float32Array) => Float32Array;

/** To nearest even, by the grain of float64. */
const nearest = (value: number): number => value + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

const int8: Rule = (row) => {
  const scale = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
  return scale === 0 ? row : row.map((value) => nearest(value / scale) * scale);
};

/** Blocks of 32, whose scale is that of least squared error among the largest value by each divisor. */
const int4 = (divisors: readonly number[]): Rule => {
  const block = (x: Float32Array): Float32Array => {
    const largest = x.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
    let best = { error: Number.POSITIVE_INFINITY, rounded: x };
    for (const divisor of divisors) {
      const scale = f16ToNumber(numberToF16(largest / divisor));
      const rounded = x.map((v) => (scale === 0 ? 0 : Math.min(Math.max(nearest(v / scale), -8), 7) * scale));
      const error = x.reduce((sum, value, i) => sum + (value - rounded[i]!) ** 2, 0);
      if (error < best.error) best = { error, rounded };
    }
    return best.rounded;
  };
  return (row) => {
    const rounded = new Float32Array(row.length);
    for (let c = 0; c < row.length; c += 32) rounded.set(block(row.subarray(c, c + 32)), c);
    return rounded;
  };
};

/** Rounds rows, or columns where those are the rows in memory. */
function roundMatrix(name: string, [rows, columns]: readonly number[], from: Float32Array, rule: Rule): void {
  const isTurned = /fc2|out_proj/.test(name);
  const [n, d] = isTurned ? [columns!, rows!] : [rows!, columns!];
  const at = (r: number, c: number) => (isTurned ? c * columns! + r : r * columns! + c);
  for (let r = 0; r < n; r++)
    rule(Float32Array.from({ length: d }, (_, c) => from[at(r, c)]!)).forEach((value, c) => {
      from[at(r, c)] = value;
    });
}

/** Writes the model, which must be in float16, with its matrices rounded. */
async function writeRounded(folder: string, matrices: Rule | null, tables: Rule | null): Promise<void> {
  const isWeights = (path: string) => path.endsWith(".safetensors");
  cpSync(values.model, folder, { recursive: true, filter: (path) => !isWeights(basename(path)) });
  const weights = await openWeights(values.model);
  const tensors: TensorData[] = [];
  for (const { name, shape, begin, end } of weights.tensors.values()) {
    const bytes = new Uint8Array(end - begin);
    await weights.read(name, bytes);
    const floats = Float32Array.from(new Uint16Array(bytes.buffer), f16ToNumber);
    const rule = /embed|lm_head/.test(name) ? tables : matrices;
    if (shape.length === 2 && rule !== null) roundMatrix(name, shape, floats, rule);
    tensors.push({ name, dtype: "F32", shape, data: new Uint8Array(floats.buffer) });
  }
  await weights.close();
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}

async function perplexity(matrices: Rule | null, tables: Rule | null): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "dejavu-rounding-"));
  try {
    await writeRounded(folder, matrices, tables);
    using engine = await load(folder, { backend: "native" });
    const { documents } = await readCorpus(values.text!, engine.tokenizer, {
      maxDocuments: Number(values.documents),
      maxLength: engine.model.shape.maxPositions,
    });
    return (await score(engine, documents, denseSelector)).perplexity;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (values.text === undefined) throw new Error("give --text FILE");
const largestOnly = int4([-8]);
const eight = int4(int4Divisors);
const fine = int4(
  Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? -1 : 1) * (5 + Math.floor(i / 2) * 0.3125)),
);
const variants: [string, Rule | null, Rule | null][] = [
  ["as stored", null, null],
  ["int8 throughout", int8, int8],
  ["int4 by the largest value, tables too", largestOnly, largestOnly],
  ["int4 of eight scales, tables too", eight, eight],
  ["int4 by the largest value, tables in int8", largestOnly, int8],
  ["int4 of eight scales, tables in int8", eight, int8],
  ["int4 of 32 scales, tables in int8", fine, int8],
  ["int4 of eight scales, tables as stored", eight, null],
];
const base = await perplexity(null, null);
const rows: string[][] = [];
for (const [name, matrices, tables] of variants) {
  const found = await perplexity(matrices, tables);
  rows.push([name, found.toFixed(4), `${((found / base - 1) * 100).toFixed(2)} %`]);
}
printTable("Perplexity of rounded weights", ["weights", "perplexity", "change"], rows);
