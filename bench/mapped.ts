/**
 * What a mapped checkpoint costs to start, and how much of it tokens need: `npx tsx bench/mapped.ts --shape opt-6.7b`.
 * Writes random weights in a published shape as `dejavu quantize` writes them, opens them in fresh processes, decodes,
 * and counts the pages of the file that were touched. The file is deleted afterwards. Linux only: /proc tells the pages.
 * Options: --dtype, --layers, --tokens, --mlp-density, --head-density, --folder (where the file goes for a while), --json.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { duration, megabytes, percent, rate } from "../src/cli/format.ts";
import { Progress } from "../src/cli/progress.ts";
import { renderTable } from "../src/cli/table.ts";
import { randomIds } from "../src/eval/bench-prompt.ts";
import { generate } from "../src/generate.ts";
import { openKernels } from "../src/kernels/open.ts";
import { loadOpt } from "../src/models/opt.ts";
import { type OptShapeName, optShape, optShapeNames } from "../src/models/opt-shapes.ts";
import { syntheticBytes, syntheticTensors } from "../src/models/opt-synthetic.ts";
import { RandomWeights } from "../src/models/random-weights.ts";
import { writePreparedWeights } from "../src/quantize.ts";
import { createRng } from "../src/sampling/rng.ts";
import { openSynthetic } from "../src/synthetic.ts";
import { type WeightDtype, weightDtypes } from "../src/tensor/dtype.ts";
import { openWeights } from "../src/weights/index.ts";

const text = (standard: string) => ({ type: "string", default: standard }) as const;
const { values } = parseArgs({
  options: {
    shape: text("opt-1.3b"),
    dtype: text("f16"),
    layers: { type: "string" },
    tokens: text("200"),
    "mlp-density": text("0.095"),
    "head-density": text("0.5"),
    folder: text(tmpdir()),
    json: { type: "boolean", default: false },
    child: { type: "string" }, // what a child process does, as JSON
  },
});
const [shape, dtype] = [values.shape as OptShapeName, values.dtype as WeightDtype];
const layers = values.layers === undefined ? undefined : Number(values.layers);
const tokens = Number(values.tokens);
const fileName = "model.safetensors";

type Way = "dense" | "predicted";
interface Task {
  readonly folder: string;
  /** Null: only open the model. */
  readonly way: Way | null;
}
interface Outcome {
  readonly startSeconds: number;
  /** Of the file's bytes those in pages that are mapped, and in pages that the tokens after the prompt touched. */
  readonly residentBytes: number;
  readonly touchedBytes: number;
  readonly tokensPerSecond: number;
  readonly peakResidentBytes: number;
}

/** Sums a field of this process's mappings of a file: `Rss`, `Referenced`. */
function mappedBytes(file: string, field: string): number {
  let [isOurs, bytes] = [false, 0];
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isOurs = line.endsWith(file);
    else if (isOurs && line.startsWith(`${field}:`)) bytes += Number(line.split(/\s+/)[1]) * 1024;
  }
  return bytes;
}

