/** `dejavu bench`: decoding speed, dense against sparse, with machine and settings above it. */
import { basename, resolve } from "node:path";
import { Option } from "commander";
import { type Bench, bench, interleave, pairedRatio, type Spread, spread } from "../../eval/bench.ts";
import { type BatchBench, benchBatch } from "../../eval/bench-batch.ts";
import { phases } from "../../kernels/contract.ts";
import { type Engine, load } from "../../load.ts";
import { denseSelector } from "../../sparsity/dense.ts";
import type { Selector, SelectorKind } from "../../sparsity/selector.ts";
import { UsageError } from "../../util/errors.ts";
import type { CommandSpec, Context } from "../command.ts";
import { chooseSelector, withEngine } from "../engine.ts";
import { count, gigabytesPerSecond, megabytes, percent, rate, times } from "../format.ts";
import { describeMachine, type Machine, machineText, readBandwidth } from "../machine.ts";
import { type CommonFlags, integer, type SelectorFlags, seedOption, selectorOptions } from "../options.ts";
import { renderTable } from "../table.ts";

interface Flags extends CommonFlags, SelectorFlags {
  readonly prompt: string;
  readonly tokens: number;
  readonly rounds: number;
  readonly seed?: number;
  readonly against?: "reference";
  readonly batch?: number;
}

/** Tokens and rounds on the reference backend, which may be a hundred times slower. */
const referenceTokens = 16;
const referenceRounds = 3;

interface Reference {
  readonly tokensPerSecond: Spread;
  /** This backend over the reference backend, dense, taken round by round. */
  readonly ratio: Spread;
}

interface BenchReport extends Bench {
  readonly machine: Machine;
  readonly model: {
    readonly name: string;
    readonly type: string;
    readonly parameters: number;
    readonly dtype: string;
    readonly bytes: number;
  };
  readonly threads: number;
  readonly selector: SelectorKind;
  /** GB/s; null where it cannot be measured. */
  readonly readBandwidth: number | null;
  readonly reference?: Reference;
  readonly batch?: BatchBench;
}

async function againstReference(context: Context, flags: Flags, engine: Engine): Promise<Reference> {
  const { output, signal } = context;
  const reference = await load(context.folder, { backend: "reference" });
  try {
    const options = {
      prompt: flags.prompt,
      tokens: Math.min(flags.tokens, referenceTokens),
      rounds: Math.min(flags.rounds, referenceRounds),
      onRound: (done: number, total: number) => output.progress.update("against reference", done, total),
      signal,
    };
    const contestants = [engine, reference].map((one) => ({ engine: one, selector: denseSelector }));
    const [own, slow] = (await interleave(contestants, options)).map((lap) => lap.tokensPerSecond);
    return { tokensPerSecond: spread(slow!), ratio: pairedRatio(own!, slow!) };
  } finally {
    reference.dispose();
  }
}

/** Prompts of the sequences in a batch, so that they do not all write the same story. */
const batchPrompts = [
  "Once upon a time",
  "One day,",
  "Tom",
  "The little dog",
  "Lily and her mom",
  "A big bear",
  "It was",
];

async function together(
  { output, signal }: Context,
  { tokens, rounds, prompt }: Flags,
  engine: Engine,
  selector: Selector,
  sequences: number,
): Promise<BatchBench> {
  const onRound = (done: number, total: number) => output.progress.update("batch rounds", done, total);
  const prompts = [prompt, ...batchPrompts];
  return benchBatch(engine, selector, { prompts, sequences, tokens, rounds, onRound, signal });
}

async function measure(context: Context, flags: Flags, engine: Engine): Promise<BenchReport> {
  const { output, signal } = context;
  const { model, kernels } = engine;
  const selector = await chooseSelector(
    engine,
    { ...flags, selector: flags.selector ?? "predicted" },
    flags.seed,
  );
  try {
    const { prompt, tokens, rounds } = flags;
    const onRound = (done: number, total: number) => output.progress.update("rounds", done, total);
    const result = await bench(engine, selector, { prompt, tokens, rounds, onRound, signal });
    const { parameters, dtype, bytes, shape } = model;
    return {
      machine: describeMachine(kernels),
      model: { name: basename(resolve(engine.folder)), type: shape.modelType, parameters, dtype, bytes },
      threads: kernels.threads,
      selector: selector.kind as SelectorKind,
      ...result,
      readBandwidth: readBandwidth(kernels),
      ...(flags.batch && { batch: await together(context, flags, engine, selector, flags.batch) }),
      ...(flags.against && { reference: await againstReference(context, flags, engine) }),
    };
  } finally {
    selector.dispose();
  }
}

const range = ({ p25, p75 }: Spread, format: (value: number) => string) => `${format(p25)} – ${format(p75)}`;

function speedTable(report: BenchReport, width: number): string {
  const { dense, sparse, speedup, readBandwidth: roof } = report;
  const ratio = (a: number, b: number) => percent(a / b);
  const rows = [
    [
      "tokens/s, median",
      rate(dense.tokensPerSecond.median),
      rate(sparse.tokensPerSecond.median),
      times(speedup.median),
    ],
    [
      "  quartiles",
      range(dense.tokensPerSecond, rate),
      range(sparse.tokensPerSecond, rate),
      range(speedup, times),
    ],
    [
      "weights read per token",
      megabytes(dense.bytesPerToken),
      megabytes(sparse.bytesPerToken),
      ratio(sparse.bytesPerToken, dense.bytesPerToken),
    ],
    [
      "read rate",
      gigabytesPerSecond(dense.gigabytesPerSecond),
      gigabytesPerSecond(sparse.gigabytesPerSecond),
      "",
    ],
  ];
  if (roof !== null)
    rows.push([
      `  of ${gigabytesPerSecond(roof)} from memory`,
      ratio(dense.gigabytesPerSecond, roof),
      ratio(sparse.gigabytesPerSecond, roof),
      "",
    ]);
  rows.push(
    ["MLP density", percent(1), percent(sparse.mlpDensity), ""],
    ["head density", percent(1), percent(sparse.headDensity), ""],
  );
  const titles = ["dense", report.selector, "ratio"].map((title) => ({ title }));
  return renderTable([{ title: "", align: "left" }, ...titles], rows, width);
}

