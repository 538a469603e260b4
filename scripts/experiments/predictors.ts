/**
 * Experiments with predictors of neurons (docs/decisions/0006-predictor-experiments.md). Prints Markdown.
 *
 *   npx tsx scripts/experiments/predictors.ts --text FILE [--check FILE] [--rows N] [--layers 1,4,7] [--scales …] [--only sources,norm,…]
 */
import { parseArgs } from "node:util";
import { operatingPoint } from "../../src/train/operating-point.ts";
import { bits } from "./bits.ts";
import { cosines } from "./cosines.ts";
import { run } from "./forward.ts";
import { printTable, share } from "./markdown.ts";
import { type Baseline, compare, curveHeader, curveRow, densitiesAt } from "./report.ts";
import { curve, defaults, plansOf, type Settings, trainVariant, type Variant } from "./train-variant.ts";
import { densityAtWorth, plainLoss, worthLoss, worthOf } from "./variants.ts";
import { openWorkbench, type Workbench } from "./workbench.ts";

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    check: { type: "string" },
    rows: { type: "string", default: "12000" },
    layers: { type: "string", default: "1,4,7" },
    documents: { type: "string", default: "24" },
    rank: { type: "string", default: `${defaults.rank}` },
    epochs: { type: "string", default: `${defaults.epochs}` },
    scales: { type: "string", default: "0.5,0.75,1,1.5" },
    only: { type: "string", default: "cosines,sources,norm,relu,loss,recall,cut,bits" },
  },
});
if (values.text === undefined) throw new Error("--text FILE is needed");

const settings: Settings = { ...defaults, rank: Number(values.rank), epochs: Number(values.epochs) };
/** Densities at which curves are drawn, over those that the baseline needs for its recall; 1 must be among them. */
const scales = values.scales.split(",").map(Number);
const baselineVariant: Variant = { name: "baseline" };

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
  const topK = await curve(bench, scales, (s) => plansOf(baseline.trained, densitiesAt(baseline, s), "topK"));
  const rows = [curveRow("threshold", baseline.outcomes, baseline), curveRow("top-k", topK, baseline)];
  printTable("Threshold against top-k", curveHeader(baseline), rows);
}

/** Each layer cut at one recall: of active neurons by count, or of their worth. Which layers get more differs. */
async function recall(bench: Workbench, baseline: Baseline) {
  const weighted = await trainVariant(
    bench,
    loss.find(({ name }) => name === "positives by worth")!,
    settings,
  );
  const rows: string[][] = [];
  for (const [name, { variant, layers }] of [
    ["Deja Vu's loss", baseline.trained],
    ["positives by worth", weighted],
  ] as const)
    for (const by of ["count", "worth"] as const)
      for (const wanted of by === "count" ? [0.85, 0.9, 0.94, 0.97] : [0.95, 0.97, 0.98, 0.99, 0.995]) {
        const densities: number[] = [];
        for (const { layer, rows: problem, logits, active } of layers) {
          const worth = by === "worth" ? await worthOf(bench, layer) : null;
          densities.push(
            worth === null
              ? operatingPoint(logits, active, wanted).density
              : densityAtWorth(logits, problem, worth, wanted),
          );
        }
        const { bytes, kl, increase } = await run(bench, plansOf({ variant, layers }, densities));
        const perLayer = densities.map(share).join(", ");
        rows.push([
          name,
          `${share(wanted)} by ${by}`,
          perLayer,
          share(bytes),
          kl.toFixed(4),
          share(increase),
        ]);
      }
  printTable(
    "Cut by recall of neurons, or of worth",
    ["trained with", "recall", "densities", "MLP bytes", "KL", "perplexity"],
    rows,
  );
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
  const outcomes = await curve(bench, scales, (s) =>
    plansOf(
      trained,
      densities.map((d) => Math.min(1, d * s)),
    ),
  );
  const baseline: Baseline = { settings, scales, trained, densities, outcomes };
  const sections: Record<string, () => void | Promise<void>> = {
    cosines: () => cosines(bench),
    sources: () => sources(bench, baseline),
    norm: () => compare(bench, baseline, "Before and after the norm", norm),
    relu: () => compare(bench, baseline, "A ReLU between the products", relu),
    loss: () => compare(bench, baseline, "Weights of the loss", loss),
    recall: () => recall(bench, baseline),
    cut: () => cut(bench, baseline),
    bits: () => bits(bench, baseline),
  };
  for (const name of values.only.split(",")) await sections[name]!();
} finally {
  await bench.close();
}
