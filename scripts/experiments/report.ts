/** Tables of variants: what each costs at a recall, and its curve of divergence over bytes beside the baseline's. */
import { halfBytes, type Outcome } from "./forward.ts";
import { printTable, share } from "./markdown.ts";
import {
  bytesAt,
  curve,
  plansOf,
  type Settings,
  type TrainedVariant,
  trainVariant,
  type Variant,
} from "./train-variant.ts";
import { densityAtWorth, worthOf } from "./variants.ts";
import type { Workbench } from "./workbench.ts";

/** What all variants are compared with: the predictor that `prepare` would train at this rank. */
export interface Baseline {
  readonly settings: Settings;
  /** Densities at which curves are drawn, over the baseline's. */
  readonly scales: readonly number[];
  readonly trained: TrainedVariant;
  readonly densities: readonly number[];
  readonly outcomes: readonly Outcome[];
}

export const densitiesAt = ({ densities }: Baseline, scale: number) =>
  densities.map((d) => Math.min(1, d * scale));

export function curveRow(name: string, outcomes: readonly Outcome[], baseline: Baseline): string[] {
  const reference = baseline.outcomes[baseline.scales.indexOf(1)]!;
  const points = outcomes.map(({ kl, bytes }) => `${kl.toFixed(4)} (${share(bytes)})`);
  const bytes = bytesAt(outcomes, reference.kl);
  return [name, ...points, Number.isNaN(bytes) ? "outside" : share(bytes)];
}

export const curveHeader = ({ scales }: Baseline) => [
  "predictor",
  ...scales.map((s) => `KL (MLP bytes) at ${s} × density`),
  "bytes at the baseline's KL",
];

/** Density per layer at the wanted recall, then the curve, of each variant. */
export async function compare(
  bench: Workbench,
  baseline: Baseline,
  title: string,
  variants: readonly Variant[],
) {
  const curves: string[][] = [curveRow("baseline", baseline.outcomes, baseline)];
  const points: string[][] = [await pointRow(bench, baseline.trained)];
  for (const variant of variants) {
    const trained = await trainVariant(bench, variant, baseline.settings);
    points.push(await pointRow(bench, trained));
    if (variant.tap === "residual-before-attention") continue;
    const outcomes = await curve(bench, baseline.scales, (scale) =>
      plansOf(trained, densitiesAt(baseline, scale)),
    );
    curves.push(curveRow(variant.name, outcomes, baseline));
  }
  printTable(title, await pointHeader(bench), points);
  printTable("", curveHeader(baseline), curves);
}

export const pointHeader = async ({ layers }: Workbench) => [
  "predictor",
  ...layers.map((l) => `layer ${l}: density at 94 % recall (MLP bytes); at 99 % of the worth`),
  "seconds",
];

export async function pointRow(
  bench: Workbench,
  { variant, layers }: TrainedVariant,
  bytesOf = halfBytes,
): Promise<string[]> {
  const { perNeuron, perActive } = bench.engine.model.weightBytes;
  const cells: string[] = [];
  for (const { layer, point, logits, rows, parameters } of layers) {
    const atWorth = densityAtWorth(logits, rows, await worthOf(bench, layer), 0.99);
    const chosen = point.density * rows.units * (perNeuron + point.precision * perActive);
    const bytes = (bytesOf(parameters) + chosen) / (rows.units * (perNeuron + perActive));
    cells.push(`${share(point.density)} (${share(bytes)}); ${share(atWorth)}`);
  }
  return [variant.name, ...cells, layers.reduce((sum, l) => sum + l.seconds, 0).toFixed(1)];
}
