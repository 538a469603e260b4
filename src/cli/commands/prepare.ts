/** `dejavu prepare`: makes the predictors of a model. */
import { access, constants } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Option } from "commander";
import type { Engine } from "../../load.ts";
import { type BundleMetadata, type HeadTarget, headTargets } from "../../sparsity/bundle.ts";
import { type PredictorKind, predictorKinds } from "../../sparsity/predictor.ts";
import { type Source, sources } from "../../sparsity/selector.ts";
import { parameterBytes } from "../../train/factors.ts";
import { prepare } from "../../train/prepare.ts";
import { type PrepareStage, resolveOptions } from "../../train/prepare-options.ts";
import { UsageError } from "../../util/errors.ts";
import type { CommandSpec, Context } from "../command.ts";
import { curveText, pointInUse } from "../curve-text.ts";
import { withEngine } from "../engine.ts";
import { change, megabytes, percent, perplexity } from "../format.ts";
import { type CommonFlags, decimal, integer, seedOption, share } from "../options.ts";
import { renderTable } from "../table.ts";

interface Flags extends CommonFlags {
  readonly text: string[];
  readonly out?: string;
  readonly capture?: string;
  readonly predictor: PredictorKind;
  readonly headTarget?: HeadTarget;
  readonly hidden?: number;
  readonly source?: Source;
  readonly rank?: number;
  readonly recall?: number;
  readonly maxPerplexityIncrease?: number;
  readonly curveRows: number;
  readonly headTolerance?: number;
  readonly rows: number;
  readonly epochs: number;
  readonly seed: number;
}

const defaults = resolveOptions({ texts: ["text"], out: "out" });

const stageNames: Record<PrepareStage, string> = {
  capture: "capturing activations",
  importance: "weighing heads",
  train: "training predictors",
  heads: "calibrating heads",
  check: "checking perplexity",
  layers: "measuring each layer",
  curve: "tracing the trade-off",
  uniform: "trying one density",
};

/** Minutes of training must not end in a folder that takes no file. */
async function checkWritable(file: string): Promise<void> {
  const folder = dirname(resolve(file));
  try {
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw new UsageError(`--out ${file}: no file can be written in ${folder}`, { cause });
  }
}

/** Bytes of the MLP that a token reads, as the search measured it, or as follows from calibration. */
function mlpBytes(metadata: BundleMetadata, engine: Engine): { dense: number; touched: number } {
  const { model, predictor, calibration, search } = metadata;
  const inUse = pointInUse(metadata);
  if (search !== null && inUse !== undefined)
    return { dense: search.dense.mlpBytesPerToken, touched: inUse.mlpBytesPerToken };
  const { perNeuron, perActive } = engine.model.weightBytes;
  const { layers, ffnDim, hiddenSize } = model;
  const touched = calibration.neurons.map(
    ({ density, precision }) => density * ffnDim * (perNeuron + precision * perActive),
  );
  const ranks = calibration.neurons.flatMap(({ rank, density }) => (density < 1 ? [rank] : []));
  // One predictor for all layers is one with the units of all of them.
  const predictors =
    predictor === "shadow"
      ? ranks.slice(0, 1).map((rank) => parameterBytes(rank, ranks.length * ffnDim, hiddenSize))
      : ranks.map((rank) => parameterBytes(rank, ffnDim, hiddenSize));
  return {
    dense: layers * ffnDim * (perNeuron + perActive),
    touched: [...touched, ...predictors].reduce((sum, bytes) => sum + bytes, 0),
  };
}

function layerTable({ model, sources, policy, calibration }: BundleMetadata, width: number): string {
  const rows = calibration.neurons.map(({ rank, density, recall, precision }, layer) => {
    const heads = policy.heads[layer]!;
    const isDense = policy.neurons[layer]!.kind === "dense";
    return [
      String(layer),
      isDense ? "dense" : sources.neurons,
      isDense ? "" : String(rank),
      percent(density),
      percent(recall),
      percent(precision),
      heads.kind === "topK" ? `${heads.k} of ${model.heads}` : `all ${model.heads}`,
    ];
  });
  const titles = ["rank", "density", "recall", "precision", "heads"].map((title) => ({ title }));
  return renderTable([{ title: "layer" }, { title: "source", align: "left" }, ...titles], rows, width);
}

