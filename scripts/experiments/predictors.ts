/**
 * Experiments with predictors of neurons (docs/decisions/0006-predictor-experiments.md). Prints Markdown.
 *
 *   npx tsx scripts/experiments/predictors.ts --text FILE [--check FILE] [--rows N] [--layers 1,4,7] [--only sources,norm,…]
 */
import { parseArgs } from "node:util";
import { cosines } from "./cosines.ts";
import { type Outcome, run } from "./forward.ts";
import { printTable, share } from "./markdown.ts";
import {
  bytesAt,
  curve,
  plansOf,
  type Settings,
  scales,
  type TrainedVariant,
  trainVariant,
  type Variant,
  withLogits,
} from "./train-variant.ts";
import { densityAtWorth, int8Bytes, plainLoss, throughInt8, worthLoss, worthOf } from "./variants.ts";
import { openWorkbench, type Workbench } from "./workbench.ts";

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    check: { type: "string" },
    rows: { type: "string", default: "12000" },
    layers: { type: "string", default: "1,4,7" },
    documents: { type: "string", default: "24" },
    rank: { type: "string", default: "32" },
    epochs: { type: "string", default: "6" },
    only: { type: "string", default: "cosines,sources,norm,relu,loss,cut,int8" },
  },
});
if (values.text === undefined) throw new Error("--text FILE is needed");

const settings: Settings = { rank: Number(values.rank), epochs: Number(values.epochs), recall: 0.94 };
const baselineVariant: Variant = { name: "baseline" };

/** What all variants are compared with: the predictor that `prepare` would train at this rank. */
interface Baseline {
  readonly trained: TrainedVariant;
  readonly densities: readonly number[];
  readonly outcomes: readonly Outcome[];
}

const densitiesAt = ({ densities }: Baseline, scale: number) => densities.map((d) => Math.min(1, d * scale));

function curveRow(name: string, outcomes: readonly Outcome[], baseline: Baseline): string[] {
  const reference = baseline.outcomes[scales.indexOf(1)]!;
  const points = outcomes.map(({ kl, bytes }) => `${kl.toFixed(4)} (${share(bytes)})`);
  const bytes = bytesAt(outcomes, reference.kl);
  return [name, ...points, Number.isNaN(bytes) ? "outside" : share(bytes)];
}

const curveHeader = [
  "predictor",
  ...scales.map((s) => `KL (MLP bytes) at ${s} × density`),
  "bytes at the baseline's KL",
];

/** Density per layer at the wanted recall, then the curve, of each variant. */
async function compare(bench: Workbench, baseline: Baseline, title: string, variants: readonly Variant[]) {
  const curves: string[][] = [curveRow("baseline", baseline.outcomes, baseline)];
  const points: string[][] = [await pointRow(bench, baseline.trained)];
  for (const variant of variants) {
    const trained = await trainVariant(bench, variant, settings);
    points.push(await pointRow(bench, trained));
    if (variant.tap === "residual-before-attention") continue;
    const outcomes = await curve(bench, (scale) => plansOf(trained, densitiesAt(baseline, scale)));
    curves.push(curveRow(variant.name, outcomes, baseline));
  }
  printTable(title, await pointHeader(bench), points);
  printTable("", curveHeader, curves);
}

const pointHeader = async ({ layers }: Workbench) => [
  "predictor",
  ...layers.map((l) => `layer ${l}: density at 94 % recall (MLP bytes); at 99 % of the worth`),
  "seconds",
];

async function pointRow(bench: Workbench, { variant, layers }: TrainedVariant): Promise<string[]> {
  const { perNeuron, perActive } = bench.engine.model.weightBytes;
  const cells: string[] = [];
  for (const { layer, point, logits, rows, parameters } of layers) {
    const atWorth = densityAtWorth(logits, rows, await worthOf(bench, layer), 0.99);
    const own = parameters.down!.length * 2 + parameters.up.length * 2 + parameters.bias.length * 4;
    const chosen = point.density * rows.units * (perNeuron + point.precision * perActive);
    const bytes = (own + chosen) / (rows.units * (perNeuron + perActive));
    cells.push(`${share(point.density)} (${share(bytes)}); ${share(atWorth)}`);
  }
  return [variant.name, ...cells, layers.reduce((sum, l) => sum + l.seconds, 0).toFixed(1)];
}

