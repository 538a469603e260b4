/** Which layer to make sparser next: a knapsack with several choices per item, and the path of its best solutions. */
import { lossAgainstBudget } from "../sparsity/curve.ts";

/** One way to run one kind of unit in one layer. */
export interface Choice {
  /** Bytes that a token reads. */
  readonly bytes: number;
  /** What it costs in quality, all else dense; 0 for dense. */
  readonly loss: number;
}

interface Step {
  readonly group: number;
  readonly choice: number;
  /** Bytes saved per loss spent. */
  readonly rate: number;
}

/** Steps from the group's first choice down its lower convex hull: each saves the most bytes per loss from where it starts. */
function hullSteps(group: number, choices: readonly Choice[]): Step[] {
  const steps: Step[] = [];
  let at = 0;
  for (;;) {
    const from = choices[at]!;
    let best: Step | null = null;
    for (const [choice, { bytes, loss }] of choices.entries()) {
      if (bytes >= from.bytes) continue;
      const rate = (from.bytes - bytes) / Math.max(0, loss - from.loss);
      const isBetter =
        best === null || rate > best.rate || (rate === best.rate && bytes < choices[best.choice]!.bytes);
      if (isBetter) best = { group, choice, rate };
    }
    if (best === null) return steps;
    steps.push(best);
    at = best.choice;
  }
}

/**
 * All groups start at their first choice, the dense one; then, one step at a time, the one that saves most bytes per loss.
 * If losses add up, no other set of choices reads fewer bytes at the loss of any stop of the path.
 * @returns per stop, the number of the choice of each group
 */
export function tradeOffPath(groups: readonly (readonly Choice[])[]): number[][] {
  const steps = groups.flatMap((choices, group) => hullSteps(group, choices));
  // Not a difference: two rates may be infinite. The sort is stable, so equal steps keep the order of the layers.
  steps.sort((a, b) => (a.rate === b.rate ? 0 : a.rate > b.rate ? -1 : 1));
  const path = [groups.map(() => 0)];
  for (const { group, choice } of steps) {
    const stop = path.at(-1)!.slice();
    stop[group] = choice;
    path.push(stop);
  }
  return path;
}

/** Loss of a stop, if losses add up. */
export const additiveLoss = (groups: readonly (readonly Choice[])[], stop: readonly number[]): number =>
  stop.reduce((sum, choice, group) => sum + groups[group]![choice]!.loss, 0);

/**
 * Stops to measure: the last one within each of a series of losses that grow by `ratio` from `least` on.
 * @param losses of all stops, ascending; the first, dense, is never taken
 */
export function spacedStops(losses: readonly number[], least: number, ratio: number): number[] {
  const stops: number[] = [];
  for (let limit = least; ; limit *= ratio) {
    const stop = losses.findLastIndex((loss) => loss <= limit);
    if (stop > 0 && stop !== stops.at(-1)) stops.push(stop);
    if (stop === losses.length - 1 || limit === Number.POSITIVE_INFINITY) return stops;
  }
}

/**
 * The last index whose loss is within the budget, by halving; losses are taken to grow along the path.
 * @param within an index known to be within it, or one before the first
 * @param beyond an index known to be beyond it
 */
export async function lastWithin(
  within: number,
  beyond: number,
  budget: number,
  lossAt: (index: number) => Promise<number>,
): Promise<number> {
  let [low, high] = [within, beyond];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if ((await lossAt(middle)) <= budget) low = middle;
    else high = middle;
  }
  return low;
}

export interface Measured {
  readonly bytesPerToken: number;
  readonly calibrated: { readonly perplexityIncrease: number; readonly kl: number };
  readonly reported: { readonly perplexityIncrease: number; readonly kl: number };
}

/**
 * The stops worth keeping, with the quality that each may claim: no better than on either half, than a denser stop, or
 * than dense. A sparser model that is likelier by luck does not become a better one by it (decision 4).
 * @param stops dense end first
 */
export function claimQualities<T extends Measured>(stops: readonly T[]): (T & { quality: number })[] {
  let quality = 0;
  let fewest = Number.POSITIVE_INFINITY;
  const kept: (T & { quality: number })[] = [];
  for (const stop of stops) {
    const { calibrated, reported, bytesPerToken } = stop;
    quality = Math.max(quality, lossAgainstBudget(calibrated), lossAgainstBudget(reported));
    if (bytesPerToken >= fewest) continue;
    fewest = bytesPerToken;
    if (kept.at(-1)?.quality === quality) kept.pop();
    kept.push({ ...stop, quality });
  }
  return kept;
}
