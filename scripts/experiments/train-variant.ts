/** Trains a variant in every layer of the bench, and cuts it for the forward. */
import { createRng } from "../../src/sampling/rng.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { type OperatingPoint, operatingPoint } from "../../src/train/operating-point.ts";
import type { Rows } from "../../src/train/rows.ts";
import { heldOutLogits, type TrainOptions, trainEpochs } from "../../src/train/train-predictor.ts";
import { halfBytes, type Outcome, type Plan, run } from "./forward.ts";
import { type Start, startOf, thresholdFor, type Worth, worthOf } from "./variants.ts";
import type { Tap, Workbench } from "./workbench.ts";

export interface Variant {
  readonly name: string;
  readonly tap?: Tap;
  readonly start?: Start;
  readonly rank?: number;
  readonly between?: "relu";
  readonly floor?: number;
  readonly loss?: (worth: Worth) => NonNullable<TrainOptions["loss"]>;
}

export interface TrainedLayer {
  readonly layer: number;
  readonly rows: Rows;
  readonly parameters: Parameters;
  readonly logits: Float32Array; // of held-out rows
  readonly active: Uint8Array;
  readonly point: OperatingPoint;
  readonly seconds: number;
}

export interface TrainedVariant {
  readonly variant: Variant;
  readonly layers: readonly TrainedLayer[];
}

export interface Settings {
  readonly rank: number;
  readonly epochs: number;
  readonly recall: number;
}

/** Rank, epochs and recall of the baseline where the command line says nothing. */
export const defaults: Settings = { rank: 32, epochs: 6, recall: 0.94 };

export async function trainVariant(
  bench: Workbench,
  variant: Variant,
  settings: Settings,
): Promise<TrainedVariant> {
  const layers: TrainedLayer[] = [];
  for (const layer of bench.layers) {
    const { tap = "mlp-input", start = "fc1", rank = settings.rank, between = "none" } = variant;
    const rows = await bench.rows(layer, tap);
    const began = performance.now();
    const initial = await startOf(bench, rows, layer, rank, start);
    // To the last epoch, not to the one with the best recall: that would favour the loss that aims at recall.
    const options: TrainOptions = {
      epochs: settings.epochs,
      batchSize: 256,
      learningRate: 3e-3,
      weightDecay: 0.01,
      lossFloor: variant.floor ?? 0.005,
      between,
      ...(variant.loss && { loss: variant.loss(await worthOf(bench, layer)) }),
    };
    const { kernels } = bench.engine;
    const rng = createRng(2);
    const parameters = await trainEpochs(
      kernels,
      rows,
      initial,
      options,
      (n) => rng.nextInt(n),
      () => {},
    );
    const seconds = (performance.now() - began) / 1000;
    layers.push(await withLogits(bench, { layer, rows, parameters, seconds }, variant, settings.recall));
  }
  return { variant, layers };
}

/** Adds what held-out rows say of the parameters. */
export async function withLogits(
  bench: Workbench,
  made: Omit<TrainedLayer, "logits" | "active" | "point">,
  variant: Variant,
  recall: number,
): Promise<TrainedLayer> {
  const { logits, active } = await heldOutLogits(
    bench.engine.kernels,
    made.rows,
    made.parameters,
    variant.between,
  );
  return { ...made, logits, active, point: operatingPoint(logits, active, recall) };
}

/** Plans that compute the share `densities[i]` of the i-th layer's neurons, on average or in every token. */
export function plansOf(
  { variant, layers }: TrainedVariant,
  densities: readonly number[],
  cut: "threshold" | "topK" = "threshold",
  bytesOf: (parameters: Parameters) => number = halfBytes,
): Plan[] {
  return layers.map(({ layer, parameters, logits, rows }, i) => ({
    layer,
    tap: variant.tap ?? "mlp-input",
    between: variant.between ?? "none",
    parameters,
    policy:
      cut === "threshold"
        ? { kind: "threshold", threshold: thresholdFor(logits, densities[i]!) }
        : { kind: "topK", k: Math.max(1, Math.round(densities[i]! * rows.units)) },
    bytes: bytesOf(parameters),
  }));
}

/** @param scales densities tried, over those that the baseline needs for the wanted recall */
export async function curve(
  bench: Workbench,
  scales: readonly number[],
  planAt: (scale: number) => Plan[],
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const scale of scales) outcomes.push(await run(bench, planAt(scale)));
  return outcomes;
}

/** MLP bytes at which a curve reaches a divergence, its logarithm interpolated linearly; NaN outside the curve. */
export function bytesAt(outcomes: readonly Outcome[], kl: number): number {
  for (let i = 1; i < outcomes.length; i++) {
    const [a, b] = [outcomes[i - 1]!, outcomes[i]!];
    if (a.kl >= kl && b.kl <= kl) {
      const share = Math.log(a.kl / kl) / Math.log(a.kl / b.kl || 1);
      return a.bytes + (b.bytes - a.bytes) * (Number.isFinite(share) ? share : 0);
    }
  }
  return Number.NaN;
}
