/**
 * What a mapped checkpoint costs to start, how much of it tokens need, and how fast they are beside tokens of the same
 * checkpoint read into memory: `npx tsx bench/mapped.ts --shape opt-6.7b`. Writes random weights in a published shape as
 * `dejavu quantize` writes them, opens them in fresh processes, decodes, and counts the pages of the file that were
 * touched. The file is deleted afterwards. Linux only: /proc tells the pages.
 * Options: --dtype, --layers, --tokens, --mlp-density, --head-density, --folder (where the file goes for a while), --json.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
import { type OptShapeName, optShape, optShapeNames } from "../src/models/opt-shapes.ts";
import { syntheticBytes } from "../src/models/opt-synthetic.ts";
import { openSynthetic } from "../src/synthetic.ts";
import { openSyntheticFolder } from "../src/synthetic-folder.ts";
import { type WeightDtype, weightDtypes } from "../src/tensor/dtype.ts";

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
  readonly isMapped: boolean;
  /** Null: only open the model. */
  readonly way: Way | null;
}
interface Outcome {
  /** Seconds from the kernels to the model, where that is all; predictors take time of their own. */
  readonly startSeconds: number | null;
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

async function start({ folder, isMapped }: Task): Promise<number> {
  const started = performance.now();
  const kernels = await openKernels({ backend: "native" });
  await openSyntheticFolder(kernels, folder, optShape(shape, layers), { dtype, isMapped });
  return (performance.now() - started) / 1000;
}

async function runChild(task: Task): Promise<Outcome> {
  const { folder, way } = task;
  const startSeconds = way === null ? await start(task) : null;
  const tokensPerSecond = way === null ? 0 : await decode(task, way);
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
async function decode({ folder, isMapped }: Task, way: Way): Promise<number> {
  const engine = await openSynthetic({ shape, dtype, layers, weights: folder, isMapped });
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
  const kernels = await openKernels({ backend: "native" });
  const onProgress = (done: number, total: number) => progress.update("writing weights", done, total);
  await openSyntheticFolder(kernels, folder, optShape(shape, layers), { dtype, onProgress });
  kernels.dispose();
  const file = join(folder, fileName);
  execFileSync("dd", [`if=${file}`, "of=/dev/null", "bs=16M", "status=none"]); // into the page cache, as far as it goes
}

interface Report {
  readonly shape: string;
  readonly dtype: string;
  readonly layers: number;
  readonly bytes: number;
  readonly tokens: number;
  readonly runs: readonly (Outcome & Task)[];
}

function reportText({ runs, ...of }: Report): string {
  const rows = runs.map((run) => [
    `${run.way ?? "opened only"}, ${run.isMapped ? "mapped" : "read"}`,
    run.startSeconds === null ? "–" : duration(run.startSeconds),
    ...(run.isMapped && run.way
      ? [megabytes(run.touchedBytes), percent(run.touchedBytes / of.bytes), megabytes(run.residentBytes)]
      : ["–", "–", "–"]),
    run.way ? rate(run.tokensPerSecond) : "–",
    megabytes(run.peakResidentBytes),
  ]);
  const touched = `touched by ${of.tokens} tokens`;
  const titles = ["ready after", touched, "of all", "with the prompt", "tokens/s", "peak of the process"];
  return [
    `${of.shape} (synthetic), ${of.layers} layers, ${of.dtype}: ${megabytes(of.bytes)} in one file`,
    "Fresh processes; the file is in the page cache, and mapped or read into memory (--no-mmap).",
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
    const ways = [null, "dense", "predicted"] as const;
    const tasks = ways.flatMap((way) => [true, false].map((isMapped) => ({ folder, isMapped, way })));
    const runs = tasks.map((task, i) => {
      progress.update("decoding", i, tasks.length);
      return { ...task, ...inProcess(task) };
    });
    progress.end();
    const config = optShape(shape, layers);
    const bytes = syntheticBytes(config, { dtype });
    const result = { shape, dtype, layers: config.num_hidden_layers, bytes, tokens, runs };
    console.log(values.json ? JSON.stringify(result) : reportText(result));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (values.child === undefined) await main();
else console.log(JSON.stringify(await runChild(JSON.parse(values.child))));
