/** Where to cut a predictor's logits so that it reaches a wanted recall, and what that costs. */

export interface OperatingPoint {
  /** Units with a logit above this are computed. */
  readonly threshold: number;
  /** Share of all units that are computed. */
  readonly density: number;
  readonly recall: number;
  readonly precision: number;
}

/**
 * The highest threshold whose recall, over all rows together, is at least `recall`.
 * @param logits [rows · units], finite
 * @param active same layout: 1 where the unit belongs to the true set
 */
export function operatingPoint(logits: Float32Array, active: Uint8Array, recall: number): OperatingPoint {
  let positives = 0;
  for (const mark of active) positives += mark;
  if (positives === 0) return { threshold: 0, density: 0, recall: 1, precision: 1 };
  const hits = new Float32Array(positives);
  let at = 0;
  for (let i = 0; i < logits.length; i++) if (active[i] === 1) hits[at++] = logits[i]!;
  hits.sort();
  // With strictly-above selection the threshold goes just below the lowest logit that must be kept.
  // The product may come out a little above a whole number, and then one too many would be kept.
  let kept = Math.max(1, Math.ceil(recall * positives) - 1);
  while (kept / positives < recall) kept++;
  const lowestKept = hits[positives - kept]!;
  const threshold = nextBelow(lowestKept);
  let [chosen, caught] = [0, 0];
  for (let i = 0; i < logits.length; i++)
    if (logits[i]! > threshold) {
      chosen++;
      caught += active[i]!;
    }
  return {
    threshold,
    density: chosen / logits.length,
    recall: caught / positives,
    precision: chosen > 0 ? caught / chosen : 1,
  };
}

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** The largest float32 below a finite `value`. */
export function nextBelow(value: number): number {
  float[0] = value;
  if (float[0] === 0) return -1.401298464324817e-45;
  bits[0]! += float[0]! > 0 ? -1 : 1;
  return float[0]!;
}
