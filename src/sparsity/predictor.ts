/** Deja Vu's predictor (Liu et al. 2023, section 4): a low-rank linear classifier that says which units will matter. */
import type { Kernels } from "../kernels/contract.ts";
import { byteLength, type Tensor } from "../tensor/tensor.ts";
import type { BlockView, Scorer, Source, UnitKind } from "./selector.ts";

/**
 * logits = up · (down · source) + bias. No activation between. Where the rank would reach the number of units the
 * factors would cost more than their product, so `down` is null and `up` reads the source itself.
 */
export interface Predictor {
  readonly source: Source;
  readonly down: Tensor | null; // float [rank, hidden_size]
  readonly up: Tensor; // float [units, rank], or [units, hidden_size] without `down`
  readonly bias: Tensor; // f32 [units]
}

/** Per layer; null where the layer is always dense. */
export type Predictors = Readonly<Record<UnitKind, readonly (Predictor | null)[]>>;

/** Bytes of weights that one use of the predictor reads. */
export function predictorBytes(predictor: Predictor): number {
  const { down, up, bias } = predictor;
  return (down ? byteLength(down) : 0) + byteLength(up) + byteLength(bias);
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
  type Step = Predictor & { readonly hidden: Tensor | null; readonly logits: Tensor };
  const prepare = (predictor: Predictor | null): Step | null =>
    predictor && {
      ...predictor,
      hidden: predictor.down && buffer("hidden", predictor.down.shape[0]!),
      logits: buffer("logits", predictor.up.shape[0]!),
    };
  const steps = { heads: predictors.heads.map(prepare), neurons: predictors.neurons.map(prepare) };

  const stepOf = (unit: UnitKind, layer: number): Step => {
    const step = steps[unit][layer];
    if (!step) throw new Error(`layer ${layer} has no predictor for ${unit}`);
    return step;
  };
  const reduce = ({ hidden, down, source }: Step, block: BlockView) => {
    if (hidden === null || down === null) return;
    kernels.product(hidden, 0, block.source(source), down, null, "none", null, 1, block.rows);
  };
  const expand = ({ hidden, up, bias, logits, source }: Step, block: BlockView) => {
    const input = hidden ?? block.source(source);
    kernels.product(logits, 0, input, up, bias, "none", null, 1, block.rows);
  };
  const looksAhead = (layer: number) => stepOf("neurons", layer).source !== "mlp-input";

  return {
    scores(unit: UnitKind, block: BlockView): Tensor {
      const step = stepOf(unit, block.layer);
      if (unit === "neurons" && looksAhead(block.layer)) return step.logits;
      reduce(step, block);
      expand(step, block);
      return step.logits;
    },
    looksAhead,
    ahead(block, step) {
      (step === "projections" ? reduce : expand)(stepOf("neurons", block.layer), block);
    },
    bytes(unit, layer) {
      const predictor = predictors[unit][layer];
      return predictor ? predictorBytes(predictor) : 0;
    },
    dispose() {
      for (const tensor of scratch.values()) kernels.free(tensor);
    },
  };
}
