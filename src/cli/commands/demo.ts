/** `dejavu demo`, which `npm start` runs: what contextual sparsity is, in a few seconds. */
import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { type Bench, bench } from "../../eval/bench.ts";
import { score } from "../../eval/score.ts";
import { generateText } from "../../generate.ts";
import type { Engine } from "../../load.ts";
import { denseSelector } from "../../sparsity/dense.ts";
import type { Selector } from "../../sparsity/selector.ts";
import { version } from "../../util/version.ts";
import type { CommandSpec, Context } from "../command.ts";
import { readDocuments, sampleText, withEngine } from "../engine.ts";
import { change, count, megabytes, percent, perplexity, rate, times } from "../format.ts";
import { describeMachine, type Machine } from "../machine.ts";
import { type CommonFlags, qualityOption } from "../options.ts";
import { renderTable } from "../table.ts";

const prompt = "Once upon a time, there was a little";

/** What to type: `npm start` runs in a checkout, where no `dejavu` is installed. */
const program = process.env["npm_lifecycle_event"] === "start" ? "node bin/dejavu.js" : "dejavu";

/** How much work fits into the seconds that a newcomer waits. */
const work = {
  native: { tokens: 96, rounds: 15, documents: 12 },
  reference: { tokens: 16, rounds: 1, documents: 1 },
} as const;
type Work = (typeof work)[keyof typeof work];

interface Quality {
  readonly documents: number;
  readonly dense: number;
  readonly predicted: number;
}

interface Demo extends Bench {
  readonly machine: Machine;
  readonly model: string;
  readonly threads: number;
  readonly prompt: string;
  readonly text: { readonly dense: string; readonly predicted: string };
  /** Null if the model comes without a sample text. */
  readonly perplexity: Quality | null;
}

function header(engine: Engine, context: Context): string {
  const { model, kernels } = engine;
  const { colors } = context.output;
  const name = basename(resolve(engine.folder));
  const threads = kernels.threads === 1 ? "1 thread" : `${kernels.threads} threads`;
  const backend = `${kernels.name} backend (${kernels.instructionSet}), ${threads}`;
  return [
    `${colors.bold(`dejavu ${version}`)}: computes, for each token, only the heads and neurons that matter for it.\n`,
    `${name}: ${model.shape.modelType}, ${count(model.parameters)} parameters, ${megabytes(model.bytes)}; ${backend}\n`,
  ].join("");
}

async function tell(engine: Engine, selector: Selector, tokens: number, context: Context): Promise<string> {
  const { output, signal } = context;
  const title =
    selector.kind === "dense"
      ? "dense: everything is computed"
      : "predicted: small networks choose what to compute";
  output.write(`\n${output.colors.cyan(title)}\n${output.colors.dim(prompt)}`);
  const options = { prompt, selector, maxTokens: tokens, temperature: 0, signal };
  try {
    return (await generateText(engine, options, (text) => output.write(text))).text;
  } finally {
    output.write("\n");
  }
}

async function measureQuality(
  engine: Engine,
  selector: Selector,
  maxDocuments: number,
  { output, signal }: Context,
): Promise<Quality | null> {
  if (!existsSync(sampleText(engine.folder))) {
    output.note("The model comes without a sample text, so its perplexity is not shown.");
    return null;
  }
  const documents = await readDocuments(engine, undefined, maxDocuments);
  const onProgress = (done: number, total: number) =>
    output.progress.update("measuring quality", done, total, 1);
  const result = await score(engine, documents, selector, { onProgress, signal });
  return { documents: result.documents, dense: result.densePerplexity, predicted: result.perplexity };
}

async function show(engine: Engine, selector: Selector, amount: Work, context: Context): Promise<Demo> {
  const { output, signal } = context;
  const dense = await tell(engine, denseSelector, amount.tokens, context);
  const predicted = await tell(engine, selector, amount.tokens, context);
  output.write("\n");
  const onRound = (done: number, total: number) => output.progress.update("measuring speed", done, total, 1);
  const speed = await bench(engine, selector, { ...amount, prompt, onRound, signal });
  return {
    machine: describeMachine(engine.kernels),
    model: basename(resolve(engine.folder)),
    threads: engine.kernels.threads,
    prompt,
    text: { dense, predicted },
    ...speed,
    perplexity: await measureQuality(engine, selector, amount.documents, context),
  };
}

function demoText({ dense, sparse, speedup, perplexity: quality }: Demo, context: Context): string {
  const bytes = percent(sparse.bytesPerToken / dense.bytesPerToken);
  const rows = [
    [
      "tokens/s",
      rate(dense.tokensPerSecond.median),
      rate(sparse.tokensPerSecond.median),
      times(speedup.median),
    ],
    ["weights read per token", megabytes(dense.bytesPerToken), megabytes(sparse.bytesPerToken), bytes],
    ["MLP neurons computed", percent(1), percent(sparse.mlpDensity), ""],
    ["heads computed", percent(1), percent(sparse.headDensity), ""],
  ];
  if (quality !== null)
    rows.push([
      "perplexity",
      perplexity(quality.dense),
      perplexity(quality.predicted),
      change(quality.predicted, quality.dense, 2),
    ]);
  rows.push(["time spent on predicting", percent(0), percent(sparse.predictorShare), ""]);
  const titles = ["dense", "predicted", ""].map((title) => ({ title }));
  const next = [
    `${program} generate --prompt "The dog"       to write with a start of your own`,
    `${program} eval --compare 0.05,0.1,0.2       to see what the choice of neurons is worth`,
  ];
  const { width } = context.output;
  return `${renderTable([{ title: "", align: "left" }, ...titles], rows, width)}\nTry next:\n${next.map((line) => `  ${line}\n`).join("")}`;
}

interface Flags extends CommonFlags {
  readonly quality?: number;
}

async function runDemo(context: Context, flags: Flags): Promise<void> {
  const { output } = context;
  await withEngine(context, flags, async (engine) => {
    const selector = await engine.selector("predicted", { quality: flags.quality });
    try {
      const amount = work[engine.kernels.name];
      output.write(header(engine, context));
      if (engine.kernels.name === "reference")
        output.note("On the reference backend the demo does less: fewer tokens, one round, one document.");
      const demo = await show(engine, selector, amount, context);
      output.result(demo, () => demoText(demo, context));
    } finally {
      selector.dispose();
    }
  });
}

export const demoCommand: CommandSpec<Flags> = {
  name: "demo",
  summary: "Show what sparsity does: the same story dense and predicted, and what it costs and saves",
  examples: [
    ["demo", "a few seconds with the bundled model"],
    ["demo --threads 1", "on one core"],
    ["demo models/stories-4m --json", "the figures for a script"],
  ],
  options: [qualityOption],
  run: runDemo,
};
