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

  return {
    scores(unit: UnitKind, block: BlockView): Tensor {
      const step = steps[unit][block.layer];
      if (!step) throw new Error(`layer ${block.layer} has no predictor for ${unit}`);
      let input = block.source(step.source);
      if (step.down !== null && step.hidden !== null) {
        kernels.product(step.hidden, 0, input, step.down, null, "none", null, 1, block.rows);
        input = step.hidden;
      }
      kernels.product(step.logits, 0, input, step.up, step.bias, "none", null, 1, block.rows);
      return step.logits;
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
