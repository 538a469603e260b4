/**
 * Thresholds for sequences that decode together (decision 10). A batch computes the union of what its rows select, so a
 * row gets neurons that others asked for; the threshold rises until a row of the batch has no more of its true neurons
 * than one alone.
 */
import { createRng, type Rng } from "../sampling/rng.ts";
import type { Policy } from "../sparsity/policy.ts";
import type { PreparedLayer } from "./prepared-layer.ts";

/** Numbers of sequences with thresholds of their own. */
export const batchSizes: readonly number[] = [2, 4, 8, 16, 32, 64];
/** Batches drawn for each size. */
const draws = 64;

/** What calibration knows of one layer, on rows that training never saw. */
export interface Judged {
  readonly units: number;
  readonly rows: number;
  /** Predictor's logits [rows, units]. */
  readonly logits: Float32Array;
  /** 1 where the neuron was active [rows, units]. */
  readonly active: Uint8Array;
}

/** Logits of a neuron in some batch, the largest first, and how much of the mean recall each adds. */
interface Curve {
  readonly logits: Float32Array;
  readonly gains: Float64Array;
}

/** One neuron of one batch is selected when its largest logit exceeds the threshold, and serves all rows that need it. */
function drawCurve({ units, rows, logits, active }: Judged, size: number, rng: Rng): Curve {
  const largest = new Float32Array(draws * units).fill(Number.NEGATIVE_INFINITY);
  const gains = new Float64Array(draws * units);
  for (let draw = 0; draw < draws; draw++) {
    const at = draw * units;
    let needed = 0;
    for (let i = 0; i < size; i++) {
      const row = rng.nextInt(rows) * units;
      for (let u = 0; u < units; u++) {
        if (logits[row + u]! > largest[at + u]!) largest[at + u] = logits[row + u]!;
        gains[at + u]! += active[row + u]!;
        needed += active[row + u]!;
      }
    }
    for (let u = 0; u < units; u++) gains[at + u]! /= Math.max(1, needed) * draws;
  }
  const order = Uint32Array.from(largest, (_, i) => i).sort((a, b) => largest[b]! - largest[a]! || a - b);
  return {
    logits: Float32Array.from(order, (i) => largest[i]!),
    gains: Float64Array.from(order, (i) => gains[i]!),
  };
}

/** Recall of all whose logit exceeds the threshold. */
function recallAt({ logits, gains }: Curve, threshold: number): number {
  let recall = 0;
  for (let i = 0; i < logits.length && logits[i]! > threshold; i++) recall += gains[i]!;
  return recall;
}

/** The highest threshold at which the recall is at least that wanted. */
function thresholdFor({ logits, gains }: Curve, wanted: number): number {
  let recall = 0;
  for (let i = 0; i < logits.length; i++) {
    if (recall >= wanted) return logits[i]!;
    recall += gains[i]!;
  }
  return Number.NEGATIVE_INFINITY;
}

/** What each of a layer's thresholds becomes at each of `batchSizes`; never lower than alone. */
export function raiseThresholds(
  judged: Judged,
  thresholds: readonly number[],
): ReadonlyMap<number, readonly number[]> {
  const rng = createRng(0);
  const alone = drawCurve(judged, 1, rng);
  const curves = batchSizes.map((size) => drawCurve(judged, size, rng));
  return new Map(
    thresholds.map((threshold) => {
      const wanted = recallAt(alone, threshold);
      return [threshold, curves.map((curve) => Math.max(threshold, thresholdFor(curve, wanted)))];
    }),
  );
}

/** The policy with what its thresholds become in batches. */
export function withBatches(policy: Policy, neurons: readonly PreparedLayer[]): Policy {
  const raised = policy.neurons.map((layer, l) =>
    layer.kind === "threshold" ? neurons[l]!.raised.get(layer.threshold) : undefined,
  );
  if (raised.every((one) => one === undefined)) return policy;
  const batches = batchSizes.map((sequences, i) => ({
    sequences,
    neurons: raised.map((one) => one?.[i] ?? null),
  }));
  return { ...policy, batches };
}
