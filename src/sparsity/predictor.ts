/**
 * Deja Vu's predictor (Liu et al. 2023, section 4): a low-rank linear classifier that says which units will matter. Or
 * ShadowLLM's (Akhauri et al. 2024): one for all blocks, with a ReLU between, whose hidden layer is computed once a forward.
 */
import type { Activation, Kernels } from "../kernels/contract.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import { byteLength, type Tensor } from "../tensor/tensor.ts";
import type { BlockView, PredictorSource, Scorer, UnitKind } from "./selector.ts";

/** `per-layer`: one for each layer and kind of unit; `shadow`: one for all layers, for each kind of unit. */
export const predictorKinds = ["per-layer", "shadow"] as const;
export type PredictorKind = (typeof predictorKinds)[number];

/**
 * logits = up · (down · source) + bias. No activation between, but for `first-block`, where there is a ReLU. Where the
 * rank would reach the number of units the factors would cost more than their product, so `down` is null and `up` reads
 * the source itself.
 */
export interface Predictor {
  readonly source: PredictorSource;
  readonly down: Tensor | null; // float [rank, hidden_size]; with `first-block` the same tensor in all layers
  /** Float [rank, units]: long rows are read faster than many short ones. Without `down`, [units, hidden_size]. */
  readonly up: Tensor;
  readonly bias: Tensor; // f32 [units]
}

/** Per layer; null where the layer is always dense. */
export type Predictors = Readonly<Record<UnitKind, readonly (Predictor | null)[]>>;

/**
 * The format of a predictor's matrices where `dtype` is asked for. Four bits cost two factors nothing that shows, but a lone
 * matrix, which picks few heads, is worth eight (decision 11).
 */
export const predictorDtype = <T extends WeightDtype | undefined>(dtype: T, hasDown: boolean): T | "int8" =>
  dtype === "int4" && !hasDown ? "int8" : dtype;

/** How many units a predictor scores. */
export const unitsOf = ({ bias }: Predictor): number => bias.shape[0]!;

/** What stands between the two products of a predictor. */
export const activationBetween = (source: PredictorSource): Activation =>
  source === "first-block" ? "relu" : "none";

/** Bytes of weights that one use of each predictor reads; what several have in common is read once. */
export function predictorBytes(predictors: readonly (Predictor | null)[]): number {
  const tensors = new Set(predictors.flatMap((one) => (one ? [one.down, one.up, one.bias] : [])));
  return [...tensors].reduce((sum, tensor) => sum + (tensor ? byteLength(tensor) : 0), 0);
}

/** Scores units by their predictors' logits. The predictors stay the caller's; scratch memory is the scorer's own. */
export function predictedScorer(kernels: Kernels, predictors: Predictors, maxRows: number): Scorer {
  const scratch = new Map<string, Tensor>();
  const buffer = (use: string, width: number): Tensor => {
    const key = `${use} ${width}`;
    let tensor = scratch.get(key);
    if (tensor === undefined) {
      tensor = kernels.allocate("f32", [maxRows, width]);
      scratch.set(key, tensor);
    }
    return tensor;
  };
  type Step = Predictor & {
    readonly hidden: Tensor | null;
    readonly logits: Tensor;
    readonly zeros: Tensor | null; // f32 [maxRows, units]: an op for all rows, where ops are forked
  };
  const prepare = (unit: UnitKind) =>
    predictors[unit].map(
      (predictor): Step | null =>
        predictor && {
          ...predictor,
          hidden: predictor.down && buffer(`${unit} hidden`, predictor.down.shape[0]!),
          logits: buffer("logits", unitsOf(predictor)),
          zeros: predictor.down && buffer("zeros", unitsOf(predictor)),
        },
    );
  const steps = { heads: prepare("heads"), neurons: prepare("neurons") };
  const reader = [...predictors.heads, ...predictors.neurons].find((one) => one?.source === "first-block");
  const firstBlock = reader?.down ? buffer("first-block", reader.down.shape[1]!) : null;
  /** Hidden layers that this forward has computed from `firstBlock`; they serve all later blocks. */
  const known = new Set<Tensor>();

  const stepOf = (unit: UnitKind, layer: number): Step => {
    const step = steps[unit][layer];
    if (!step) throw new Error(`layer ${layer} has no predictor for ${unit}`);
    return step;
  };
  const inputOf = (source: PredictorSource, block: BlockView): Tensor =>
    source === "first-block" ? firstBlock! : block.source(source);
  const reduce = ({ hidden, down, source }: Step, block: BlockView) => {
    if (hidden === null || down === null || known.has(hidden)) return;
    const between = activationBetween(source);
    kernels.product(hidden, 0, inputOf(source, block), down, null, between, null, 1, block.rows);
    if (source === "first-block") known.add(hidden);
  };
  /** What `expand` adds to. */
  const clear = ({ logits, zeros }: Step, { rows }: BlockView) => {
    if (zeros !== null) kernels.copyRows(logits, 0, zeros, 0, rows);
  };
  const expand = ({ hidden, up, bias, logits, source }: Step, block: BlockView) => {
    if (hidden !== null) kernels.accumulate(logits, hidden, up, bias, null, 1, block.rows);
    else kernels.product(logits, 0, inputOf(source, block), up, bias, "none", null, 1, block.rows);
  };
  const looksAhead = (layer: number) => {
    const { source } = stepOf("neurons", layer);
    return source === "first-block" ? layer > 0 : source !== "mlp-input";
  };

  return {
    repeats: true,
    scores(unit: UnitKind, block: BlockView): Tensor {
      const step = stepOf(unit, block.layer);
      if (unit === "neurons" && looksAhead(block.layer)) return step.logits;
      reduce(step, block);
      clear(step, block);
      expand(step, block);
      return step.logits;
    },
    looksAhead,
    ahead(block, step) {
      const neurons = stepOf("neurons", block.layer);
      if (step === "attention") return expand(neurons, block);
      reduce(neurons, block);
      clear(neurons, block);
    },
    beforeMlp(block) {
      if (firstBlock === null || block.layer > 0) return;
      kernels.copyRows(firstBlock, 0, block.source("mlp-input"), 0, block.rows);
      kernels.mark("predictor");
      known.clear();
    },
    bytes: (unit, layers) => predictorBytes(layers.map((layer) => predictors[unit][layer] ?? null)),
    dispose() {
      for (const tensor of scratch.values()) kernels.free(tensor);
    },
  };
}
