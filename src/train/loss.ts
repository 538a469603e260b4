/**
 * Deja Vu's loss: binary cross-entropy per unit, weighted y·(1 − w) + w, where w is the share of positives in the batch
 * (FMInference/DejaVu, sparse_predictor: + 0.005 for neurons). Negatives are cheap where positives are rare, so
 * training leans towards recall.
 */

import type { Rows } from "./rows.ts";

/** Weight of the negatives' terms: the share of positives plus `floor`, at most 1. Positives weigh 1. */
export function negativeWeight(active: Uint8Array, floor: number): number {
  let positives = 0;
  for (const mark of active) positives += mark;
  return Math.min(1, positives / active.length + floor);
}

/**
 * Replaces logits by the gradient of the mean loss.
 * @param logits [rows · units]; overwritten with dLoss/dlogits
 * @param active same layout: 1 where the unit belongs to the true set
 * @param floor added to the share of positives
 */
export function lossGradient(logits: Float32Array, active: Uint8Array, floor: number): void {
  const scale = 1 / logits.length;
  const negativeScale = negativeWeight(active, floor) * scale;
  for (let i = 0; i < logits.length; i++) {
    const sigmoid = 1 / (1 + Math.exp(-logits[i]!));
    logits[i] = active[i] === 1 ? (sigmoid - 1) * scale : sigmoid * negativeScale;
  }
}

/** The gradient of the mean squared difference from what the units were worth, for networks that learn worths. */
export const squareLoss =
  ({ units, value }: Rows) =>
  (logits: Float32Array, _batch: unknown, numbers: Int32Array): void => {
    const scale = 2 / logits.length;
    for (const [at, row] of numbers.entries())
      for (let u = 0; u < units; u++) {
        const i = at * units + u;
        logits[i] = scale * (logits[i]! - value(row, u));
      }
  };
