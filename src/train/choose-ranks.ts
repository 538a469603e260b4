/**
 * Which of its predictors each layer gets (decision 5): where the cheapest path through all ways to run all layers, whatever
 * their ranks, reaches the budget, each layer stands on a rung of some rank. That one it keeps.
 */
import type { UnitKind } from "../sparsity/selector.ts";
import { type Prepared, type PreparedLayer, uncut } from "./prepared-layer.ts";
import type { MeasuredLadder } from "./search.ts";
import { additiveLoss, tradeOffPath } from "./trade-off.ts";

/** A layer with another of its predictors, or, where it has no more, with none. */
function withPredictor(layer: PreparedLayer, number: number): PreparedLayer {
  if (number === 0) return { ...layer, alternatives: [] };
  return { ...layer, parameters: null, ...uncut, ...layer.alternatives[number - 1] };
}

/** The same layers with the first of their predictors, with the second, and so on; heads with the first set only. */
export function rankVariants({ heads, neurons }: Prepared): Prepared[] {
  const count = 1 + Math.max(...neurons.map(({ alternatives }) => alternatives.length));
  return Array.from({ length: count }, (_, number) => ({
    heads: heads.map((layer) => withPredictor(layer, number)),
    neurons: neurons.map((layer) => withPredictor(layer, number)),
  }));
}

type PerUnit<T> = Readonly<Record<UnitKind, readonly T[]>>;

export interface ChosenRanks {
  /** As measured with the predictors chosen. */
  readonly ladders: readonly MeasuredLadder[];
  /** Of something that there is for each variant, what belongs to the predictor chosen for each layer. */
  pick<T>(variants: readonly PerUnit<T>[]): PerUnit<T>;
}

/**
 * @param variants the same ladders, as measured with each set of predictors
 * @param loss in nats, that the policy may cost
 */
export function chooseRanks(variants: readonly (readonly MeasuredLadder[])[], loss: number): ChosenRanks {
  const [first = []] = variants;
  const rungs = first.map((_, i) =>
    variants.flatMap((ladders, variant) => ladders[i]!.rungs.map((rung) => ({ ...rung, variant }))),
  );
  const stop = tradeOffPath(rungs).findLast((one) => additiveLoss(rungs, one) <= loss)!;
  const numbers = stop.map((rung, i) => rungs[i]![rung]!.variant);
  const layersOf = <T>(all: readonly PerUnit<T>[], unit: UnitKind): T[] =>
    first.flatMap((ladder, i) => (ladder.unit === unit ? [all[numbers[i]!]![unit][ladder.layer]!] : []));
  return {
    ladders: numbers.map((variant, i) => variants[variant]![i]!),
    pick: (all) => ({ heads: layersOf(all, "heads"), neurons: layersOf(all, "neurons") }),
  };
}
