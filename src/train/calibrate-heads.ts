/**
 * How many heads a layer can spare. Recall says little here: every head writes something, and only the output tells
 * whether it mattered. So heads are taken away one at a time, in one layer at a time, while the divergence from the
 * dense model on held-out documents stays within a tolerance. Divergence, not perplexity: leaving a head out may raise
 * the likelihood by chance, and still makes another model (decision 4).
 */
import { score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import { blockRows } from "../models/feed.ts";
import type { LayerPolicy, Policy } from "../sparsity/policy.ts";
import { type Predictors, predictedScorer } from "../sparsity/predictor.ts";
import { ScoredSelector } from "../sparsity/selector.ts";

const dense: LayerPolicy = { kind: "dense" };

export interface HeadCalibration {
  readonly policy: readonly LayerPolicy[];
  /** Recall of the chosen heads per layer against as many of the largest norms; 1 where all are computed. */
  readonly recall: readonly number[];
}

/** Recall of the one layer that computes k heads, from that of all layers: the others are dense, with recall 1 each. */
export const recallOfOne = (recall: number, layers: number, heads: number, k: number): number =>
  (recall * ((layers - 1) * heads + k) - (layers - 1) * heads) / k;

/**
 * @param documents held-out documents
 * @param tolerance KL to the dense model, in nats per id, that one layer's heads may cause
 */
export async function calibrateHeads(
  engine: Engine,
  predictors: Predictors,
  documents: readonly Int32Array[],
  tolerance: number,
  onLayer: (done: number, total: number) => void,
  signal?: AbortSignal,
): Promise<HeadCalibration> {
  const { layers, heads } = engine.model.shape;
  const policy: LayerPolicy[] = Array(layers).fill(dense);
  const recall: number[] = Array(layers).fill(1);
  for (let layer = 0; layer < layers; layer++) {
    for (let k = heads - 1; k >= 1 && predictors.heads[layer]; k--) {
      const trial: Policy = {
        attention: "dense-kv",
        heads: policy.map((_, l) => (l === layer ? { kind: "topK", k } : dense)),
        neurons: Array(layers).fill(dense),
      };
      const scorer = predictedScorer(engine.kernels, predictors, blockRows);
      const selector = new ScoredSelector("predicted", engine.kernels, scorer, trial);
      const result = await score(engine, documents, selector, { signal }).finally(() => selector.dispose());
      if (result.kl > tolerance) break;
      policy[layer] = { kind: "topK", k };
      recall[layer] = recallOfOne(result.heads.recall, layers, heads, k);
    }
    onLayer(layer + 1, layers);
  }
  return { policy, recall };
}
