/** Runs trained predictors through the real forward, in some layers, and measures what that does. */
import { score } from "../../src/eval/score.ts";
import type { Activation, Kernels } from "../../src/kernels/contract.ts";
import { blockRows } from "../../src/models/feed.ts";
import type { LayerPolicy } from "../../src/sparsity/policy.ts";
import { type BlockView, ScoredSelector, type Scorer, type UnitKind } from "../../src/sparsity/selector.ts";
import { fromFloat32 } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Parameters, parameterBytes } from "../../src/train/factors.ts";
import { residualOf } from "./observe.ts";
import type { Tap, Workbench } from "./workbench.ts";

/** A predictor of one layer's neurons, and where to cut its logits. */
export interface Plan {
  readonly layer: number;
  readonly tap: Tap;
  readonly between: Activation;
  readonly parameters: Parameters;
  readonly policy: LayerPolicy;
  /** Bytes that a use of it reads. */
  readonly bytes: number;
}

export interface Outcome {
  readonly kl: number;
  /** Perplexity over the dense model's, minus 1. */
  readonly increase: number;
  /** Of the layers that had a plan. */
  readonly density: number;
  readonly bytes: number; // MLP weights read, predictors included, over dense
}

type Ready = Plan & { down: Tensor | null; up: Tensor; bias: Tensor; hidden: Tensor | null; logits: Tensor };

/** Puts a predictor on the device, its matrices in half precision. */
function makeReady(kernels: Kernels, plan: Plan, owned: Tensor[]): Ready {
  const { rank, down, up, bias } = plan.parameters;
  const units = bias.length;
  const make = (dtype: "f32" | "f16", values: Float32Array | null, ...shape: number[]): Tensor => {
    const tensor = kernels.allocate(dtype, shape);
    if (values) kernels.write(tensor, fromFloat32(dtype, values));
    owned.push(tensor);
    return tensor;
  };
  return {
    ...plan,
    down: down && make("f16", down, rank, down.length / rank),
    up: make("f16", up, units, up.length / units),
    bias: make("f32", bias, units),
    hidden: down && make("f32", null, blockRows, rank),
    logits: make("f32", null, blockRows, units),
  };
}

/** As `predictedScorer`, but with a ReLU where the plan has one, and reading the residual stream where it says so. */
function planScorer(kernels: Kernels, plans: readonly Plan[]): Scorer {
  const owned: Tensor[] = [];
  const ready = new Map(plans.map((plan) => [plan.layer, makeReady(kernels, plan, owned)]));
  return {
    repeats: false,
    scores(_unit: UnitKind, block: BlockView): Tensor {
      const { tap, down, up, bias, hidden, logits, between } = ready.get(block.layer)!;
      // An MLP asks after its block's attention, so the residual before attention is gone by then.
      if (tap === "residual-before-attention") throw new Error(`${tap} cannot be run, only trained`);
      let input = tap === "residual-before-mlp" ? residualOf(block) : block.source(tap);
      if (down !== null && hidden !== null) {
        kernels.product(hidden, 0, input, down, null, between, null, 1, block.rows);
        input = hidden;
      }
      kernels.product(logits, 0, input, up, bias, "none", null, 1, block.rows);
      return logits;
    },
    bytes: (_unit, layers) => layers.reduce((sum, layer) => sum + (ready.get(layer)?.bytes ?? 0), 0),
    dispose() {
      for (const tensor of owned) kernels.free(tensor);
    },
  };
}

export const halfBytes = ({ rank, up, bias, down }: Parameters): number =>
  parameterBytes(rank, bias.length, down === null ? up.length / bias.length : down.length / rank);

/** Scores the check documents with the plans' layers sparse and all else dense. */
export async function run(bench: Workbench, plans: readonly Plan[]): Promise<Outcome> {
  const { engine } = bench;
  const { layers } = engine.model.shape;
  const dense: LayerPolicy = { kind: "dense" };
  const policies: LayerPolicy[] = Array(layers).fill(dense);
  for (const plan of plans) policies[plan.layer] = plan.policy;
  const selector = new ScoredSelector("predicted", engine.kernels, planScorer(engine.kernels, plans), {
    attention: "dense-kv",
    heads: Array(layers).fill(dense),
    neurons: policies,
  });
  try {
    const result = await score(engine, bench.check, selector);
    // All figures of the MLP are over all layers; those without a plan count as dense in each.
    const sparse = plans.length / layers;
    const ofPlans = (share: number) => (share - (1 - sparse)) / sparse;
    return {
      kl: result.kl,
      increase: result.perplexity / result.densePerplexity - 1,
      density: ofPlans(result.mlp.density),
      bytes: ofPlans(result.bytesPerToken.mlp.touched / result.bytesPerToken.mlp.dense),
    };
  } finally {
    selector.dispose();
  }
}