function prepareText(metadata: BundleMetadata, file: string, engine: Engine, width: number): string {
  const { dense, predicted } = metadata.calibration.perplexity;
  const bytes = mlpBytes(metadata, engine);
  const saved = `${megabytes(bytes.dense)} dense, ${megabytes(bytes.touched)} predicted (${percent(bytes.touched / bytes.dense)})`;
  return [
    `${layerTable(metadata, width)}\n`,
    metadata.search === null ? "" : `${curveText(metadata, width)}\n`,
    `held-out perplexity: ${perplexity(dense)} dense, ${perplexity(predicted)} predicted (${change(predicted, dense, 2)})\n`,
    `MLP weights read per token: ${saved}\n`,
    metadata.policy.attention === "recover"
      ? "keys and values of skipped heads: computed when the head is next selected (recover)\n"
      : "",
    `written: ${file}\n`,
  ].join("");
}

async function runPrepare(context: Context, flags: Flags): Promise<void> {
  const { output, signal } = context;
  await withEngine(context, flags, async (engine) => {
    const { text, capture, predictor, headTarget, hidden, source, rank, rows, curveRows, epochs, seed } =
      flags;
    const { recall, headTolerance, maxPerplexityIncrease } = flags;
    const out = flags.out ?? engine.bundleFile;
    await checkWritable(out);
    const metadata = await prepare(engine, {
      texts: text,
      out,
      ...(capture !== undefined && { captureFolder: capture }),
      ...{ predictor, headTarget, hidden, source, rank },
      ...{ recall, headTolerance, maxPerplexityIncrease, rows, curveRows, epochs, seed },
      onProgress: (stage, done, total) => output.progress.update(stageNames[stage], done, total),
      signal,
    });
    output.result({ ...metadata, file: resolve(out) }, () =>
      prepareText(metadata, out, engine, output.width),
    );
  });
}

export const prepareCommand: CommandSpec<Flags> = {
  name: "prepare",
  summary: "Train and calibrate the predictors of a model",
  details:
    "Runs the model over text, trains predictors, decides how much to compute, and writes all of it to one file, whole or not at all.",
  examples: [
    ["prepare --text stories.txt", "a bundle for the bundled model"],
    ["prepare models/stories-4m --text a.txt b.txt --recall 0.97", "computes more, loses less"],
    ["prepare --text stories.txt --max-perplexity-increase 0.01", "at most 1 % more perplexity"],
    [
      "prepare --text stories.txt --source attention-input --out early.safetensors",
      "chooses half a block ahead",
    ],
    [
      "prepare --text stories.txt --predictor shadow --out shadow.safetensors",
      "one predictor for all layers",
    ],
  ],
  options: [
    new Option(
      "--text <file...>",
      "text like what the model will read, documents separated by <|endoftext|>",
    ).makeOptionMandatory(),
    new Option("--out <file>", "bundle to write (default: dejavu-bundle.safetensors in the model folder)"),
    new Option(
      "--predictor <kind>",
      "one for each layer, or one for all layers, which reads the first block (ShadowLLM's)",
    )
      .choices(predictorKinds)
      .default(defaults.predictor),
    new Option(
      "--head-target <worth>",
      "what per-layer predictors of heads learn: what the head means to the loss, or the norm of its output (default: importance, where the model has a backward pass)",
    ).choices(headTargets),
    new Option(
      "--hidden <n>",
      `hidden width of a predictor for all layers (default: ${defaults.hidden})`,
    ).argParser(integer(1, 16384)),
    new Option(
      "--source <tensor>",
      `what the per-layer predictors of neurons read (default: ${defaults.source})`,
    ).choices(sources),
    new Option(
      "--rank <r>",
      `largest rank tried; smaller ones are taken where they save more (default: ${defaults.rank})`,
    ).argParser(integer(1, 16384)),
    new Option(
      "--recall <share>",
      `share of the active neurons that must be computed (default: ${defaults.recall})`,
    ).argParser(share),
    new Option(
      "--max-perplexity-increase <share>",
      "perplexity that may be lost, like 0.01; a search then decides what each layer computes, with a predictor of which rank",
    )
      .argParser(share)
      .conflicts(["recall", "headTolerance"]),
    new Option("--curve-rows <n>", "held-out tokens for that search, half of them to report on")
      .argParser(integer(1000))
      .default(defaults.curveRows),
    new Option(
      "--head-tolerance <nats>",
      `divergence from the dense model that skipping heads in one layer may cause (default: ${defaults.headTolerance})`,
    ).argParser(decimal(0)),
    new Option("--rows <n>", "tokens to capture").argParser(integer(2000)).default(defaults.rows),
    new Option("--epochs <n>", "passes over the captured tokens")
      .argParser(integer(0, 1000))
      .default(defaults.epochs),
    new Option("--capture <folder>", "keep the captured activations here (default: removed after use)"),
    seedOption("training").default(defaults.seed),
  ],
  run: runPrepare,
};
