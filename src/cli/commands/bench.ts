/** `dejavu bench`: decoding speed, dense against sparse, with machine and settings above it. */
import { basename, resolve } from "node:path";
import { Option } from "commander";
import { bench, interleave, pairedRatio, spread } from "../../eval/bench.ts";
import { type BatchBench, benchBatch } from "../../eval/bench-batch.ts";
import { benchPrompts, randomIds } from "../../eval/bench-prompt.ts";
import { type Engine, load } from "../../load.ts";
import { type OptShapeName, optShapeNames, publishedLayers } from "../../models/opt-shapes.ts";
import { denseSelector } from "../../sparsity/dense.ts";
import type { Selector, SelectorKind } from "../../sparsity/selector.ts";
import { openSynthetic } from "../../synthetic.ts";
import { type WeightDtype, weightDtypes } from "../../tensor/dtype.ts";
import { UsageError } from "../../util/errors.ts";
import { type BenchReport, benchText, type Reference } from "../bench-report.ts";
import type { CommandSpec, Context } from "../command.ts";
import { chooseSelector, withEngine } from "../engine.ts";
import { describeMachine, readBandwidth } from "../machine.ts";
import {
  type CommonFlags,
  integer,
  integers,
  type SelectorFlags,
  seedOption,
  selectorOptions,
} from "../options.ts";

interface Flags extends CommonFlags, SelectorFlags {
  readonly prompt: string;
  readonly tokens: number;
  readonly rounds: number;
  readonly seed?: number;
  readonly against?: "reference";
  readonly batch?: number;
  readonly promptTokens?: readonly number[];
  readonly shape?: OptShapeName;
  readonly layers?: number;
  readonly predictorDtype?: WeightDtype;
  readonly weights?: string;
}

/** Ids of the prompt that a synthetic model goes on from. */
const syntheticPrompt = 16;

/** Tokens and rounds on the reference backend, which may be a hundred times slower. */
const referenceTokens = 16;
const referenceRounds = 3;

async function againstReference(context: Context, flags: Flags, engine: Engine): Promise<Reference> {
  const { output, signal } = context;
  const reference = await load(context.folder, {
    backend: "reference",
    dtype: flags.dtype,
    tables: flags.tables,
  });
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
  { tokens, rounds }: Flags,
  prompt: string | readonly number[],
  engine: Engine,
  selector: Selector,
  sequences: number,
): Promise<BatchBench> {
  const onRound = (done: number, total: number) => output.progress.update("batch rounds", done, total);
  const { vocabSize } = engine.model.shape;
  const prompts =
    typeof prompt === "string"
      ? [prompt, ...batchPrompts]
      : Array.from({ length: sequences }, (_, s) => randomIds(vocabSize, syntheticPrompt, s));
  return benchBatch(engine, selector, { prompts, sequences, tokens, rounds, onRound, signal });
}

async function measure(
  context: Context,
  flags: Flags,
  engine: Engine,
  startSeconds: number,
): Promise<BenchReport> {
  const { output, signal } = context;
  const { model, kernels } = engine;
  const selector = await chooseSelector(
    engine,
    { ...flags, selector: flags.selector ?? "predicted" },
    flags.seed,
  );
  const { tokens, rounds, promptTokens, shape } = flags;
  const progress = (what: string) => (done: number, total: number) =>
    output.progress.update(what, done, total);
  const prompt = shape ? randomIds(model.shape.vocabSize, syntheticPrompt) : flags.prompt;
  const probe = kernels.name === "native" ? () => readBandwidth(kernels)! : undefined;
  try {
    const options = { prompt, tokens, rounds, probe, onRound: progress("rounds"), signal };
    const result = await bench(engine, selector, options);
    const { parameters, dtype, tables, bytes } = model;
    const name = shape ?? basename(resolve(engine.folder));
    const lengths = promptTokens && { lengths: promptTokens, rounds, onRound: progress("prompts"), signal };
    return {
      machine: describeMachine(kernels),
      model: { name, type: model.shape.modelType, parameters, dtype, tables, bytes },
      ...(shape && {
        synthetic: { layers: model.shape.layers, publishedLayers: publishedLayers(shape) },
      }),
      startSeconds,
      threads: kernels.threads,
      selector: selector.kind as SelectorKind,
      ...result,
      ...(lengths && { prompts: await benchPrompts(engine, lengths) }),
      ...(flags.batch && { batch: await together(context, flags, prompt, engine, selector, flags.batch) }),
      ...(flags.against && { reference: await againstReference(context, flags, engine) }),
      peakResidentBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    selector.dispose();
  }
}

/** Opens the synthetic model asked for, hands it to `body` and disposes of it. */
async function withSynthetic(
  { output, signal }: Context,
  flags: Flags & { shape: OptShapeName },
  body: (engine: Engine) => Promise<void>,
): Promise<void> {
  const { shape, layers, dtype = "f16", tables, predictorDtype, backend, threads, hugePages } = flags;
  const engine = await openSynthetic({
    ...{ shape, layers, dtype, tables, predictorDtype, backend, threads, hugePages, signal },
    weights: flags.weights,
    isMapped: flags.mmap,
    onNotice: (sentence) => output.note(sentence),
    onProgress: (done, total) => output.progress.update("making weights", done, total),
  });
  try {
    await body(engine);
  } finally {
    engine.dispose();
  }
}

async function runBench(context: Context, flags: Flags): Promise<void> {
  if (flags.selector === "dense")
    throw new UsageError("--selector dense: dense is what the others are compared with; choose another");
  if (flags.shape === undefined && flags.layers !== undefined)
    throw new UsageError(`--layers ${flags.layers}: goes with --shape, whose layers it limits`);
  if (flags.shape === undefined && flags.weights !== undefined)
    throw new UsageError(`--weights ${flags.weights}: goes with --shape, for random weights`);
  if (flags.shape !== undefined && flags.against !== undefined)
    throw new UsageError("--against reference: a synthetic model takes minutes a token there");
  if (flags.against === "reference" && flags.backend === "reference")
    throw new UsageError(
      "--against reference compares another backend with it; leave out --backend reference",
    );
  const { shape } = flags;
  const started = performance.now();
  const body = async (engine: Engine) => {
    const report = await measure(context, flags, engine, (performance.now() - started) / 1000);
    context.output.result(report, () => benchText(report, context.output.width));
  };
  if (shape === undefined) await withEngine(context, flags, body);
  else await withSynthetic(context, { ...flags, shape }, body);
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
    [
      "bench --shape opt-1.3b --dtype f16 --mlp-density 0.095 --head-density 0.5 --tokens 32 --rounds 5",
      "a large shape, at the densities published for such models",
    ],
    [
      "bench --shape opt-1.3b --dtype int4 --tables int4 --mlp-density 0.095 --head-density 0.5",
      "all of it in four bits",
    ],
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
    new Option("--prompt-tokens <n,...>", "also time reading prompts of so many random ids").argParser(
      integers(1),
    ),
    new Option(
      "--shape <name>",
      "time random weights in a published shape instead of a model, with predictors of their real size",
    ).choices(optShapeNames),
    new Option("--layers <n>", "with --shape: only so many of its layers").argParser(integer(1, 1024)),
    new Option(
      "--predictor-dtype <type>",
      "with --shape: format of the predictors (default: int4 with int4 weights, else int8)",
    ).choices(weightDtypes),
    new Option(
      "--weights <folder>",
      "with --shape: use weights in a file, as those of a quantized model are; written first where there is no such folder",
    ),
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