async function runChild({ folder, way }: Task): Promise<Outcome> {
  const started = performance.now();
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  let startSeconds = 0;
  const engine = await openSynthetic({
    shape,
    dtype,
    layers,
    async openModel(kernels) {
      const weights = await openWeights(folder);
      const model = await loadOpt(kernels, weights, config, "config.json");
      await weights.close();
      startSeconds = (performance.now() - started) / 1000;
      return model;
    },
  });
  const tokensPerSecond = way === null ? 0 : await decode(engine, way);
  const file = join(folder, fileName);
  return {
    startSeconds,
    residentBytes: mappedBytes(file, "Rss"),
    touchedBytes: mappedBytes(file, "Referenced"),
    tokensPerSecond,
    peakResidentBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** The prompt runs densely and touches all; what is counted starts after it. */
async function decode(engine: Awaited<ReturnType<typeof openSynthetic>>, way: Way): Promise<number> {
  const densities = {
    mlpDensity: Number(values["mlp-density"]),
    headDensity: Number(values["head-density"]),
  };
  const selector = await engine.selector(way, way === "dense" ? {} : densities);
  const prompt = randomIds(engine.model.shape.vocabSize, 1);
  const request = { prompt, selector, maxTokens: tokens + 1, temperature: 0, ignoreEos: true };
  const run = generate(engine, request);
  await run.next();
  writeFileSync("/proc/self/clear_refs", "1");
  let step = await run.next();
  while (!step.done) step = await run.next();
  return step.value.tokensPerSecond;
}

/** A process of its own. */
function inProcess(task: Task): Outcome {
  const self = fileURLToPath(import.meta.url);
  const own = [...process.argv.slice(2), "--child", JSON.stringify(task)];
  const args = ["--import", import.meta.resolve("tsx"), self, ...own];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`a child process failed:\n${stderr}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

async function write(folder: string, progress: Progress): Promise<void> {
  const config = optShape(shape, layers);
  const { bavail, bsize } = statfsSync(folder);
  const [free, needed] = [bavail * bsize, syntheticBytes(config, { dtype }) + 1e9];
  if (needed > free)
    throw new Error(
      `${folder} has ${megabytes(free)} free, ${megabytes(needed)} are needed: choose another --folder, or fewer --layers`,
    );
  const kernels = await openKernels({ backend: "native" });
  const rng = createRng(0);
  const checkpoint = syntheticTensors(new RandomWeights(kernels, () => rng.next()), config, { dtype });
  const onProgress = (done: number, total: number) => progress.update("writing weights", done, total);
  writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, model_type: "opt" }));
  const file = join(folder, fileName);
  await writePreparedWeights(kernels, checkpoint, "0".repeat(64), file, { dtype, onProgress });
  kernels.dispose();
  execFileSync("dd", [`if=${file}`, "of=/dev/null", "bs=16M", "status=none"]); // into the page cache, as far as it goes
}

interface Report {
  readonly shape: string;
  readonly dtype: string;
  readonly layers: number;
  readonly bytes: number;
  readonly tokens: number;
  /** Seconds, of three fresh processes with the file in the page cache. */
  readonly starts: readonly number[];
  readonly runs: readonly (Outcome & { readonly way: Way })[];
}

function reportText({ starts, runs, ...of }: Report): string {
  const rows = runs.map((run) => [
    run.way,
    megabytes(run.touchedBytes),
    percent(run.touchedBytes / of.bytes),
    megabytes(run.residentBytes),
    rate(run.tokensPerSecond),
    megabytes(run.peakResidentBytes),
  ]);
  const touched = `touched by ${of.tokens} tokens`;
  const titles = [touched, "of all", "mapped, with the prompt", "tokens/s", "peak of the process"];
  return [
    `${of.shape} (synthetic), ${of.layers} layers, ${of.dtype}: ${megabytes(of.bytes)} in one file`,
    `ready after ${starts.map(duration).join(", ")}: three fresh processes, file in the page cache`,
    "",
    renderTable([{ title: "", align: "left" }, ...titles.map((title) => ({ title }))], rows, 120),
    "Touched: pages of the file that were read after the prompt, which runs densely and reads all. The rest may leave",
    "memory without a token missing it. A page (4 KiB here) is the least that can be told apart: a row brings parts of its",
    "neighbours. Which rows random weights select differs from token to token more than trained ones'.",
  ].join("\n");
}

async function main(): Promise<void> {
  if (!existsSync("/proc/self/clear_refs"))
    throw new Error("this system does not tell which pages were touched: Linux is needed");
  if (!optShapeNames.includes(shape)) throw new Error(`--shape ${shape}: use ${optShapeNames.join(", ")}`);
  if (!weightDtypes.includes(dtype)) throw new Error(`--dtype ${dtype}: use ${weightDtypes.join(", ")}`);
  const progress = new Progress(process.stderr, true);
  const folder = mkdtempSync(join(values.folder, "dejavu-mapped-"));
  try {
    await write(folder, progress);
    const starts = [1, 2, 3].map((run) => {
      progress.update("starting", run, 3);
      return inProcess({ folder, way: null }).startSeconds;
    });
    const runs = (["dense", "predicted"] as const).map((way, i) => {
      progress.update("decoding", i, 2);
      return { way, ...inProcess({ folder, way }) };
    });
    progress.end();
    const config = optShape(shape, layers);
    const bytes = syntheticBytes(config, { dtype });
    const result = { shape, dtype, layers: config.num_hidden_layers, bytes, tokens, starts, runs };
    console.log(values.json ? JSON.stringify(result) : reportText(result));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (values.child === undefined) await main();
else console.log(JSON.stringify(await runChild(JSON.parse(values.child))));
