import type { Scorer } from "./selector.ts";

/**
 * Scores units by what they really are worth, computed the expensive way: the activation of a neuron, the output norm
 * of a head. With threshold 0 it yields the true neuron set; the upper bound of what any predictor can reach.
 */
export const oracleScorer: Scorer = {
  repeats: true,
  scores: (unit, block) => (unit === "heads" ? block.headNorms() : block.activations()),
  bytes: () => 0,
  dispose() {},
};
