/**
 * How many heads a layer can spare. Recall says little here: every head writes something, and only the output tells
 * whether it mattered. So heads are taken away one at a time, in one layer at a time, while the divergence from the
 * dense model on held-out documents stays within a tolerance. Divergence, not perplexity: leaving a head out may raise
 * the likelihood by chance, and still makes another model (decision 4).
 */
import type { ModelShape } from "../models/model.ts";
import type { LayerPolicy, Policy } from "../sparsity/policy.ts";
import type { Trials } from "./trials.ts";

const dense: LayerPolicy = { kind: "dense" };

export interface HeadCalibration {
  readonly policy: readonly LayerPolicy[];
  /** Recall of the chosen heads per layer against as many of the largest norms; 1 where all are computed. */
  readonly recall: readonly number[];
}

/**
 * @param predictable whether there is a predictor of a layer's heads; the others keep all
 * @param documents held-out documents
 * @param tolerance KL to the dense model, in nats per id, that one layer's heads may cause
 */
export async function calibrateHeads(
  { layers, heads }: ModelShape,
  trials: Trials,
  predictable: readonly boolean[],
  documents: readonly Int32Array[],
  tolerance: number,
  onLayer: (done: number, total: number) => void,
): Promise<HeadCalibration> {
  const policy: LayerPolicy[] = Array(layers).fill(dense);
  const recall: number[] = Array(layers).fill(1);
  for (let layer = 0; layer < layers; layer++) {
    for (let k = heads - 1; k >= 1 && predictable[layer]; k--) {
      const trial: Policy = {
        attention: "dense-kv",
        heads: policy.map((_, l) => (l === layer ? { kind: "topK", k } : dense)),
        neurons: Array(layers).fill(dense),
      };
      const { kl, score } = await trials.run(trial, documents);
      if (kl > tolerance) break;
      policy[layer] = { kind: "topK", k };
      recall[layer] = score.layers[layer]!.heads.recall;
    }
    onLayer(layer + 1, layers);
  }
  return { policy, recall };
}