function phaseTable({ dense, sparse, selector }: BenchReport, width: number): string {
  const total = (side: typeof dense) => phases.reduce((sum, phase) => sum + side.phases[phase], 0);
  const cell = (side: typeof dense, phase: (typeof phases)[number]) => [
    (side.phases[phase] * 1e6).toFixed(1),
    percent(side.phases[phase] / total(side)),
  ];
  const rows = phases.map((phase) => [phase, ...cell(dense, phase), ...cell(sparse, phase)]);
  const titles = ["dense", "share", selector, "share"].map((title) => ({ title }));
  return renderTable([{ title: "µs per token", align: "left" }, ...titles], rows, width);
}

/** Small weights never leave the caches; without a word, more than all of the memory's speed looks like a mistake. */
function cacheNote({ dense, sparse, readBandwidth: roof }: BenchReport): string {
  const fastest = Math.max(dense.gigabytesPerSecond, sparse.gigabytesPerSecond);
  if (roof === null || fastest <= roof) return "";
  return "Read rates above 100 % of memory's: these weights are small enough to stay in the caches.\n";
}

function batchTable({ sequences, one, dense, sparse }: BatchBench, selector: string, width: number): string {
  const row = (title: string, side: BatchBench["dense"]) => [
    title,
    rate(side.tokensPerSecond.median),
    range(side.tokensPerSecond, rate),
    times(side.overOne.median),
    percent(side.unionDensity),
  ];
  const rows = [
    ["one, dense", rate(one.tokensPerSecond.median), range(one.tokensPerSecond, rate), "", percent(1)],
    row(`${sequences} together, dense`, dense),
    row(`${sequences} together, ${selector}`, sparse),
  ];
  const titles = ["tokens/s", "quartiles", "over one", "neurons united"].map((title) => ({ title }));
  return renderTable([{ title: "sequences", align: "left" }, ...titles], rows, width);
}

function benchText(report: BenchReport, width: number): string {
  const { machine, model, threads, tokens, rounds, reference } = report;
  const lines = [
    machineText(machine),
    `${model.name}: ${model.type}, ${count(model.parameters)} parameters, ${model.dtype}, ${megabytes(model.bytes)}`,
    `threads: ${threads}; ${tokens} tokens a round, greedy; ${rounds} interleaved rounds after one to warm up`,
  ];
  const batch = report.batch === undefined ? "" : `\n${batchTable(report.batch, report.selector, width)}`;
  const tables = `${lines.join("\n")}\n\n${speedTable(report, width)}${cacheNote(report)}\n${phaseTable(report, width)}${batch}`;
  if (reference === undefined) return tables;
  const { tokensPerSecond, ratio } = reference;
  const against = `${rate(tokensPerSecond.median)} tokens/s dense; ${machine.backend} is ${times(ratio.median)} as fast (${range(ratio, times)})`;
  return `${tables}\nreference backend: ${against}\n`;
}

async function runBench(context: Context, flags: Flags): Promise<void> {
  if (flags.selector === "dense")
    throw new UsageError("--selector dense: dense is what the others are compared with; choose another");
  if (flags.against === "reference" && flags.backend === "reference")
    throw new UsageError(
      "--against reference compares another backend with it; leave out --backend reference",
    );
  await withEngine(context, flags, async (engine) => {
    const report = await measure(context, flags, engine);
    context.output.result(report, () => benchText(report, context.output.width));
  });
}

export const benchCommand: CommandSpec<Flags> = {
  name: "bench",
  summary: "Time decoding, dense against sparse",
  details:
    "Both decode in every round, in alternating order; the predictors' cost is inside. The speedup is taken round by round.",
  examples: [
    ["bench", "the bundled model, predicted against dense"],
    ["bench --tokens 256 --rounds 21 --threads 1", "steadier figures of one thread"],
    ["bench --selector oracle --mlp-density 0.1", "another selector; the oracle computes everything first"],
    ["bench --batch 8", "also eight sequences decoded together"],
    ["bench --against reference --json", "also the ratio to the reference backend"],
  ],
  options: [
    new Option("--tokens <n>", "tokens to generate in a round").argParser(integer(2)).default(128),
    new Option("--rounds <n>", "rounds counted").argParser(integer(1)).default(9),
    new Option("--prompt <text>", "text to continue").default("Once upon a time"),
    ...selectorOptions.map((option) =>
      option.long === "--selector"
        ? new Option("--selector <kind>", "what to compare with dense (default: predicted)").choices([
            ...option.argChoices!,
          ])
        : option,
    ),
    seedOption("the random selector (default: 0)"),
    new Option("--batch <n>", "also decode this many sequences together, dense and sparse").argParser(
      integer(2, 64),
    ),
    new Option(
      "--against <backend>",
      "also decode a few tokens densely on this backend, for the ratio",
    ).choices(["reference"]),
  ],
  run: runBench,
};