async function sources(bench: Workbench, baseline: Baseline) {
  const variants: Variant[] = [
    { name: "attention-input, start fc1", tap: "attention-input" },
    { name: "attention-input, start fc1 of the guess", tap: "attention-input", start: "mapped" },
    { name: "previous-block, start fc1", tap: "previous-block" },
    { name: "previous-block, start fc1 of the guess", tap: "previous-block", start: "mapped" },
  ];
  await compare(bench, baseline, "Sources", variants);
  const rows: string[][] = [];
  for (const variant of [baselineVariant, variants[1]!, variants[3]!]) {
    const trained = await trainVariant(bench, variant, settings);
    const outcome = await run(
      bench,
      plansOf(
        trained,
        trained.layers.map((l) => l.point.density),
      ),
    );
    const { density, bytes, increase, kl } = outcome;
    rows.push([variant.tap ?? "mlp-input", share(density), share(bytes), share(increase), kl.toFixed(4)]);
  }
  const header = ["source", "density", "MLP bytes", "perplexity", "KL"];
  printTable("Each source cut at 94 % recall, in the real forward", header, rows);
}

async function cut(bench: Workbench, baseline: Baseline) {
  const topK = await curve(bench, (s) => plansOf(baseline.trained, densitiesAt(baseline, s), "topK"));
  const rows = [curveRow("threshold", baseline.outcomes, baseline), curveRow("top-k", topK, baseline)];
  printTable("Threshold against top-k", curveHeader, rows);
}

async function int8(bench: Workbench, baseline: Baseline) {
  const rows = [curveRow(`rank ${settings.rank}, float16`, baseline.outcomes, baseline)];
  const points = [await pointRow(bench, baseline.trained)];
  for (const rank of [settings.rank, settings.rank * 2]) {
    const variant: Variant = { name: `rank ${rank}`, rank };
    const trained = rank === settings.rank ? baseline.trained : await trainVariant(bench, variant, settings);
    const rounded: TrainedVariant["layers"][number][] = [];
    for (const layer of trained.layers) {
      const { logits: _logits, point: _point, ...made } = layer;
      const parameters = throughInt8(made.parameters);
      rounded.push(await withLogits(bench, { ...made, parameters }, variant, settings.recall));
    }
    const small = { variant: { ...variant, name: `rank ${rank}, int8` }, layers: rounded };
    if (rank !== settings.rank) {
      points.push(await pointRow(bench, trained));
      const outcomes = await curve(bench, (s) => plansOf(trained, densitiesAt(baseline, s)));
      rows.push(curveRow(`rank ${rank}, float16`, outcomes, baseline));
    }
    points.push(await pointRow(bench, small));
    const outcomes = await curve(bench, (s) =>
      plansOf(small, densitiesAt(baseline, s), "threshold", int8Bytes),
    );
    rows.push(curveRow(small.variant.name, outcomes, baseline));
  }
  printTable("Weights in 8 bits (bytes per layer counted as float16)", await pointHeader(bench), points);
  printTable("", curveHeader, rows);
}

const norm: Variant[] = [
  { name: "residual before the norm, start fc1 of the guess", tap: "residual-before-mlp", start: "mapped" },
  { name: "the same from random", tap: "residual-before-mlp", start: "random" },
  { name: "mlp-input from random", start: "random" },
  { name: "attention-input, start fc1 of the guess", tap: "attention-input", start: "mapped" },
  { name: "residual before attention, same start", tap: "residual-before-attention", start: "mapped" },
];
const relu: Variant[] = [
  { name: "no ReLU, random start", start: "random" },
  { name: "ReLU, random start", start: "random", between: "relu" },
  { name: "ReLU, paired start of half the rank", start: "paired", between: "relu" },
];
const loss: Variant[] = [
  { name: "floor 0.1", floor: 0.1 },
  { name: "floor 0.3", floor: 0.3 },
  { name: "unweighted", loss: () => plainLoss },
  { name: "positives by √worth", loss: (worth) => worthLoss(worth, 0.005, 0.5) },
  { name: "positives by worth", loss: (worth) => worthLoss(worth, 0.005, 1) },
  { name: "positives by worth, floor 0.1", loss: (worth) => worthLoss(worth, 0.1, 1) },
];

const bench = await openWorkbench({
  text: values.text,
  check: values.check,
  rows: Number(values.rows),
  layers: values.layers.split(",").map(Number),
  checkDocuments: Number(values.documents),
});
try {
  const trained = await trainVariant(bench, baselineVariant, settings);
  const densities = trained.layers.map(({ point }) => point.density);
  const outcomes = await curve(bench, (s) =>
    plansOf(
      trained,
      densities.map((d) => Math.min(1, d * s)),
    ),
  );
  const baseline: Baseline = { trained, densities, outcomes };
  const sections: Record<string, () => void | Promise<void>> = {
    cosines: () => cosines(bench),
    sources: () => sources(bench, baseline),
    norm: () => compare(bench, baseline, "Before and after the norm", norm),
    relu: () => compare(bench, baseline, "A ReLU between the products", relu),
    loss: () => compare(bench, baseline, "Weights of the loss", loss),
    cut: () => cut(bench, baseline),
    int8: () => int8(bench, baseline),
  };
  for (const name of values.only.split(",")) await sections[name]!();
} finally {
  await bench.close();
}
