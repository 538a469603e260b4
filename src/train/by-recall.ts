/** Decides how much to compute by the recall of each layer's neurons and the divergence of each layer's heads. */
import type { Engine } from "../load.ts";
import type { Policy } from "../sparsity/policy.ts";
import { calibrateHeads, type HeadCalibration } from "./calibrate-heads.ts";
import type { Decided, Decision, Progress } from "./decided.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import { type Prepared, type PreparedLayer, predictorOnDevice } from "./prepared-layer.ts";
import { Trials } from "./trials.ts";

/** Documents that the loss is measured on, for heads and for the perplexity that the bundle states. */
const checkDocuments = 24;

const policyOf = (prepared: Prepared, heads: HeadCalibration): Policy => ({
  attention: "dense-kv",
  heads: [...heads.policy],
  neurons: prepared.neurons.map((layer) =>
    layer.parameters === null ? { kind: "dense" } : { kind: "threshold", threshold: layer.point.threshold },
  ),
});

function layersOf(prepared: Prepared, heads: HeadCalibration): Omit<Decided["calibration"], "perplexity"> {
  const rank = (layer: PreparedLayer) => layer.parameters?.rank ?? 0;
  return {
    heads: prepared.heads.map((layer, l) => {
      const policy = heads.policy[l]!;
      const density = policy.kind === "topK" ? policy.k / layer.units : 1;
      return { rank: rank(layer), density, recall: heads.recall[l]!, precision: heads.recall[l]! };
    }),
    neurons: prepared.neurons.map((layer) => {
      const { density, recall, precision } = layer.point;
      return { rank: rank(layer), density, recall, precision };
    }),
  };
}

/** @param heldOut held-out documents */
export async function decideByRecall(
  engine: Engine,
  prepared: Prepared,
  heldOut: readonly Int32Array[],
  options: ResolvedPrepareOptions,
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<Decision> {
  const documents = heldOut.slice(0, checkDocuments);
  const device = predictorOnDevice(engine.kernels, prepared);
  const trials = new Trials(engine, device.predictors, signal);
  try {
    const onLayer = (done: number, total: number) => onProgress("heads", done, total);
    const { headTolerance } = options;
    const predictable = prepared.heads.map(({ parameters }) => parameters !== null);
    const { shape } = engine.model;
    const heads = await calibrateHeads(shape, trials, predictable, documents, headTolerance, onLayer);
    const policy = policyOf(prepared, heads);
    const { score } = await trials.run(policy, documents, (share) => onProgress("check", share, 1));
    const perplexity = { dense: score.densePerplexity, predicted: score.perplexity };
    const calibration = { ...layersOf(prepared, heads), perplexity };
    return { prepared, policy, calibration, curve: [], search: null };
  } finally {
    trials.dispose();
    device.dispose();
  }
}
